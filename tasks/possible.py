"""Between what a metric always is, where its name tells: an interval beyond says nothing true."""

import re
from collections.abc import Mapping
from math import inf
from typing import Any, NamedTuple

from nufed.conf.metric_names import OURS
from nufed.conf.schema import TaskConfig


class Limits(NamedTuple):
    """The least and the most that something can be."""

    low: float = -inf
    high: float = inf

    @property
    def of_differences(self) -> "Limits":
        """The least and the most that a difference of two can be."""
        return Limits(self.low - self.high, self.high - self.low)


SHARE, POSITIVE, CORRELATION = Limits(0, 1), Limits(0), Limits(-1, 1)
UNKNOWN = Limits()
KINDS = re.compile("^(binary|multiclass|multilabel)")
NAMES = {
    SHARE: "accuracy auroc averageprecision exactmatch f1score fbetascore hammingdistance "
    "jaccardindex negativepredictivevalue precision recall specificity",
    POSITIVE: "crossentropy crossentropyloss huberloss l1loss mseloss smoothl1loss logcosherror "
    "meanabsoluteerror meanabsolutepercentageerror meansquarederror meansquaredlogerror",
    CORRELATION: "cohenkappa kendallrankcorrcoef matthewscorrcoef pearsoncorrcoef spearmancorrcoef",
    Limits(high=1): "explainedvariance r2score",
}
KNOWN = {name: each for each, names in NAMES.items() for name in names.split()}
"""Of torch and torchmetrics, classes and functions alike; torchmetrics' own limits are of plots."""

OWN = {"balanced_accuracy": SHARE}
OWN |= dict.fromkeys(("accuracy", "is_right"), SHARE) | dict.fromkeys(("mae", "off_by"), POSITIVE)
"""Of what is ours, by its name and by that of its function."""


def limits(task: TaskConfig, metric: str) -> Limits:
    """Return the limits of a metric, or of the loss, that a task reports.

    By the configuration alone: what it names is not imported. What nobody knows has none.
    """
    if metric == "loss":
        return POSITIVE if task.loss is None else _named(task.loss)
    if task.metrics is None:
        return OWN.get(metric, UNKNOWN)
    entries = task.metrics if isinstance(task.metrics, Mapping) else {}
    return _named(entries.get(metric))


def _named(entry: Any) -> Limits:
    path = entry.get("_target_") if isinstance(entry, Mapping) else entry
    package, _, name = str(path).rpartition(".")
    if package == OURS:
        return OWN.get(name, UNKNOWN)
    if package.split(".")[0] not in ("torch", "torchmetrics"):
        return UNKNOWN
    return KNOWN.get(KINDS.sub("", name.replace("_", "").lower()), UNKNOWN)
