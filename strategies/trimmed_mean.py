"""The coordinate-wise trimmed mean (Yin et al. 2018): Flower's FedTrimmedAvg on updates."""

import math
from typing import Any

from flwr.serverapp.strategy import FedTrimmedAvg

from nufed.conf.schema import require
from nufed.strategies.robust import Robust


class TrimmedMean(Robust):
    """Of every coordinate, leave the smallest and the largest values out, and average the rest.

    Parameters
    ----------
    trimmed_fraction
        Fraction of a round's clients that is left out at either end, rounded down; withstands as
        many hostile ones.
    """

    def __init__(self, *args: Any, trimmed_fraction: float, **kwargs: Any) -> None:
        valid = isinstance(trimmed_fraction, int | float) and 0 < trimmed_fraction < 0.5
        allowed = "above 0 and below 0.5, such as 0.2"
        require(valid, "strategy.trimmed_fraction", trimmed_fraction, allowed)
        super().__init__(
            *args,
            rule=lambda n: FedTrimmedAvg(beta=trimmed_fraction),
            fewest=math.ceil(1 / trimmed_fraction),
            why=f"strategy.trimmed_fraction={trimmed_fraction:g} of fewer is none",
            **kwargs,
        )
