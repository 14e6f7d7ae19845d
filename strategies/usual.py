"""How long updates usually are: those that are far longer are scaled down to a multiple of it.

    C_t = 4 · median over the last 5 rounds of the median of ‖w − w_{i,τ}‖ over the round's clients

A meta-gradient through many steps is heavy-tailed: step sizes that are right for all others are a
hundred times too large for one client, and its one update undoes the training. As updates become
shorter the bound follows, and as they become longer too, for norms are taken before they are
clipped; a minority that lies moves no median. Quantiles that follow the updates are from Andrew et
al. 2021 (arXiv 1905.03871), whose bound is for privacy, which this one is not.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from nufed.conf.errors import InputError
from nufed.conf.schema import USUAL
from nufed.conf.typed import Mistyped, typed

TIMES = 4
ROUNDS = 5
UNBOUNDED = 1e38
"""A bound that no update is above: it asks for their norms, to know what is usual."""


class Usual:
    """The norm of the last rounds' updates."""

    def __init__(self) -> None:
        self._medians = deque[float](maxlen=ROUNDS)

    @property
    def bound(self) -> float:
        """The norm C above which an update is not usual; none is as long as nothing moved."""
        usual = median(self._medians) if self._medians else 0.0
        return TIMES * usual or UNBOUNDED

    def add(self, lengths: Sequence[float]) -> None:
        """Take note of the norms of a round's updates, before they were clipped."""
        if lengths:
            self._medians.append(median(lengths))

    def state(self) -> dict[str, Any]:
        """Return what outlives this process."""
        return {"medians": list(self._medians)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned.

        Raises
        ------
        InputError
            If it is no such state.
        """
        try:
            medians = typed(dict(state), dict[str, list[float]], USUAL).get("medians", [])
        except Mistyped as error:
            raise InputError(f"resume: the checkpoint's {USUAL}: {error}") from error
        if not all(0 <= value < float("inf") for value in medians):
            raise InputError(f"resume: the checkpoint's {USUAL}: norms must be 0 or more")
        self._medians = deque(medians, ROUNDS)
