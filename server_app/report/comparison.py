"""Runs side by side: those that differ by their seed alone are a group, with an interval."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from nufed.conf.errors import InputError
from nufed.conf.schema import Config
from nufed.server_app.report.grouping import differing, grouped, labels
from nufed.server_app.report.record import Record, read_record
from nufed.server_app.report.statistics import (
    Array,
    Interval,
    interval,
    paired,
    rounds_to,
    smooth,
    still_rises,
)
from nufed.server_app.run_folder import METRICS
from nufed.strategies.curves import GROUPS, exists, say_undefined
from nufed.tasks.possible import Limits

REACHED = 0.95  # of the way that the first group goes


@dataclass(frozen=True)
class Group:
    """Runs of one configuration, each of another seed."""

    label: str
    runs: dict[int, Record]
    """By seed, in order."""

    @property
    def seeds(self) -> list[int]:
        """The seeds that were run."""
        return list(self.runs)

    @property
    def first(self) -> Record:
        """The run of the first seed."""
        return next(iter(self.runs.values()))

    @property
    def config(self) -> Config:
        """Its configuration."""
        return self.first.config

    def final(self, kind: str, name: str, k: int) -> dict[int, float]:
        """Return a statistic of the end after k steps, by seed; of seeds for which there is one."""
        return {
            seed: float(run.final(kind, name)[k])
            for seed, run in self.runs.items()
            if exists(run.last[kind], run.metric, k)
        }

    def curves(self, kind: str, name: str) -> tuple[list[int], Array]:
        """Return the rounds that all runs evaluated, and their curves, [seeds, rounds, K + 1]."""
        found = [run.curves(kind, name) for run in self.runs.values()]
        rounds = sorted(set.intersection(*(set(rounds) for rounds, _ in found)))
        return rounds, np.stack([values[np.isin(of, rounds)] for of, values in found])


@dataclass(frozen=True)
class Comparison:
    """Groups of runs; the others are compared with the first."""

    groups: list[Group]
    differing: dict[str, list[str]]
    """The keys in which groups differ, with each group's value."""
    notes: list[str]

    @cached_property
    def metric(self) -> str:
        """What all of them report."""
        found = {run.metric for group in self.groups for run in group.runs.values()}
        return found.pop() if len(found) == 1 else "loss"

    @property
    def lower_is_better(self) -> bool:
        """Whether less of that metric is better."""
        return self.metric == "loss" or self.groups[0].first.lower_is_better

    @cached_property
    def kinds(self) -> list[str]:
        """The kinds of clients that all of them measured."""
        every = [set(run.groups) for group in self.groups for run in group.runs.values()]
        return [kind for kind in GROUPS if all(kind in kinds for kinds in every)]

    @cached_property
    def last_k(self) -> int:
        """The most fine-tuning steps that all of them took."""
        runs = [run for group in self.groups for run in group.runs.values()]
        return min(int(run.last[kind]["k"][-1]) for run in runs for kind in run.groups)

    @cached_property
    def limits(self) -> Limits:
        """Between what that metric always is, in all of them."""
        every = [run.limits(self.metric) for group in self.groups for run in group.runs.values()]
        return Limits(min(of.low for of in every), max(of.high for of in every))

    def end(self, group: Group, kind: str, k: int, statistic: str = "") -> Interval:
        """Return the mean over seeds of the metric at the end, after k steps."""
        values = list(group.final(kind, self.metric + statistic, k).values())
        return interval(values).within(self.limits)

    def constant(self, kind: str) -> tuple[str, float] | None:
        """Return what needs no model, as people read it, and its mean over all runs.

        None where a run does not tell, or runs are not of the same data.
        """
        runs = [run for group in self.groups for run in group.runs.values()]
        found = [each for run in runs if (each := run.constant(kind)) is not None]
        if len(found) < len(runs) or any(run.metric != self.metric for run in runs):
            return None
        if any(key.startswith(("dataset.", "partition.")) for key in self.differing):
            return None
        return found[0][0], float(np.mean([value for _, value in found]))

    def chosen(self, key: str) -> list[str] | None:
        """Return each group's own step sizes, where they were chosen run by run and differ."""
        if not all(key in run.probed for group in self.groups for run in group.runs.values()):
            return None
        sizes = [{run.probed[key] for run in group.runs.values()} for group in self.groups]
        if all(each == sizes[0] for each in sizes):
            return None
        return [f"{min(s):g}" if len(s) == 1 else f"{min(s):g} to {max(s):g}" for s in sizes]

    def gain(self, group: Group, kind: str, k: int) -> tuple[Interval, int] | None:
        """Return how much better a group is than the first, seed by seed, and of how many seeds.

        None for the first group, and where no seed was run by both.
        """
        first = self.groups[0]
        ours, theirs = (g.final(kind, self.metric, k) for g in (group, first))
        both = [seed for seed in ours if seed in theirs]
        if group is first or not both:
            return None
        difference = paired([ours[s] for s in both], [theirs[s] for s in both])
        return difference.within(self.limits.of_differences), len(both)

    def still_rises(self, group: Group, kind: str) -> bool:
        """Tell whether a group's curve had not come to its end by its last round."""
        _, curves = group.curves(kind, self.metric)
        curve: Array = curves[:, :, self.last_k].mean(0)
        return still_rises(-curve if self.lower_is_better else curve)

    def times(self, group: Group, cost: str) -> float | None:
        """Return how many times as much a group spent as the first; None where rows do not tell."""
        ours, theirs = (
            [run.costs[max(run.costs)][cost] if run.costs else 0.0 for run in g.runs.values()]
            for g in (group, self.groups[0])
        )
        return float(np.mean(ours) / np.mean(theirs)) if all((*ours, *theirs)) else None

    def target(self, kind: str) -> float | None:
        """Return what the first group has after 95% of its way from its start to its end.

        None if that way leads nowhere: without a gain, what is reached is not reached by training.
        """
        _, curves = self.groups[0].curves(kind, self.metric)
        course = smooth(curves[:, :, self.last_k].mean(0))  # as `rounds_to` sees it
        way = float(course[-1] - course[0])
        if (way >= 0) if self.lower_is_better else (way <= 0):
            return None
        return float(course[0]) + REACHED * way

    def rounds_to(self, group: Group, kind: str, target: float) -> dict[int, float]:
        """Return the round at which each seed reached the target; ∞ if it did not."""
        rounds, curves = group.curves(kind, self.metric)
        sign = -1.0 if self.lower_is_better else 1.0
        return {
            seed: rounds_to(rounds, sign * curve[:, self.last_k], sign * target)
            for seed, curve in zip(group.seeds, curves, strict=True)
        }

    def costs_to(
        self, group: Group, reached: Mapping[int, float], cost: str
    ) -> dict[int, float | None]:
        """Return what each seed had spent by the round at which it reached a target.

        ∞ if it did not; None where its rows do not tell.
        """
        return {
            seed: math.inf
            if math.isinf(round)
            else group.runs[seed].costs.get(int(round), {}).get(cost)
            for seed, round in reached.items()
        }


