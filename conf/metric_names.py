"""Metrics by a short name: ``task.metrics=auroc``, or several, ``task.metrics=[accuracy,f1]``."""

from copy import deepcopy
from typing import Any

from nufed.conf.errors import InputError, nearest

OURS = "nufed.tasks.objective"
OF_CLASSES = "torchmetrics.classification.Multiclass"
KNOWN: dict[str, Any] = {
    "accuracy": {"_target_": f"{OURS}.is_right", "higher_is_better": True},
    "auroc": f"{OF_CLASSES}AUROC",
    "average_precision": f"{OF_CLASSES}AveragePrecision",
    "balanced_accuracy": {"_target_": f"{OURS}.balanced_accuracy", "higher_is_better": True},
    "f1": f"{OF_CLASSES}F1Score",
    "mae": {"_target_": f"{OURS}.off_by", "higher_is_better": False},
    "mse": "torchmetrics.MeanSquaredError",
    "precision": f"{OF_CLASSES}Precision",
    "r2": "torchmetrics.R2Score",
    "recall": f"{OF_CLASSES}Recall",
    "rmse": {"_target_": "torchmetrics.MeanSquaredError", "squared": False},
}


def by_name(metrics: Any) -> Any:
    """Return `task.metrics` as ``{name: metric}``, of one or several short names; others as given.

    Raises
    ------
    InputError
        For a name that is not known.
    """
    if isinstance(metrics, str):
        metrics = [name.strip() for name in metrics.split(",")]
    if not isinstance(metrics, list | tuple):
        return metrics
    for name in metrics:
        if name not in KNOWN:
            raise InputError(
                f"task.metrics={name}: no such name; {nearest(str(name), [*KNOWN])}; any other is "
                "said as {name: package.Metric}"
            )
    return {name: deepcopy(KNOWN[name]) for name in metrics}
