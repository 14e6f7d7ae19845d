"""Statistics over clients of their personalization curves."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GROUPS = ("participating", "new")
"""The two kinds of clients that are measured apart."""

LOSSES = ("loss", "train_loss")  # every other metric is a score


def higher_is_better(metric: str) -> bool:
    """Tell whether a metric is a score, rather than a loss."""
    return metric not in LOSSES


@dataclass(frozen=True)
class Members:
    """The clients of one group that were measured, one by one."""

    clients: list[int]
    rows: list[int | None]
    """Train rows of each; None where its node has left."""
    curves: dict[str, NDArray[np.float64]]
    """Each metric's curves, [clients, K + 1]."""


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation measured, client by client."""

    round: int
    groups: dict[str, Members]


def summarize(curves: dict[str, NDArray[np.float64]]) -> dict[str, list[float]]:
    """Condense curves [clients, K + 1] to mean, std, worst decile and bottom client at each k.

    The mean goes by the metric's own name; ``_std`` is over clients, ``_worst_decile`` the mean of
    the worst tenth of them (at least one), ``_bottom`` the worst served client.
    """
    summary: dict[str, list[float]] = {}
    for name, values in curves.items():
        worst_first = np.sort(values, axis=0)
        if not higher_is_better(name):
            worst_first = worst_first[::-1]
        tenth = math.ceil(len(values) / 10)
        summary[name] = values.mean(0).tolist()
        summary[f"{name}_std"] = values.std(0).tolist()
        summary[f"{name}_worst_decile"] = worst_first[:tenth].mean(0).tolist()
        summary[f"{name}_bottom"] = worst_first[0].tolist()
    return summary
