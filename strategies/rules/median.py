"""The coordinate-wise median (Yin et al. 2018): Flower's FedMedian on updates."""

from dataclasses import dataclass

from flwr.serverapp.strategy import FedMedian

from nufed.strategies.rules.robust import Robust


@dataclass(frozen=True)
class Median(Robust):
    """Take the median of every coordinate; withstands less than half of a round's clients."""

    @property
    def fewest(self) -> int:
        """Three."""
        return 3

    @property
    def why(self) -> str:
        """Say what two would come to."""
        return "the median of two is their mean"

    def flower(self, n: int) -> FedMedian:
        """Return the Flower strategy of n updates."""
        return FedMedian()
