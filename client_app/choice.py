"""Should this client personalize, and by how many steps? Told by rows held out of its train rows.

Let l_k(r) be the loss on a train row r of the model after k = 0 … K fine-tuning steps on train rows
of other folds, so that no row is one that its model was fine-tuned on, and R the rows that were
held out so. Their means l̄_k rank the numbers of steps; k* is the least of them. Whether that
is better than no step at all is a paired question, row by row:

    g(r) = l_0(r) − l_{k*}(r),    ḡ = l̄_0 − l̄_{k*},    s² = Σ_r (g(r) − ḡ)² / (R − 1) R

    k = k* if ḡ > s, else 0

It is the one-standard-error rule of Breiman et al. (1984, §3.4.3), between k* and the shared model
alone. Doubt counts for k = 0, as a client then has the model that many clients' rows speak for. Not
for fewer steps among those above 0, where the rule takes the fewest within a standard error of the
best: a model after fewer steps is no simpler one. Loss, not accuracy: every task has it, it is what
the steps descend, and of ten rows it tells more than ten times right or wrong.

What s leaves out: folds share rows, so that the g(r) are not independent and s may be too small
(Bengio and Grandvalet 2004); k* is the best of K, which flatters ḡ; and where the shared model was
trained on these rows, l_0 is too low, which speaks for k = 0. It is a rule to choose by. What is
reported of the model is measured on test rows, which choose nothing.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FOLDS = 10
"""Or as many as there are rows, so that of few rows each is held out alone."""
ENOUGH = 1000
"""Rows to hold out: of many rows one fold is, and of very many a part of it."""
ROUNDING = 1e-5
"""Of the loss, in float32: a gain below it is none."""


class Difference(NamedTuple):
    """The mean of paired differences, and its standard error."""

    mean: float
    error: float
    """NaN of one row, which does not tell it."""


@dataclass(frozen=True)
class Choice:
    """How many steps a client takes, and why."""

    k: int
    """The steps to take."""
    best: int
    """k*, after which the loss on the rows held out is least."""
    gain: Difference
    """By how much k* lowers that loss: ḡ and s."""
    loss: list[float]
    """l̄_k for k = 0 … K; infinite from where a fold's model or loss was not finite."""
    rows: int
    """R, how many rows were held out; 0 where there are none to choose by."""


def folds(random: np.random.Generator, rows: int) -> list[NDArray[np.int64]]:
    """Return which rows are held out, a fold at a time, and no row twice.

    Parameters
    ----------
    random
        Draws them.
    rows
        How many there are, at least 2.
    """
    parts = np.array_split(random.permutation(rows), min(FOLDS, rows))
    held = np.cumsum([len(part) for part in parts])
    return [np.sort(part[:ENOUGH]) for part in parts[: np.searchsorted(held, ENOUGH) + 1]]


def without_rows(steps: int) -> Choice:
    """Return the choice of a client with one train row: none of the steps, and nothing is known."""
    return Choice(0, 0, Difference(math.nan, math.nan), [math.nan] * (steps + 1), 0)


def choose(losses: NDArray[np.float64]) -> Choice:
    """Choose the number of steps by the rule above.

    Parameters
    ----------
    losses
        [K + 1, R] l_k(r), finite for k = 0; R at least 2.
    """
    means = [float(row.mean()) if np.isfinite(row).all() else math.inf for row in losses]
    best = int(np.argmin(means))
    gain = paired(losses[0], losses[best])
    told = gain.mean > max(gain.error, ROUNDING * abs(means[0]))
    return Choice(best if told else 0, best, gain, means, losses.shape[1])


def paired(a: NDArray[np.float64], b: NDArray[np.float64]) -> Difference:
    """Return the mean of a − b, [R] each, and its standard error."""
    difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    n = len(difference)
    error = float(difference.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    return Difference(float(difference.mean()), error)
