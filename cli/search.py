"""Searches: sweeps that choose step sizes by how good runs are on validation rows."""

import json
import math
from pathlib import Path
from typing import Any

from rich.table import Table

from nufed.cli.sweep import SPLIT, Job
from nufed.conf.errors import InputError
from nufed.conf.schema import Config
from nufed.conf.words import command_line
from nufed.server_app.run_folder import SUMMARY
from nufed.server_app.terminal import Terminal
from nufed.strategies.curves import GROUPS, exists, say_undefined, shown

BEST = 5
WORST = -math.inf
"""The score of a run that diverged."""


def require_validation(config: Config) -> None:
    """Raise an `InputError` if a search would choose by the rows that its outcome is judged by."""
    if config.evaluation.split != "validation":
        raise InputError(
            f"{SPLIT}={config.evaluation.split}: a search chooses by validation rows; "
            f"leave it out, or say {SPLIT}=validation"
        )


def score(folder: Path) -> float:
    """Return how good a run is: what it reports of participating clients after the last step.

    Its negative, where less is better.

    Raises
    ------
    InputError
        If no participating client was measured.
    """
    _, sign, value = _reported(folder)
    return WORST if value is None else sign * value  # None was not finite


def _reported(folder: Path) -> tuple[str, int, float | None]:
    """Return the metric that a run is judged by, −1 where less is better, and its value."""
    summary: dict[str, Any] = json.loads((folder / SUMMARY).read_text())
    curves = summary.get(GROUPS[0])
    if curves is None:
        raise InputError("evaluation.new_clients: leaves no participating client to choose by")
    metric = shown(curves)
    if not exists(curves, metric):
        raise InputError(f"task.metrics: {say_undefined(summary)[0]}; put one first that exists")
    return metric, -1 if metric in summary["lower_is_better"] else 1, curves[metric][-1]


def best_command(jobs: list[Job]) -> str | None:
    """Return the command of the final run, on test rows; None if no trial went well."""
    best = max(jobs, key=_score, default=None)
    if best is None or _score(best) == WORST:
        return None
    return command_line("nufed", [o for o in best.overrides if not o.startswith(f"{SPLIT}=")])


def conclude(jobs: list[Job], folder: Path, console: Terminal) -> bool:
    """Show the best trials and how to go on; return whether there is one."""
    command = best_command(jobs)
    if command is None:
        return False
    console.print(_table(jobs), soft_wrap=True)
    console.say(f"trials: {folder}")
    console.say("the best one's step sizes, on test rows:")
    console.say(f"  {command}")
    return True


def _table(jobs: list[Job]) -> Table:
    """Return the best trials, each with what was searched over."""
    ranked = sorted(jobs, key=_score, reverse=True)
    shared = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
    keys = [o.partition("=")[0] for o in jobs[0].overrides if o not in shared]
    metric, sign, _ = _reported(Path(ranked[0].folder))
    failed = sum(_score(job) == WORST for job in jobs)
    note = f", of which {failed} diverged" if failed else ""
    table = Table(title=f"the best of {len(jobs)} trials{note}", title_justify="left")
    for column in ("trial", metric, *(key.split(".")[-1] for key in keys)):
        table.add_column(column, justify="right")
    for job in ranked[:BEST]:
        if _score(job) > WORST:
            values = dict(o.split("=", 1) for o in job.overrides)
            cells = (_short(values.get(key, "")) for key in keys)
            table.add_row(str(job.number), f"{sign * _score(job):.4g}", *cells)
    return table


def _score(job: Job) -> float:
    return WORST if job.score is None else job.score


def _short(value: str) -> str:
    try:
        return f"{float(value):.3g}"
    except ValueError:
        return value
