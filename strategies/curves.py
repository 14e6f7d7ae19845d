"""Statistics over clients of their personalization curves."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nufed.tasks.ids import ClientIds, Id
from nufed.tasks.objective import LOWER_IS_BETTER

GROUPS = ("participating", "new")
"""The two kinds of clients that are measured apart."""

STATISTICS = ("", "_std", "_worst_decile", "_bottom")
"""What the names of statistics over clients end with, after the metric's."""
UNDEFINED = "_undefined"


@dataclass(frozen=True)
class Members:
    """The clients of one group that were measured, one by one."""

    clients: list[Id]
    """By number in a strategy, by id where they leave it."""
    rows: list[int | None]
    """Train rows of each; None where its node has left."""
    curves: dict[str, NDArray[np.float64]]
    """Each metric's curves, [clients, K + 1]."""
    test_rows: list[int] | None = None
    """Rows that each was measured on; None where these are with the clients alone."""


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation measured, client by client."""

    round: int
    groups: dict[str, Members]

    def counted(self, test_rows: Callable[[int], int]) -> "Evaluation":
        """Return the same with how many rows each client, by its number, was measured on."""
        known = {
            group: replace(members, test_rows=[test_rows(int(i)) for i in members.clients])
            for group, members in self.groups.items()
        }
        return replace(self, groups=known)

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
    the worst tenth of them (at least one), ``_bottom`` the worst served client. Clients for whom a
    metric does not exist are left out of all four, which are NaN where it exists for nobody, and
    ``_undefined`` counts them, where there are any. One that diverged is the worst served.
    """
    summary: dict[str, list[float]] = {}
    for name, values in curves.items():
        missing = undefined(values, curves.get("loss", values))
        kept = [column[~left_out] for column, left_out in zip(values.T, missing.T, strict=True)]
        statistics = [_statistics(column, name in lower_is_better) for column in kept]
        for end, found in zip(STATISTICS, zip(*statistics, strict=True), strict=True):
            summary[name + end] = list(found)
        if missing.any():
            summary[name + UNDEFINED] = missing.sum(0).tolist()
    return summary


def undefined(values: NDArray[np.float64], loss: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell where a metric does not exist: it is NaN though the loss is finite, so no divergence."""
    found: NDArray[np.bool_] = np.isnan(values) & np.isfinite(loss)
    return found


def _statistics(values: NDArray[np.float64], lower_is_better: bool) -> tuple[float, ...]:
    """Return mean, std, worst decile and bottom of values [clients], as `STATISTICS` has them."""
    if len(values) == 0:
        return (math.nan,) * len(STATISTICS)
    worse = values if lower_is_better else -values
    worst_first = values[np.argsort(-np.where(np.isfinite(values), worse, np.inf))]
    worst = worst_first[: math.ceil(len(values) / 10)]
    return float(values.mean()), float(values.std()), float(worst.mean()), float(worst[0])


def missing(summary: Mapping[str, Any], metric: str, k: int = -1) -> int:
    """Return for how many clients of a group a metric does not exist after k steps."""
    counts = summary.get(metric + UNDEFINED)
    return int(counts[k]) if counts else 0


def exists(summary: Mapping[str, Any], metric: str, k: int = -1) -> bool:
    """Tell whether a metric exists for any client of a group after k steps."""
    return missing(summary, metric, k) < int(summary["clients"])


def say_undefined(row: Mapping[str, Any]) -> list[str]:
    """Say for how many clients which metrics of an evaluation do not exist, and why; a line each.

    Parameters
    ----------
    row
        A round's row of metrics.jsonl, or a summary.
    """
    groups = {group: row[group] for group in GROUPS if group in row}
    lines = list[str]()
    for metric in dict.fromkeys(name for curves in groups.values() for name in curves):
        counts = [
            f"{max(curves[metric + UNDEFINED])} of {curves['clients']} {group}"
            for group, curves in groups.items()
            if metric + UNDEFINED in curves
        ]
        if counts:
            why = "; ".join(row.get("undefined", {}).get(metric, [])) or "it is NaN"
            lines.append(
                f"{metric} is undefined for {' and '.join(counts)} clients ({why}); its figures "
                "are of the others"
            )
    return lines


def shown(summary: Mapping[str, Any]) -> str:
    """Return the metric that people are shown of a group's summary: the first beside the loss."""
    return (metrics_of(summary) or ["loss"])[0]


def metrics_of(summary: Mapping[str, Any]) -> list[str]:
    """Return the metrics of a group's summary beside the loss."""
    return [name for name in summary if f"{name}_worst_decile" in summary and name != "loss"]


def rises(curve: Sequence[float], *, lower_is_better: bool) -> bool:
    """Tell whether fine-tuning still pays at its last step, half as much as a step did on average.

    Not of a curve whose whole gain is below a fiftieth of where it ends, which may be noise.
    """
    values = np.asarray(curve, np.float64)
    if len(values) < 3 or not np.isfinite(values).all():
        return False
    gains = np.diff(-values if lower_is_better else values)
    return bool(gains.sum() > abs(values[-1]) / 50 and gains[-1] >= gains.mean() / 2)
