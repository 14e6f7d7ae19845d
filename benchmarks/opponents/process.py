"""An opponent in a process of its own."""

import json
import subprocess
import sys
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT
from benchmarks.opponents.found import Opponent
from benchmarks.opponents.work import Work

ENVIRONMENT = ROOT / ".venv-bench/bin/python"


class OpponentFailed(RuntimeError):
    """It ended before it answered; the text is the last line that it printed."""


class Process(AbstractContextManager["Process"]):
    """Carries out rounds when asked to, and ends on leaving.

    Parameters
    ----------
    opponent
        Who.
    work
        What.

    Raises
    ------
    OpponentFailed
        If it cannot.
    """

    def __init__(self, opponent: Opponent, work: Work) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="nufed-bench-")
        folder = Path(self._folder.name)
        work.write(folder)
        self._log = (folder / "log").open("w+")
        self._process = subprocess.Popen(
            [python(), "-m", "benchmarks.opponents.serve", opponent.__name__.rpartition(".")[2]],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        try:
            self.about: str = self._ask(str(folder))["about"]
        except BaseException:
            self.__exit__()
            raise
        """Its version, and how it goes about the work."""

    def round(self) -> float:
        """Carry out a round; return the CPU seconds it took."""
        return float(self._ask("")["cpu_s"])

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._log.close()
        self._folder.cleanup()

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(line, file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self._log.seek(0)
            raise OpponentFailed((self._log.read().strip().splitlines() or ["no output"])[-1])
        content: dict[str, Any] = json.loads(answer)
        return content


def python() -> str:
    """Return the Python that opponents are run by: that of .venv-bench, or this one."""
    return str(ENVIRONMENT) if ENVIRONMENT.exists() else sys.executable


def installed(opponent: Opponent) -> bool:
    """Tell whether what an opponent stands on is installed."""
    job = f"import importlib.metadata; importlib.metadata.version({opponent.NEEDS!r})"
    return subprocess.run([python(), "-c", job], capture_output=True).returncode == 0
