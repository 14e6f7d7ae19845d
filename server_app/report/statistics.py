"""Means over seeds with 95% intervals, paired differences, and rounds to a target."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nufed.tasks.possible import Limits

Array = NDArray[np.float64]
LEVEL = 0.95
RUNNING = 3  # evaluations that a running mean is of
STILL = 1 / 20  # of the whole way, in a last quarter
AHEAD = 2  # times as long as a run was: further on, its curve is not followed


class Interval(NamedTuple):
    """A mean over seeds, and the interval that holds the true one with 95% confidence."""

    mean: float
    low: float
    high: float

    @property
    def decided(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0

    def within(self, limits: Limits) -> "Interval":
        """Return the interval without what cannot be: few values reach far beyond it.

        [−∞, ∞], which stands for none, remains.
        """
        if not math.isfinite(self.low):
            return self
        return self._replace(low=max(self.low, limits.low), high=min(self.high, limits.high))

    def times(self, factor: float) -> "Interval":
        """Return the interval in other units."""
        return Interval(self.mean * factor, self.low * factor, self.high * factor)

    def text(self, digits: int = 1, *, sign: bool = True) -> str:
        """Return ``+1.2 [+0.3, +2.1]``."""
        style = f"{'+' if sign else ''}.{digits}f"
        return f"{self.mean:{style}} [{self.low:{style}}, {self.high:{style}}]".replace("-", "−")


def interval(values: Sequence[float] | Array) -> Interval:
    """Return the mean of one value a seed with Student's t interval; [−∞, ∞] of one or none."""
    array = np.asarray(values, np.float64)
    if len(array) == 0:
        return Interval(np.nan, -np.inf, np.inf)
    mean = float(array.mean())
    if len(array) < 2:
        return Interval(mean, -np.inf, np.inf)
    from scipy.special import stdtrit  # Student's quantiles, without the rest of scipy.stats

    error = array.std(ddof=1) / np.sqrt(len(array))
    half = float(stdtrit(len(array) - 1, (1 + LEVEL) / 2) * error)
    return Interval(mean, mean - half, mean + half)


def paired(ours: Sequence[float] | Array, theirs: Sequence[float] | Array) -> Interval:
    """Return the interval of the difference, seed by seed: same clients, rows and first model."""
    return interval(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64))


def smooth(curve: Array) -> Array:
    """Return the running mean of each value and the two before it: one lucky round is none."""
    return np.array([curve[max(0, i + 1 - RUNNING) : i + 1].mean() for i in range(len(curve))])


def still_rises(curve: Array) -> bool:
    """Tell whether a run's last quarter brought a twentieth of its whole way, or more.

    Parameters
    ----------
    curve
        The metric at each evaluation, where more is better. Of less than four nobody can tell.
    """
    quarter = len(curve) // 4
    if not quarter or not np.isfinite(curve).all():
        return False
    last, before = curve[-quarter:].mean(), curve[-2 * quarter : -quarter].mean()
    way = last - curve[0]
    return bool(way > 0 and last - before >= STILL * way)


def rounds_to_tell(rounds: Sequence[int], curve: Array) -> int | None:
    """Return about how many rounds in all would show where a curve that still rises ends.

    An exponential approach gains in each quarter the same fraction of what it gained in the one
    before: that of the last two is gone on with until `still_rises` says no more, but no further
    than the run was long. Where no end is in sight by then, twice the rounds are named.

    Parameters
    ----------
    rounds
        Those that were evaluated.
    curve
        The metric at each, where more is better.

    Returns
    -------
    int or None
        Rounds in all, rounded up to two digits; None if the curve does not rise still.
    """
    if not still_rises(curve):
        return None
    n, quarter = len(curve), len(curve) // 4
    last, before, first = (curve[n - (i + 1) * quarter : n - i * quarter].mean() for i in range(3))
    gain, earlier, length = last - before, before - first, float(rounds[-1])
    if gain >= earlier:
        return _rounded_up(AHEAD * length)
    ratio = gain / earlier
    end, middle = last + gain * ratio / (1 - ratio), n - (1 + quarter) / 2
    ahead = np.arange(n, AHEAD * n)
    whole = np.concatenate([curve, end - (end - last) * ratio ** ((ahead - middle) / quarter)])
    step = (length - rounds[-1 - quarter]) / quarter
    told = (m for m in range(n + quarter, AHEAD * n, quarter) if not still_rises(whole[:m]))
    return _rounded_up(min(length + step * (next(told, AHEAD * n) - n), AHEAD * length))


def _rounded_up(number: float) -> int:
    """Return a whole number of two digits and zeros that is not below a number."""
    unit = int(10 ** max(math.floor(math.log10(number)) - 1, 0))
    return math.ceil(round(number / unit, 9)) * unit


def rounds_to(rounds: Sequence[int], curve: Array, target: float) -> float:
    """Return the evaluated round by which a curve has been at the target; ∞ if it never was.

    That is the last of three evaluations in a row whose mean is; of fewer, where a run has no more.
    It is the first round that was evaluated where each of the first three is: what a model has from
    its start, no training brought.
    """
    first = min(RUNNING, len(curve)) - 1
    if (curve[: first + 1] >= target).all():
        return float(rounds[0])
    reached = np.flatnonzero(smooth(curve)[first:] >= target)
    return float(rounds[first + reached[0]]) if len(reached) else np.inf


class Saving(NamedTuple):
    """How many percent fewer rounds."""

    percent: Interval
    censored: int
    """Runs of the other that never got there; their whole length is taken, so it is at least so."""

    def text(self) -> str:
        """Return ``+55 [+25, +85]``, after *at least* where runs were censored."""
        return f"{'at least ' if self.censored else ''}{self.percent.text(0)}"


def saving(
    ours: Sequence[float] | Array, theirs: Sequence[float] | Array, length: float
) -> Saving | None:
    """Return what is saved, seed by seed.

    None where one of ours never got there, or one of theirs was there without training.

    Parameters
    ----------
    ours, theirs
        Rounds to a target, ∞ if it was not reached.
    length
        Rounds of a run.
    """
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if not np.isfinite(a).all() or not b.all():
        return None
    there = np.isfinite(b)
    return Saving(interval(100 * (1 - a / np.where(there, b, length))), int((~there).sum()))
