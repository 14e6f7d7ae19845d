"""A metric that does not exist for some rows is NaN, and the reason is told; its value else."""

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from nufed.conf.compose import compose_config
from nufed.tasks.task import Task, build
from nufed.tasks.undefined import MOST, note, noting

Save = Callable[..., Path]
M = "torchmetrics.classification"
F = "torchmetrics.functional"
REAL = [0.5, 1.5, -2.0, 0.0, 1.0, 3.0]


def second(outputs: Tensor, y: Tensor) -> Tensor:
    """AUROC of one's own, by torchmetrics, of class 1 against class 0."""
    from torchmetrics.functional.classification import binary_auroc

    return binary_auroc(outputs.softmax(-1)[:, 1], y)


def by_sklearn(outputs: Tensor, y: Tensor) -> Tensor:
    if len(set(y.tolist())) < 2:
        raise ValueError("Only one class is present")
    return torch.tensor(roc_auc_score(y.numpy(), outputs.detach().numpy()[:, 1]))


def loud(outputs: Tensor, y: Tensor) -> Tensor:
    warnings.warn("as it happens", UserWarning, stacklevel=1)
    return outputs.mean()


def broken(outputs: Tensor, y: Tensor) -> Tensor:
    if len(y) < 6:
        raise TypeError("a mistake")
    return outputs.mean()


def task(path: Path, metric: Any, *overrides: str) -> Task:
    data = ["dataset=npz", f"dataset.path={path}", "model=logistic", *overrides]
    return build(compose_config([*data, f"task.metrics={{mine: {metric}}}"]))


def measured(of: Task, y: list[Any]) -> tuple[float, list[str]]:
    """Return the metric of some rows with these targets, and what is noted meanwhile."""
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(len(y), 4))).to(of.dtype)
    with noting() as noted:
        scores = of.metrics(of.initial_params(), x, torch.tensor(y))
    assert math.isfinite(scores["loss"])
    return float(scores["mine"]), noted


def named(target: str, **arguments: Any) -> str:
    given = "".join(f", {name}: {value}" for name, value in arguments.items())
    return f"{{_target_: {target}{given}}}"


TWO, THREE, ONE = [0, 1, 1, 0], [0, 1, 2, 0], [1, 1, 1]
OWN = {"higher_is_better": "true"}
CASES: dict[str, tuple[str, list[Any], str | None]] = {
    "AUROC": (f"{M}.MulticlassAUROC", THREE, None),
    "AUROC of one class": (f"{M}.MulticlassAUROC", ONE, "no row of class 0"),
    "AUROC of two of three": (f"{M}.MulticlassAUROC", TWO, "no row of class 2"),
    "weighted, of two of three": (named(f"{M}.MulticlassAUROC", average="weighted"), TWO, None),
    "weighted, of one": (
        named(f"{M}.MulticlassAUROC", average="weighted"),
        ONE,
        "rows of one class alone",
    ),
    "binned": (named(f"{M}.MulticlassAUROC", thresholds=20), TWO, "no row of class 2"),
    "a function": (f"{F}.classification.multiclass_auroc", ONE, "no row of class 0"),
    "by task": (named(f"{F}.auroc", task="multiclass", **OWN), ONE, "no row of class 0"),
    "a class by task": (
        named("torchmetrics.AUROC", task="multiclass", **OWN),
        ONE,
        "no row of class 0",
    ),
    "precision, binned": (
        named(f"{M}.MulticlassAveragePrecision", thresholds=20),
        TWO,
        "no row of class 2",
    ),
    "precision leaves classes out": (f"{M}.MulticlassAveragePrecision", TWO, None),
    "precision of one class": (f"{M}.MulticlassAveragePrecision", ONE, "rows of one class alone"),
    "F1 has its own convention": (f"{M}.MulticlassF1Score", ONE, None),
    "kappa": (f"{M}.MulticlassCohenKappa", THREE, None),
    "one's own": (named(f"{__name__}.second", **OWN), TWO, None),
    "one's own, of one class": (named(f"{__name__}.second", **OWN), ONE, "No negative samples in"),
    "scikit-learn": (named(f"{__name__}.by_sklearn", **OWN), TWO, None),
    "scikit-learn, of one class": (
        named(f"{__name__}.by_sklearn", **OWN),
        ONE,
        "Only one class is present",
    ),
}
REGRESSIONS: dict[str, tuple[str, list[float], str | None]] = {
    "R²": ("torchmetrics.R2Score", [1.0, 2.0], None),
    "R² of one row": ("torchmetrics.R2Score", [1.0], "fewer than 2 rows"),
    "a function": (f"{F}.r2_score", [1.0], "fewer than 2 rows"),
    "adjusted R²": (named("torchmetrics.R2Score", adjusted=2), [1.0, 2, 3], "fewer than 4 rows"),
    "rank of the same": ("torchmetrics.SpearmanCorrCoef", [2.0, 2.0], "targets that are all the"),
    "correlation": (
        named("torchmetrics.PearsonCorrCoef", **OWN),
        [2.0, 2.0],
        "The variance of predictions or",
    ),
    "relative to nothing": ("torchmetrics.RelativeSquaredError", [1.0], "targets that are all"),
    "the error of one row": ("torchmetrics.MeanAbsoluteError", [1.0], None),
}


@pytest.mark.parametrize("name", [*CASES, *REGRESSIONS])
@pytest.mark.filterwarnings("ignore:Metric `Spearman")
def test_a_metric_exists_or_says_why_not(name: str, save: Save) -> None:
    regression = name not in CASES
    metric, y, why = REGRESSIONS[name] if regression else CASES[name]
    classes = [0, 1, 0, 1, 0, 1] if __name__ in metric else [0, 1, 2, 1, 0, 1]
    of = task(save(y=REAL if regression else classes), metric)
    value, noted = measured(of, y)
    if why is None:
        assert math.isfinite(value)
        assert noted == []
    else:
        assert math.isnan(value)
        (line,) = noted
        assert line.startswith(f"mine: {why}")


def test_its_value_is_that_of_the_rows_that_count(save: Save) -> None:
    """Rows that fill up may be of other classes: those are not there."""
    of = task(save(y=[0, 1, 0, 1, 0, 1]), named(f"{__name__}.second", **OWN))
    x, y = of.batch(np.arange(6))
    params, counted = of.initial_params(), torch.tensor([True, True, False, False, False, True])
    right = by_sklearn(of.predict(params, x)[counted].softmax(-1), y[counted])
    assert float(of.metrics(params, x, y, counted)["mine"]) == pytest.approx(float(right))
    alone = torch.tensor([True, False, True, False, False, False])
    assert math.isnan(of.metrics(params, x, y, alone)["mine"])


def test_a_metric_that_has_no_rows_to_be_tried_on_is_taken(save: Save) -> None:
    """Whose data hold one class, or one row a client, still has the others' metric."""
    one = "dataset.one_class=keep"
    assert math.isnan(measured(task(save(y=[1] * 6), f"{M}.MulticlassAUROC", one), [1, 1])[0])


def test_other_warnings_are_passed_on_and_mistakes_are_no_missing_value(save: Save) -> None:
    with pytest.warns(UserWarning, match="as it happens"):
        measured(task(save(), named(f"{__name__}.loud", **OWN)), TWO)
    with pytest.raises(TypeError, match="a mistake"):
        measured(task(save(), named(f"{__name__}.broken", **OWN)), TWO)


def test_reasons_are_few() -> None:
    with noting() as noted:
        for i in range(100):
            note("auroc", f"no row {i}")
            note("auroc", "no row 0")
    assert len(noted) == MOST
    note("auroc", "nobody asks")
