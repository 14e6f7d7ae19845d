"""NuFed's and Flower's programs as typed, in processes of their own, without the imports' seconds.

Each is a fork of one process that has imported other people's libraries (tests/zygote.py), which
all tests of a session share. From there on it is the real thing: it imports our code from where it
runs, and has the folder, arguments, streams, signals and exit status that were meant. `make demo`,
the containers and the README's federation start the installed scripts.
"""

import fcntl
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, NamedTuple

from nufed.simulation.flower_command import free_ports
from tests import zygote
from tests.helpers import heed_interrupts

PROGRAMS = frozenset(zygote.programs())
SESSION = "NUFED_TEST_SESSION"  # the process that all of this session's tests end with
LIMIT_S = 900.0  # for what takes seconds on a quiet machine


class Done(NamedTuple):
    """What a finished process leaves."""

    status: int
    out: str
    err: str


@cache
def scripts() -> Path:
    """Return a folder like that of `.venv`'s programs; what they are forks of is started once."""
    session = int(os.environ.setdefault(SESSION, str(os.getpid())))
    folder = Path("/tmp", f"nufed-test-{os.getuid()}-{session}")  # short, as sockets' names must be
    folder.mkdir(mode=0o700, exist_ok=True)
    with (folder / "log").open("ab") as log:
        fcntl.flock(log, fcntl.LOCK_EX)  # several processes of pytest
        if not (folder / "ready").exists():
            _start(folder, session, log)
    return folder / "bin"


def _start(folder: Path, session: int, log: IO[bytes]) -> None:
    """Start what programs are forks of, and wait until it serves."""
    own = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    own |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # threads outlive no fork
    http, control = free_ports(2)  # of the SuperLink that `flwr run` starts
    own["FLWR_LOCAL_SUPERLINK_HTTP_API_PORT"] = str(http)
    own["FLWR_LOCAL_CONTROL_API_PORT"] = str(control)
    process = subprocess.Popen(
        [sys.executable, zygote.__file__, folder, str(session)],
        env=own,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n", (folder / "log").read_text()
    (folder / "ready").touch()


class Started:
    """A command that runs, and heeds Ctrl-C as in a terminal."""

    def __init__(
        self, words: Sequence[object], cwd: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.words = list(map(str, words))
        self.process = subprocess.Popen(
            [scripts() / self.words[0], *self.words[1:]],
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=heed_interrupts,
        )

    def done(self, timeout: float = LIMIT_S) -> Done:
        """Wait for its end; kill it and fail if that does not come."""
        try:
            out, err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            said = "\n".join(self.process.communicate())
            raise AssertionError(f"not within {timeout:.0f} s: {self.words}\n{said}") from None
        return Done(self.process.returncode, out, err)


def run(words: Sequence[object], cwd: Path, env: Mapping[str, str] | None = None) -> Done:
    """Carry out a command of ours or Flower's."""
    return Started(words, cwd, env).done()
