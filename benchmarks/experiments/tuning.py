"""Step sizes: the same number of trials for every method, on rows that no result is taken from.

A tuning experiment sweeps ν, the inner step size α and one outer step size (β, or that of the
server's optimizer), with `evaluation.split=validation`: what it is scored by was held out of the
participating clients' train rows. Test rows and new clients are not looked at, and the seeds, so
the federations, are others than those of the results.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from benchmarks.experiments.plan import ALPHA, Job, axes
from benchmarks.experiments.runs import Outcome

STEPS = 5  # of fine-tuning, after which accuracy counts
OUTER = ("algorithm.beta", "strategy.optimizer.lr")


class Choice(NamedTuple):
    """What tuning chose, and how it did there."""

    alpha: str
    outer: str
    score: float
    trials: int
    """Pairs of step sizes that were tried, each on every seed of the tuning."""
    at_edge: tuple[str, ...]
    """Keys whose best value is the smallest or largest that was tried."""

    @property
    def text(self) -> str:
        """Both, with a star at the edge of what was tried."""
        return f"{self.alpha}{'*' if ALPHA in self.at_edge else ''}, {self.outer_text}"

    @property
    def outer_text(self) -> str:
        """The outer one, with a star at the edge of what was tried."""
        return f"{self.outer}{'*' if set(self.at_edge) - {ALPHA} else ''}"


def tuning(name: str) -> str:
    """Return the experiment that tunes the step sizes of a setting or of a sweep."""
    return f"tune_{name}"


def outer_key(experiment: str) -> str:
    """Return the key of the outer step size that a tuning experiment sweeps."""
    (key,) = set(axes(experiment)).intersection(OUTER)
    return key


def score(outcome: Outcome) -> float:
    """Return the accuracy after five steps, mean over the run: high early, and high at the end.

    −∞ for a run that did not come to its end: step sizes that are too large.
    """
    if outcome.stopped:
        return -np.inf
    return float(outcome.curve("participating", "accuracy")[1:, STEPS].mean())


def choose(outcomes: Mapping[Job, Outcome], experiment: str, at: Mapping[str, str]) -> Choice:
    """Return the step sizes with the best mean score over the seeds of a tuning experiment.

    Parameters
    ----------
    outcomes
        Of the trials, and whatever else.
    experiment
        The tuning experiment.
    at
        What is given: ν and, where it is not to be chosen, α; the values of other axes.
    """
    outer, swept = outer_key(experiment), axes(experiment)
    scores = defaultdict[tuple[str, str], list[float]](list)
    for job, outcome in outcomes.items():
        chosen = dict(job.choices)
        # Other trials of the experiment have keys, or an α, that are not asked for.
        if job.experiment != experiment or chosen.keys() != swept.keys() | at.keys():
            continue
        if at.items() <= chosen.items() and (ALPHA in at or job[ALPHA] in swept[ALPHA]):
            scores[job[ALPHA], job[outer]].append(score(outcome))
    means = {pair: float(np.mean(values)) for pair, values in scores.items()}
    best = max(means, key=lambda pair: means[pair])
    tried = {outer: best[1]} if ALPHA in at else {ALPHA: best[0], outer: best[1]}
    edge = tuple(key for key, value in tried.items() if value in (swept[key][0], swept[key][-1]))
    return Choice(*best, means[best], len(means), edge)
