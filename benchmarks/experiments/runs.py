"""Run what is not there yet, several runs side by side, and read what the run folders hold."""

import json
import shutil
import sys
from collections.abc import Iterable
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.experiments.plan import Job
from benchmarks.quiet import train, workers
from nufed.conf.compose import of_run
from nufed.conf.errors import NuFedError, RunStopped
from nufed.conf.schema import Config
from nufed.server_app.run_folder import METRICS, MODEL, SUMMARY

Array = NDArray[np.float64]
KEPT = ("quadratics", "published_synthetic")
"""What the experiments begin with whose models are read again."""


@dataclass(frozen=True)
class Outcome:
    """What one run left in its folder."""

    job: Job
    folder: Path
    config: Config
    rows: list[dict[str, Any]]
    stopped: str | None
    """Why the run ended before its last round; None if it did not."""
    participating: int = 0
    """Clients that may be drawn."""

    @property
    def evaluated(self) -> list[dict[str, Any]]:
        """The rows of rounds that were evaluated."""
        return [row for row in self.rows if "participating" in row]

    @property
    def rounds(self) -> list[int]:
        """The rounds that were evaluated."""
        return [row["round"] for row in self.evaluated]

    def curve(self, group: str, metric: str) -> Array:
        """Return a metric's mean over clients, [evaluations, K + 1]; NaN where it is not finite."""
        values = [row[group][metric] for row in self.evaluated]
        return np.array(values, np.float64)

    def final(self, group: str, metric: str, last: int = 3) -> Array:
        """Return the metric of a run's end, [K + 1]: the mean of its last evaluations.

        A run that did not get to its end is where it was at its first evaluation: nowhere.
        """
        curve = self.curve(group, metric)
        end: Array = curve[0] if self.stopped else curve[-last:].mean(0)
        return end


def run_all(jobs: Iterable[Job], folder: Path, processes: int, what: str) -> dict[Job, Outcome]:
    """Run the jobs that have not been run, and return the outcomes of all.

    A run counts as there if it came to its end with the configuration that it would have now.
    """
    folder = folder.absolute()  # a relative one is within a SuperLink's own
    wanted = {job: job.config for job in dict.fromkeys(jobs)}
    missing = [job for job, config in wanted.items() if not _is_there(folder / job.folder, config)]
    there, console = len(wanted) - len(missing), Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console, disable=not console.is_terminal)
    with bar, workers(processes) as pool:
        task = bar.add_task(what, total=len(wanted), completed=there)
        made = {pool.submit(_run, job, folder / job.folder): job for job in missing}
        for done, future in enumerate(as_completed(made), there + 1):
            future.result()
            bar.advance(task)
            if not console.is_terminal:
                print(f"{what} {done}/{len(wanted)}: {made[future].folder}", file=sys.stderr)
    return {job: read(job, folder / job.folder) for job in wanted}


def read(job: Job, folder: Path) -> Outcome:
    """Read a run folder."""
    rows = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
    summary = json.loads((folder / SUMMARY).read_text())
    clients = summary["clients"]["participating"]
    return Outcome(job, folder, job.config, rows, summary.get("stopped"), clients)


def _is_there(folder: Path, config: Config) -> bool:
    """Tell whether a folder holds that run, come to an end; keys newer than it do not count."""
    try:
        summary = json.loads((folder / SUMMARY).read_text())
        stored = of_run(folder, str(folder))
    except (OSError, ValueError, NuFedError):
        return False
    stopped = summary.get("stopped", "")
    ended = stopped.startswith("round ") or summary["rounds"] == config.rounds
    return bool(ended and stored == config)


def _run(job: Job, folder: Path) -> None:
    """Run one job; step sizes that are too large are an outcome, not a failure."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        train(job.config, folder)
    except RunStopped:
        if not (folder / SUMMARY).exists():
            raise
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)
    if not job.experiment.startswith(KEPT):
        (folder / MODEL).unlink(missing_ok=True)
