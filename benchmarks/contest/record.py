"""What a contest leaves: every seed's curves, small enough to be kept beside the document."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.contest.contender import Setting
from benchmarks.contest.play import Entry, Outcomes, Result, results
from benchmarks.experiments.runs import Outcome
from nufed.server_app.report.statistics import Array, Interval, paired, rounds_to, still_rises
from nufed.strategies.curves import GROUPS

FOLDER = machine.ROOT / "benchmarks/contest/records"
DIGITS = 5  # significant ones that are kept
SPREAD = ("_std", "_worst_decile")
COSTS = ("gradients", "bytes_up", "bytes_down")
SPENT = ("rounds", "gradients", "bytes")
BLOWN = 10.0  # times the loss of the first model
REACHED = 0.95  # of the way that the baseline goes: a target


@dataclass(frozen=True)
class Line:
    """A contender's tuned runs."""

    name: str
    tuned: dict[str, str]
    """What tuning chose, key by key."""
    tried: int
    settled: bool
    """Whether all that lies beside what was chosen was tried."""
    steps: tuple[int, ...]
    """Fine-tuning steps k after which the metric counts."""
    command: str
    """That repeats all its runs."""
    seeds: list[str]
    stopped: list[str]
    """Why runs did not come to their end; empty if all did."""
    rounds: list[int]
    """That were evaluated."""
    gradients: list[float]
    """Of a batch, by all clients, up to each of these rounds; mean over the seeds."""
    bytes: list[float]
    """Of all messages, both ways, likewise."""
    curves: dict[str, list[list[list[float | None]]]]
    """Group of clients -> the metric's means over these clients, [seeds, evaluations, K + 1].

    None, in all of its evaluations, of a seed that broke off: it is no mean's.
    """
    spread: dict[str, dict[str, list[list[float | None]]]]
    """Group -> statistic over clients -> that of the last evaluation, [seeds, K + 1]."""

    def curve(self, group: str, k: int | None = None) -> Array:
        """Return the metric after k steps, or those that count, [seeds, evaluations]."""
        return np.array(self.curves[group], np.float64)[:, :, self.k if k is None else k]

    def end(self, group: str, last: int = 3) -> Array:
        """Return the metric's mean over the last evaluations, [seeds, K + 1]."""
        ends: Array = np.array(self.curves[group], np.float64)[:, -last:].mean(1)
        return ends

    @property
    def k(self) -> int:
        """The fine-tuning steps that count; of several, the best at the end by validation rows."""
        return self.steps[0]

    def at(self, group: str, cost: str, amount: float) -> Array | None:
        """Return the metric once so much is spent, [seeds]; None if no run spends as much.

        Parameters
        ----------
        cost
            One of `SPENT`.
        """
        spent = np.asarray(getattr(self, cost), np.float64)
        # A tenth of what lies between two evaluations is no difference.
        if amount > spent[-1] + 0.1 * (spent[-1] - spent[-2]):
            return None
        return np.array([np.interp(amount, spent, curve) for curve in self.curve(group)])


@dataclass(frozen=True)
class Record:
    """All lines of a setting."""

    setting: str
    title: str
    metric: str
    lower_is_better: bool
    budget: int
    """Points that each might try."""
    commit: str | None
    machine: dict[str, Any]
    lines: list[Line]
    tuned_on: int = 1
    """Federations whose held-out rows decided between points."""

    def line(self, name: str) -> Line:
        """Return a contender's."""
        return next(line for line in self.lines if line.name == name)

    def broken(self, line: Line, group: str, k: int | None = None) -> str:
        """Say how many seeds broke off, or had no number at an evaluation; nothing if none did.

        No mean over seeds is of such a line: one of the others would be of the lucky ones.
        """
        lost = sum(not np.isfinite(curve).all() for curve in line.curve(group, k))
        return f"broke off in {lost} of {len(line.seeds)}" if lost else ""

    def blew_up(self, line: Line, group: str, evaluations: slice) -> str:
        """Say how many seeds had a loss beyond all bounds at some evaluations; nothing if none had.

        A client's fine-tuning diverged then, from a model that served it before and after.
        """
        if not self.lower_is_better:
            return ""
        lost = sum((curve[evaluations] > BLOWN * curve[0]).any() for curve in line.curve(group))
        return f"blew up in {lost} of {len(line.seeds)}" if lost else ""

    def still_rises(self, line: Line, group: str) -> bool:
        """Tell whether a line's last quarter brought a twentieth of its way, in the mean."""
        curve = line.curve(group).mean(0)
        return still_rises(-curve if self.lower_is_better else curve)

    def gain(self, ours: Array, theirs: Array) -> Interval:
        """Return by how much values are better, seed by seed: in points of accuracy, or in loss."""
        if self.lower_is_better:
            return paired(theirs, ours)
        return paired(ours, theirs).times(100)

    def gain_text(self, ours: Array, theirs: Array) -> str:
        """Return the same in words."""
        return self.gain(ours, theirs).text(3 if self.lower_is_better else 1)

    def targets(self, base: Line, group: str, k: int | None = None) -> Array:
        """Return what each seed of a line has after most of the way from its start to its end.

        What is not to be reached where training brought nothing: the way leads nowhere.
        """
        start = base.curve(group, k)[:, 0]
        way = base.end(group)[:, base.k if k is None else k] - start
        never = -np.inf if self.lower_is_better else np.inf
        rises: Array = -way if self.lower_is_better else way
        goals: Array = np.where(rises > 0, start + REACHED * way, never)
        return goals

    def reached(self, line: Line, base: Line, group: str, cost: str, k: int | None = None) -> Array:
        """Return what each seed had spent when it was at the baseline's; ∞ if it never was.

        Parameters
        ----------
        cost
            One of `SPENT`.
        k
            Fine-tuning steps after which both are measured; None: those that count for each.
        """
        sign = -1 if self.lower_is_better else 1
        goals, spent = sign * self.targets(base, group, k), getattr(line, cost)
        curves = sign * line.curve(group, k)
        return np.array([rounds_to(spent, *each) for each in zip(curves, goals, strict=True)])


