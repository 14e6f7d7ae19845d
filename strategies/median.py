"""The coordinate-wise median (Yin et al. 2018): Flower's FedMedian on updates."""

from typing import Any

from flwr.serverapp.strategy import FedMedian

from nufed.strategies.robust import Robust


class Median(Robust):
    """Take the median of every coordinate; withstands less than half of a round's clients."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(
            *args,
            rule=lambda n: FedMedian(),
            fewest=3,
            why="the median of two is their mean",
            **kwargs,
        )
