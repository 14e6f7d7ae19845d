"""Runs that print nothing, for programs that make many, also side by side."""

import contextlib
import io
import logging
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from pathlib import Path

import torch
from flwr.clientapp import ClientApp

from nufed.conf.convert import to_json
from nufed.conf.schema import Config


def train(config: Config, folder: Path, app: ClientApp | None = None, supernodes: int = 1) -> None:
    """Run a configuration, leaving its run folder.

    Parameters
    ----------
    config, folder
        What is run, and where it leaves what it leaves.
    app
        What the SuperNodes run; None for many clients at once, as engine=batched does.
    supernodes
        SuperNodes, all of them in this process.
    """
    from nufed.client_app.app import make_app
    from nufed.server_app.app import app as server_app
    from nufed.simulation.batched import Batched
    from nufed.simulation.grid import run_in_process

    run_config = {"config": to_json(config), "run-dir": str(folder), "report": False}
    log = logging.getLogger("nufed")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            made = app or make_app(Batched)
            run_in_process(server_app, made, run_config, num_supernodes=supernodes)
    finally:
        log.setLevel(level)  # this process may have more to do than run


def workers(processes: int) -> ProcessPoolExecutor:
    """Return processes of one thread each, as models are small; they end when this one does."""
    os.environ["OMP_NUM_THREADS"] = "1"
    return ProcessPoolExecutor(processes, get_context("spawn"), _prepare)


def _prepare() -> None:
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Leave nobody behind who would go on using a core after a parent that was killed."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