def record(played: Sequence[Result]) -> Record:
    """Return what the results of one setting come to."""
    setting = played[0].setting
    return Record(
        setting.experiment,
        setting.title,
        setting.metric,
        setting.lower_is_better,
        setting.budget,
        machine.commit(),
        machine.facts(),
        [line(result) for result in played],
        len(setting.tuning_seeds),
    )


def line(result: Result) -> Line:
    """Return what a contender's runs come to."""
    setting, runs = result.setting, result.runs
    whole = max(runs, key=lambda run: len(run.rounds))
    keys = [axis.key for axis in result.contender.axes]
    rows = [run.evaluated for run in runs if len(run.rounds) == len(whole.rounds)]
    # The first evaluation is of the untrained model, which has cost nothing.
    cost = [[row.get("cost", {}) for row in run] for run in rows]
    spent = {key: _mean([[c.get(key, 0) for c in run] for run in cost]) for key in COSTS}
    ks = list(result.contender.steps or setting.steps)
    best = np.mean([run.final("participating", setting.metric)[ks] for run in result.validation], 0)
    k = ks[int(best.argmin() if setting.lower_is_better else best.argmax())]
    return Line(
        result.contender.name,
        dict(zip(keys, result.choice.point, strict=True)),
        result.choice.tried,
        result.choice.settled,
        (k, *(other for other in ks if other != k)),
        command(result),
        setting.seeds,
        # Where the model lies is of the machine that it was run on.
        [run.stopped.partition("; the model of")[0] for run in runs if run.stopped],
        whole.rounds,
        [each * whole.participating for each in spent["gradients"]],
        (np.array(spent["bytes_up"]) + np.array(spent["bytes_down"])).tolist(),
        {g: [_curves(run, g, setting.metric, len(whole.rounds)) for run in runs] for g in GROUPS},
        {
            g: {s: [_last(run, g, setting.metric + s) for run in runs] for s in SPREAD}
            for g in GROUPS
        },
    )


def command(result: Result) -> str:
    """Return the command that repeats all runs of a result."""
    job = result.runs[0].job
    chosen = [f"{key}={value}" for key, value in job.choices if key != "seed"]
    seeds = ",".join(result.setting.seeds)
    return " ".join(
        ["nufed -m", f"experiment={job.experiment}", *job.options, *chosen, f"seed={seeds}"]
    )


def keep_all(entries: Sequence[Entry], outcomes: Outcomes) -> list[Record]:
    """Write down what everyone came to, a record a setting, and return them."""
    by_setting = dict[Setting, list[Entry]]()
    for entry in entries:
        by_setting.setdefault(entry[0], []).append(entry)
    made = [record(results(some, outcomes)) for some in by_setting.values()]
    for each in made:
        keep(each)
    return made


def read_all(entries: Iterable[Entry]) -> list[Record]:
    """Return the records of settings, in their order, as far as they have been run."""
    settings = dict.fromkeys(setting.experiment for setting, _ in entries)
    paths = [FOLDER / f"{experiment}.json" for experiment in settings]
    return [read(path) for path in paths if path.exists()]


def keep(made: Record, folder: Path = FOLDER) -> Path:
    """Write a record, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{made.setting}.json"
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(asdict(made), ensure_ascii=False) + "\n")
    os.replace(draft, path)
    return path


def read(path: Path) -> Record:
    """Read a record."""
    content: dict[str, Any] = json.loads(path.read_text())
    lines = [Line(**(kept | {"steps": tuple(kept["steps"])})) for kept in content.pop("lines")]
    return Record(**content, lines=lines)


def _curves(run: Outcome, group: str, metric: str, length: int) -> list[list[float | None]]:
    """Return a run's curves, [evaluations, K + 1], of None if it broke off."""
    curves = run.curve(group, metric)
    if run.stopped:
        return [[None] * curves.shape[1]] * length
    return [list(_rounded(curve)) for curve in curves]


def _last(run: Outcome, group: str, statistic: str) -> list[float | None]:
    last = run.curve(group, statistic)[-1]
    return [None] * len(last) if run.stopped else list(_rounded(last))


def _mean(values: Sequence[Sequence[float]]) -> list[float]:
    return _rounded(np.mean(values, axis=0))


def _rounded(values: Sequence[float] | Array) -> list[float]:
    return [float(f"{value:.{DIGITS}g}") for value in np.asarray(values, np.float64)]
