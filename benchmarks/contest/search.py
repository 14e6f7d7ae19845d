"""Tuning alike: every method takes the same walk over its step sizes, on validation rows.

From a start that is the same for all, a method looks one step up and one down in each of its step
sizes, goes to the best of these, and looks again, until nothing next to it is better or its budget
is spent. So no value that is chosen lies at the edge of what was tried, unless the budget ended the
walk, which is then said. A step is a factor of about three: 0.01, 0.03, 0.1, … Where all that it
sees broke off, it goes on one step down in every step size.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

Point = tuple[str, ...]
"""A value of each axis."""
BUDGET = 20
"""Points that a method may try."""


@dataclass(frozen=True)
class Axis:
    """A key that is tuned, and where its walk starts."""

    key: str
    start: str
    values: tuple[str, ...] | None = None
    """What it may be, where that is a list; None: …, 0.01, 0.03, 0.1, 0.3, 1, …"""

    def beside(self, value: str) -> list[str]:
        """Return what lies next to a value."""
        if self.values is None:
            return [rung(value, -1), rung(value, +1)]
        here = self.values.index(value)
        return [*self.values[max(0, here - 1) : here], *self.values[here + 1 : here + 2]]


def rung(value: str, steps: int) -> str:
    """Return the value so many steps up the ladder of 0.01, 0.03, 0.1, 0.3, 1.0."""
    digits = f"{float(value):.0e}"
    if digits[0] not in "13" or float(digits) != float(value):
        raise ValueError(f"{value}: not on the ladder 0.01, 0.03, 0.1, …")
    power, half = divmod(2 * int(digits[2:]) + "13".index(digits[0]) + steps, 2)
    return str(float(f"{'13'[half]}e{power}"))


class Choice(NamedTuple):
    """Where a walk is."""

    point: Point
    tried: int
    """Points that were tried so far."""
    missing: tuple[Point, ...]
    """What to try next; nothing once the walk is over."""
    settled: bool
    """Whether all that lies next to the point was tried, and is no better; its runs came to an end.
    """


def walk(
    axes: Sequence[Axis], score: Callable[[Point], float | None], budget: int = BUDGET
) -> Choice:
    """Return where the walk is.

    The same scores lead along the same way, so that a walk that was cut goes on.

    Parameters
    ----------
    axes
        What is tuned.
    score
        Of a point: the more, the better; None if it has not been tried.
    budget
        Points that may be tried.
    """
    scores = dict[Point, float]()
    here = tuple(axis.start for axis in axes)
    tried = dict.fromkeys([here])
    while True:
        around = neighbours(axes, here)
        room = budget - len(tried)
        new = [point for point in around if point not in tried][:room]
        tried |= dict.fromkeys(new)
        found = {point: score(point) for point in tried if point not in scores}
        if missing := tuple(point for point, value in found.items() if value is None):
            return Choice(here, len(tried), missing, False)
        scores |= {point: value for point, value in found.items() if value is not None}
        seen = [point for point in around if point in tried]
        best = max([here, *seen], key=lambda point: scores[point])  # of equals, where it stands
        broke_off = scores[best] == -math.inf  # so does all around it
        further = smaller(axes, here) if broke_off else best
        if further == here or len(tried) >= budget:
            settled = best == here and len(seen) == len(around) and not broke_off
            return Choice(best, len(tried), (), settled)
        here = further
        tried |= dict.fromkeys([here])


def smaller(axes: Sequence[Axis], point: Point) -> Point:
    """Return the point one step down in every step size; what is of a list stays."""
    return tuple(
        value if axis.values else axis.beside(value)[0]
        for axis, value in zip(axes, point, strict=True)
    )


def neighbours(axes: Sequence[Axis], point: Point) -> list[Point]:
    """Return the points that differ from one in one axis, by one step."""
    return [
        (*point[:i], value, *point[i + 1 :])
        for i, axis in enumerate(axes)
        for value in axis.beside(point[i])
    ]
