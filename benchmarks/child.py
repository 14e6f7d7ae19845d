"""`nufed` in a process of its own: when its rounds end, what they take, what memory it held."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

_COMMAND = Path(sys.executable).parent / "nufed"
_POLL_S = 0.02
_TIMEOUT_S = 300.0


class ChildFailed(RuntimeError):
    """The command did not do what it was started for; the text is its last line."""


@dataclass(frozen=True)
class Run:
    """A finished run of `nufed`."""

    rows: list[dict[str, Any]]
    """metrics.jsonl."""
    first_round_s: float
    """From the command to the row of round 1."""
    cpu_s: float
    """CPU seconds of the process."""
    peak_rss_gb: float
    """The most memory that it held."""
    output: str

    def round_s(self) -> float:
        """Return the median time of a round; the first, which warms up, does not count."""
        return median(float(row["train_s"]) for row in self.rows if row["round"] > 1)

    def round_cpu_s(self) -> float:
        """Return the median CPU seconds of the clients' processes in a round, likewise."""
        return median(float(row["train_cpu_s"]) for row in self.rows if row["round"] > 1)


def nufed(
    overrides: Sequence[str],
    *,
    environment: dict[str, str] | None = None,
    interpreter: Sequence[str] = (),
) -> Run:
    """Run the command to its end.

    Parameters
    ----------
    overrides
        As one types them.
    environment
        Variables to set.
    interpreter
        Options of the Python interpreter.

    Raises
    ------
    ChildFailed
        If it fails, or takes longer than five minutes.
    """
    with tempfile.TemporaryDirectory(prefix="nufed-bench-") as name:
        folder = Path(name)
        metrics, log = folder / "run" / "metrics.jsonl", folder / "log"
        command = [sys.executable, *interpreter, str(_COMMAND), *overrides]
        with log.open("wb") as out:
            started = time.perf_counter()
            process = subprocess.Popen(
                [*command, f"hydra.run.dir={folder / 'run'}"],
                cwd=folder,
                env=os.environ | {"COLUMNS": "200"} | (environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
            try:
                first_round_s, cpu_s = _follow(process, metrics, started)
            finally:
                if process.returncode is None:  # too long, or Ctrl-C
                    process.terminate()
                    process.wait()
        output = log.read_text(errors="replace")
        if process.returncode != 0:
            last = (output.strip().splitlines() or ["no output"])[-1]
            raise ChildFailed(re.sub(r" \(log: .*\)$", "", last))  # the folder is gone with us
        summary = json.loads(metrics.with_name("summary.json").read_text())
        return Run(_rows(metrics), first_round_s, cpu_s, summary["peak_rss_mb"] / 1e3, output)


def imports_s(overrides: Sequence[str]) -> float:
    """Return the seconds that `nufed` spends on imports, wherever in the run they happen."""
    return imports_in(nufed(overrides, interpreter=("-X", "importtime")).output)


def imports_in(output: str) -> float:
    """Return the seconds of all modules themselves, as ``python -X importtime`` prints them."""
    # import time: self [us] | cumulative | imported package
    return sum(map(int, re.findall(r"import time:\s+(\d+) \|", output))) / 1e6


def _follow(
    process: "subprocess.Popen[bytes]", metrics: Path, started: float
) -> tuple[float, float]:
    """Wait for the end; return when the row of round 1 was there, and the CPU seconds used."""
    first_round_s = None
    while True:
        if first_round_s is None and len(_rows(metrics)) > 1:
            first_round_s = time.perf_counter() - started
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            cpu_s = usage.ru_utime + usage.ru_stime
            return first_round_s or time.perf_counter() - started, cpu_s
        if time.perf_counter() - started > _TIMEOUT_S:
            raise ChildFailed(f"not done after {_TIMEOUT_S:.0f} s")
        time.sleep(_POLL_S)


def _rows(metrics: Path) -> list[dict[str, Any]]:
    """Return the rows of a file that may be being written."""
    if not metrics.exists():
        return []
    lines = metrics.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]
