"""What a contest still has to run, and what it comes to: functions of what was run so far."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.contest.contender import Contender, Setting
from benchmarks.contest.search import Choice, Point, walk
from benchmarks.experiments.plan import Job
from benchmarks.experiments.runs import Outcome

Outcomes = Mapping[Job, Outcome]
Entry = tuple[Setting, Contender]


@dataclass(frozen=True)
class Result:
    """A contender where tuning left it, and its runs there."""

    setting: Setting
    contender: Contender
    choice: Choice
    validation: Outcome
    runs: Sequence[Outcome]


def trials(entries: Iterable[Entry], outcomes: Outcomes) -> list[Job]:
    """Return what must be tried next; nothing once everyone's walk is over."""
    return [
        contender.trial(setting, point)
        for setting, contender in entries
        for point in tuned(setting, contender, outcomes).missing
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
        trial = contender.trial(setting, point)
        return score(outcomes[trial], setting, contender) if trial in outcomes else None

    return walk(contender.axes, known, setting.budget)


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


def _result(setting: Setting, contender: Contender, outcomes: Outcomes) -> Result:
    choice = tuned(setting, contender, outcomes)
    made = [outcomes[job] for job in contender.jobs(setting, choice.point)]
    return Result(
        setting, contender, choice, outcomes[contender.trial(setting, choice.point)], made
    )
