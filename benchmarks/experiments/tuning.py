"""Step sizes: the same number of trials for every method, on rows that no result is taken from.

A tuning experiment sweeps ν, the inner step size α and one outer step size (β, or that of the
server's optimizer), with `evaluation.split=validation`: what it is scored by was held out of the
participating clients' train rows. Test rows and new clients are not looked at, and the seed, so the
federation, is another than those of the results.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from benchmarks.experiments.plan import ALPHA, NU, SEED, Job, axes
from benchmarks.experiments.runs import Outcome

STEPS = 5  # of fine-tuning, after which accuracy counts


class Choice(NamedTuple):
    """What tuning chose, and how it did there."""

    alpha: str
    outer: str
    score: float
    trials: int
    at_edge: tuple[str, ...]
    """Keys whose best value is the smallest or largest that was tried."""


def outer_key(experiment: str) -> str:
    """Return the key of the outer step size that a tuning experiment sweeps."""
    (key,) = set(axes(experiment)) - {NU, ALPHA, SEED}
    return key


def score(outcome: Outcome) -> float:
    """Return the accuracy after five steps, mean over the run: high early, and high at the end.

    −∞ for a run that did not come to its end: step sizes that are too large.
    """
    if outcome.stopped:
        return -np.inf
    return float(outcome.curve("participating", "accuracy")[1:, STEPS].mean())


def choose(
    outcomes: Mapping[Job, Outcome], experiment: str, nu: str, alpha: str | None = None
) -> Choice:
    """Return the best step sizes for ν, among those with α where one is given."""
    outer, swept = outer_key(experiment), axes(experiment)
    scores = {
        job: score(outcome)
        for job, outcome in outcomes.items()
        if job.experiment == experiment
        and job[NU] == nu
        and (job[ALPHA] == alpha or (alpha is None and job[ALPHA] in swept[ALPHA]))
    }
    best = max(scores, key=lambda job: scores[job])
    free = [outer] if alpha is not None else [ALPHA, outer]
    edge = tuple(key for key in free if best[key] in (swept[key][0], swept[key][-1]))
    return Choice(best[ALPHA], best[outer], scores[best], len(scores), edge)
