"""NuFed's commands as typed, in processes of their own, without the seconds that imports take.

Each is a fork of one process that has imported what they need. From there on it is the real thing:
folder, arguments, streams, signals, exit status. Tests of federations and of `make demo` start the
installed scripts, which make the same calls.
"""

import atexit
import os
import signal
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SCRIPTS: Mapping[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
    "scripts"
]
_forks = get_context("forkserver")
_forks.set_forkserver_preload(
    [
        *("cli.run", "cli.engines.batched", "server_app.app", "server_app.report.run_page"),
        *("server_app.trackers.tensorboard", "theory.estimate", "tensorboard.summary.writer"),
    ]
)


class Done(NamedTuple):
    """What a finished process leaves."""

    status: int
    out: str
    err: str


class Started:
    """A command that runs."""

    def __init__(
        self, words: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.words = words
        self._streams = tempfile.TemporaryDirectory(prefix="nufed-test-streams-")
        self.out, self.err = (Path(self._streams.name) / name for name in ("out", "err"))
        given = dict(os.environ if env is None else env)
        arguments = list(map(str, words)), str(cwd), given, str(self.out), str(self.err)
        self.process: ForkServerProcess = _forks.Process(target=_become, args=arguments)
        self.process.start()

    def done(self, timeout: float = 300) -> Done:
        """Wait for its end; kill it and fail if that does not come."""
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.process.kill()
            raise AssertionError(f"not within {timeout:.0f} s: {' '.join(map(str, self.words))}")
        done = Done(self.process.exitcode, self.out.read_text(), self.err.read_text())
        self._streams.cleanup()
        return done


def run(words: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None) -> Done:
    """Carry out a command of ours."""
    return Started(words, cwd, env).done()


def _become(words: list[str], cwd: str, env: dict[str, str], out: str, err: str) -> None:
    """Be that command, and end as it does."""
    for stream, file in ((1, out), (2, err)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a terminal
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = list(words)
    module, _, function = SCRIPTS[words[0]].partition(":")
    try:
        getattr(__import__(module, fromlist=[function]), function)()
    finally:  # as at an interpreter's end, which multiprocessing leaves out
        atexit._run_exitfuncs()
