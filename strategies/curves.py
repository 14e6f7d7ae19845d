"""Statistics over clients of their personalization curves."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.ids import ClientIds, Id
from tasks.objective import LOWER_IS_BETTER

GROUPS = ("participating", "new")
"""The two kinds of clients that are measured apart."""


@dataclass(frozen=True)
class Members:
    """The clients of one group that were measured, one by one."""

    clients: list[Id]
    """By number in a strategy, by id where they leave it."""
    rows: list[int | None]
    """Train rows of each; None where its node has left."""
    curves: dict[str, NDArray[np.float64]]
    """Each metric's curves, [clients, K + 1]."""


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation measured, client by client."""

    round: int
    groups: dict[str, Members]

    def by_id(self, ids: ClientIds) -> "Evaluation":
        """Return the same of clients by their ids, not their numbers."""
        called = {
            group: replace(members, clients=[ids[int(client)] for client in members.clients])
            for group, members in self.groups.items()
        }
        return replace(self, groups=called)


def summarize(
    curves: dict[str, NDArray[np.float64]], lower_is_better: Collection[str] = LOWER_IS_BETTER
) -> dict[str, list[float]]:
    """Condense curves [clients, K + 1] to mean, std, worst decile and bottom client at each k.

    The mean goes by the metric's own name; ``_std`` is over clients, ``_worst_decile`` the mean of
    the worst tenth of them (at least one), ``_bottom`` the worst served client.
    """
    summary: dict[str, list[float]] = {}
    for name, values in curves.items():
        worse = values if name in lower_is_better else -values
        order = np.argsort(-np.where(np.isfinite(values), worse, np.inf), axis=0)
        worst_first = np.take_along_axis(values, order, axis=0)
        tenth = math.ceil(len(values) / 10)
        summary[name] = values.mean(0).tolist()
        summary[f"{name}_std"] = values.std(0).tolist()
        summary[f"{name}_worst_decile"] = worst_first[:tenth].mean(0).tolist()
        summary[f"{name}_bottom"] = worst_first[0].tolist()
    return summary


def shown(summary: Mapping[str, Any]) -> str:
    """Return the metric that people are shown of a group's summary: the first beside the loss."""
    metrics = [name for name in summary if f"{name}_worst_decile" in summary]
    return next((name for name in metrics if name != "loss"), "loss")


def rises(curve: Sequence[float], *, lower_is_better: bool) -> bool:
    """Tell whether fine-tuning still pays at its last step, half as much as a step did on average.

    Not of a curve whose whole gain is below a fiftieth of where it ends, which may be noise.
    """
    values = np.asarray(curve, np.float64)
    if len(values) < 3 or not np.isfinite(values).all():
        return False
    gains = np.diff(-values if lower_is_better else values)
    return bool(gains.sum() > abs(values[-1]) / 50 and gains[-1] >= gains.mean() / 2)
