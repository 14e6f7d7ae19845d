"""`nufed` in this process, which imports torch once for many commands."""

import logging
import os
import signal
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from nufed.cli import run
from nufed.cli.run import main
from tests.cli.test_command import Done

Ended = dict[str, tuple[Done, Path]]
TINY = [
    *("dataset=quadratics", "dataset.num_clients=6", "dataset.seed=1", "partition.seed=0"),
    *("evaluation.steps=1", "evaluation.every=100", "evaluation.new_clients=[5]"),
    *("algorithm.batch.support=null", "algorithm.batch.query=null", "engine.chunk_size=1"),
    *("tracking=none", "baselines=none", "report=false"),
]


def sweeps(commands: dict[str, list[str]], parent: Path) -> Ended:
    """Run commands; return what each printed, and the folder of its sweep."""
    path, on_sigterm = sys.path.copy(), signal.getsignal(signal.SIGTERM)
    found: Ended = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYDRA_FULL_ERROR", "0")  # set, so that what a command makes of it is undone
        run._prepare.cache_clear()  # it is set up once, as another test may have left it
        for name, words in commands.items():
            sweep = parent / name.replace(" ", "_")
            patch.setattr(sys, "argv", ["nufed", *words, f"hydra.sweep.dir={sweep}"])
            found[name] = (run_here(), sweep)
    sys.path[:] = path
    signal.signal(signal.SIGTERM, on_sigterm)
    return found


def run_here() -> Done:
    """Run the command that sys.argv says; what it logs is of no concern to what comes after."""
    log = logging.getLogger("nufed")
    handlers, level = log.handlers.copy(), log.level
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        kept = os.dup(1), os.dup(2)  # those of other processes too
        try:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            with (
                open(1, "w", closefd=False) as here_out,
                open(2, "w", closefd=False) as here_err,
                redirect_stdout(here_out),
                redirect_stderr(here_err),
                pytest.raises(SystemExit) as ended,
            ):
                main()
        finally:
            for fd, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, fd)
                os.close(copy)
            log.handlers = handlers
            log.setLevel(level)
        out.seek(0)
        err.seek(0)
        return Done(int(ended.value.code or 0), out.read(), err.read())