def compare(folders: Sequence[Path]) -> Comparison:
    """Read runs and group them.

    Parameters
    ----------
    folders
        Folders of runs.

    Raises
    ------
    InputError
        If one cannot be read, or they have nothing in common that was measured.
    """
    runs, notes = list[Record](), list[str]()
    for folder in folders:
        run = read_record(folder)
        if not run.groups:
            notes.append(f"{folder}: was never evaluated, and is left out")
            continue
        if run.stopped or run.summary is None:
            why = "stopped early" if run.stopped else "has not ended"
            notes.append(f"{folder}: {why}; it stands here as after round {run.last['round']}")
        notes += [f"{folder}: {line}" for line in say_undefined(run.last)]
        runs.append(run)
    if not runs:
        raise InputError(f"{folders[0]}: no run there was ever evaluated; let one come to its end")
    found = grouped(runs)
    keys = differing([traits for traits, _ in found])
    groups = [
        Group(label, _by_seed(some, notes))
        for label, (_, some) in zip(labels(keys, len(found)), found, strict=True)
    ]
    comparison = Comparison(groups, keys, notes)
    if not comparison.kinds:
        raise InputError(
            f"{folders[-1]}: measured other clients than {folders[0]}; compare runs that have "
            "participating or new clients in common"
        )
    return comparison


def _by_seed(runs: Sequence[Record], notes: list[str]) -> dict[int, Record]:
    """Return runs by their seeds, in order; of two with the same the later, which is noted."""
    found = dict[int, Record]()
    for run in runs:
        if run.config.seed in found:
            earlier = found[run.config.seed].folder
            notes.append(f"{earlier}: is the same run as {run.folder}, which counts")
        found[run.config.seed] = run
    return dict(sorted(found.items()))


def run_folders(folder: Path, name: str) -> list[Path]:
    """Return the run that a folder is, or the runs below it, as in the folder of a sweep.

    Raises
    ------
    InputError
        If there is none.
    """
    if not folder.exists():
        raise InputError(f"{name}: is not there; name the folder of a run or a sweep")
    if (folder / METRICS).is_file():
        return [folder]
    found = sorted((file.parent for file in folder.rglob(METRICS)), key=_by_number)
    if not found:
        raise InputError(f"{name}: is no folder of a run or a sweep; it has no {METRICS} in it")
    return found


def _by_number(folder: Path) -> tuple[Any, ...]:
    """Sort jobs of a sweep as they were run: 2_… before 10_…."""
    number = folder.name.split("_")[0]
    return (str(folder.parent), int(number) if number.isdecimal() else 0, folder.name)
