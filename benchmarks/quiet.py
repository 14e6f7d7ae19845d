"""A run in this process that prints nothing, for programs that make many."""

import contextlib
import io
import logging
from pathlib import Path

from flwr.clientapp import ClientApp

from conf.schema import Config, to_json


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
    from client_app.app import make_app
    from server_app.app import app as server_app
    from simulation.executor import Batched
    from simulation.grid import run_in_process

    run_config = {"config": to_json(config), "run-dir": str(folder)}
    logging.getLogger("nufed").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):
        run_in_process(server_app, app or make_app(Batched), run_config, num_supernodes=supernodes)
