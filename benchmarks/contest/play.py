"""Tune all who are compared, stage by stage, then run them on every seed."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.contest.contender import Contender, Setting
from benchmarks.contest.search import BUDGET, Choice, Point, walk
from benchmarks.experiments.plan import Job
from benchmarks.experiments.runs import Outcome

Run = Callable[[list[Job], str], Mapping[Job, Outcome]]
"""Runs what has not been run, and returns the outcomes."""
Entry = tuple[Setting, Contender]


@dataclass(frozen=True)
class Result:
    """A contender where tuning left it, and its runs there."""

    setting: Setting
    contender: Contender
    choice: Choice
    validation: Outcome
    runs: list[Outcome]


def play(entries: Iterable[Entry], run: Run, budget: int = BUDGET) -> list[Result]:
    """Return what all entries come to."""
    entries = list(entries)
    choices, trials = tune(entries, run, budget)
    wanted = {
        entry: entry[1].jobs(entry[0], choice.point)
        for entry, choice in zip(entries, choices, strict=True)
    }
    done = run([job for jobs in wanted.values() for job in jobs], "runs")
    return [
        Result(
            *entry,
            choice,
            trials[entry[1].trial(entry[0], choice.point)],
            [done[job] for job in wanted[entry]],
        )
        for entry, choice in zip(entries, choices, strict=True)
    ]


def tune(
    entries: Iterable[Entry], run: Run, budget: int = BUDGET
) -> tuple[list[Choice], dict[Job, Outcome]]:
    """Walk all to where nothing beside is better; return their choices, and what was tried."""
    outcomes = dict[Job, Outcome]()
    scores: dict[Entry, dict[Point, float]] = {entry: {} for entry in entries}
    stage = 0
    while True:
        choices = {e: walk(e[1].axes, known, budget) for e, known in scores.items()}
        wanted = {(e, p): e[1].trial(e[0], p) for e, c in choices.items() for p in c.missing}
        if not wanted:
            return list(choices.values()), outcomes
        stage += 1
        outcomes |= run(list(wanted.values()), f"tuning, stage {stage}")
        for (entry, point), job in wanted.items():
            scores[entry][point] = score(outcomes[job], *entry)


def score(outcome: Outcome, setting: Setting, contender: Contender) -> float:
    """Return how good a run was: the metric's mean over its evaluations, the more the better.

    Of several numbers of fine-tuning steps, that which was best. −∞ for a run that did not come to
    its end, or whose metric is not finite at one: step sizes that are too large.
    """
    if outcome.stopped:
        return -np.inf
    ks = list(contender.steps or setting.steps)
    curve = outcome.curve("participating", setting.metric)[1:, ks].mean(0)
    if not np.isfinite(curve).all():
        return -np.inf
    return float(-curve.min() if setting.lower_is_better else curve.max())
