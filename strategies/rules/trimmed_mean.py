"""The coordinate-wise trimmed mean (Yin et al. 2018): Flower's FedTrimmedAvg on updates."""

import math
from dataclasses import dataclass

from flwr.serverapp.strategy import FedTrimmedAvg

from nufed.conf.schema import require
from nufed.strategies.rules.robust import Robust


@dataclass(frozen=True)
class TrimmedMean(Robust):
    """Of every coordinate, leave the smallest and the largest values out, and average the rest."""

    trimmed_fraction: float
    """Fraction of a round's clients that is left out at either end, rounded down; withstands as
    many hostile ones."""

    def __post_init__(self) -> None:
        fraction = self.trimmed_fraction
        valid = isinstance(fraction, int | float) and 0 < fraction < 0.5
        require(valid, "rule.trimmed_fraction", fraction, "above 0 and below 0.5, such as 0.2")

    @property
    def fewest(self) -> int:
        """So many that one is left out at either end."""
        return math.ceil(1 / self.trimmed_fraction)

    @property
    def why(self) -> str:
        """Name the key that it follows from."""
        return f"rule.trimmed_fraction={self.trimmed_fraction:g} of fewer is none"

    def flower(self, n: int) -> FedTrimmedAvg:
        """Return the Flower strategy of n updates."""
        return FedTrimmedAvg(beta=self.trimmed_fraction)
