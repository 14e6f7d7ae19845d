"""What a contest still has to run, and what it comes to: functions of what was run so far."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.contest.contender import Contender, Setting
from benchmarks.contest.search import Choice, Point, walk
from benchmarks.experiments.plan import Job
from benchmarks.experiments.runs import Outcome

Outcomes = Mapping[Job, Outcome]
Entry = tuple[Setting, Contender]
Stage = Callable[[Outcomes], list[Job]]


@dataclass(frozen=True)
class Result:
    """A contender where tuning left it, and its runs there."""

    setting: Setting
    contender: Contender
    choice: Choice
    validation: Sequence[Outcome]
    runs: Sequence[Outcome]


def stages(entries: Sequence[Entry]) -> tuple[Stage, Stage]:
    """Return what is to be run: trials, until everyone is tuned, and then everyone's runs."""
    return partial(trials, entries), partial(runs, entries)


def trials(entries: Iterable[Entry], outcomes: Outcomes) -> list[Job]:
    """Return what must be tried next; nothing once everyone's walk is over."""
    return [
        job
        for setting, contender in entries
        for point in tuned(setting, contender, outcomes).missing
        for job in contender.trials(setting, point)
    ]


def runs(entries: Iterable[Entry], outcomes: Outcomes) -> list[Job]:
    """Return the runs of everyone who has been tuned, one a seed."""
    return [
        job
        for setting, contender in entries
        for job in contender.jobs(setting, tuned(setting, contender, outcomes).point)
    ]


def results(entries: Iterable[Entry], outcomes: Outcomes) -> list[Result]:
    """Return what everyone came to, once all has been run."""
    return [_result(setting, contender, outcomes) for setting, contender in entries]


def tuned(setting: Setting, contender: Contender, outcomes: Outcomes) -> Choice:
    """Return where a contender's walk is."""

    def known(point: Point) -> float | None:
        jobs = contender.trials(setting, point)
        if not all(job in outcomes for job in jobs):
            return None
        return score([outcomes[job] for job in jobs], setting, contender)

    return walk(contender.axes, known, setting.budget)


def score(trials: Sequence[Outcome], setting: Setting, contender: Contender) -> float:
    """Return how good a point was: the metric's mean over all evaluations, the more the better.

    Of several numbers of fine-tuning steps, that which was best. −∞ if a run did not come to its
    end, or its metric is not finite at one: step sizes that are too large.
    """
    if any(trial.stopped for trial in trials):
        return -np.inf
    ks = list(contender.steps or setting.steps)
    curves = [trial.curve("participating", setting.metric)[1:, ks].mean(0) for trial in trials]
    curve = np.mean(curves, axis=0)
    if not np.isfinite(curve).all():
        return -np.inf
    return float(-curve.min() if setting.lower_is_better else curve.max())


def _result(setting: Setting, contender: Contender, outcomes: Outcomes) -> Result:
    choice = tuned(setting, contender, outcomes)
    made = [outcomes[job] for job in contender.jobs(setting, choice.point)]
    validation = [outcomes[job] for job in contender.trials(setting, choice.point)]
    return Result(setting, contender, choice, validation, made)
