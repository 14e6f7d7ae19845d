"""Losses and metrics by name: what they are given, which way is up, and what is refused."""

import builtins
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nufed.client_app.algorithm import algorithm_of
from nufed.client_app.work import task_for
from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from nufed.conf.schema import TaskConfig
from nufed.tasks.measures import lower_is_better
from nufed.tasks.task import Task

Save = Callable[..., Path]


def total(outputs: Tensor, y: Tensor) -> Tensor:
    return (outputs - y).square().mean()


def flat(outputs: Tensor, y: Tensor) -> Tensor:
    return torch.zeros(len(y))


def pairs(outputs: Tensor, y: Tensor) -> Tensor:
    return torch.zeros(2)


def lists(outputs: Tensor, y: Tensor) -> Any:
    return y.tolist()


def pinball(outputs: Tensor, y: Tensor) -> Tensor:
    """Two quantiles of one target: two outputs a row, as only this loss knows."""
    off = y[:, None] - outputs
    return torch.maximum(off * torch.tensor([0.1, 0.9]), -off * torch.tensor([0.9, 0.1]))


def spread(outputs: Tensor, y: Tensor) -> Tensor:
    return outputs.std()


HERE = __name__
REAL = [0.5, 1.5, -2.0, 0.0, 1.0, 3.0]


def task(path: Path, *overrides: str) -> Task:
    data = ["dataset=npz", f"dataset.path={path}", "model=logistic"]
    config = compose_config([*data, *overrides])
    return task_for(algorithm_of(config.algorithm), config)


@pytest.mark.parametrize(
    ("entry", "lower"),
    [
        ("torch.nn.functional.l1_loss", True),
        ("torch.nn.HuberLoss", True),
        ("torchmetrics.MeanAbsoluteError", True),
        ("torchmetrics.R2Score", False),
        ("torchmetrics.functional.mean_absolute_error", True),
        ("torchmetrics.functional.r2_score", False),
        ("torchmetrics.functional.classification.multiclass_auroc", False),
        ("torchmetrics.functional.classification.multiclass_calibration_error", True),
        ("torchmetrics.functional.classification.multiclass_f1_score", False),
        ({"_target_": f"{HERE}.spread", "higher_is_better": False}, True),
        ({"_target_": "torchmetrics.R2Score", "higher_is_better": False}, True),
    ],
)
def test_which_way_is_up(entry: Any, lower: bool) -> None:
    """As the entry says, or torchmetrics does, also of functions; a loss is to be low."""
    assert ("mine" in lower_is_better(TaskConfig(metrics={"mine": entry}))) == lower


def test_where_no_one_says_which_way_is_up_it_is_asked() -> None:
    with pytest.raises(
        InputError, match=r"^task\.metrics\.mine=.*spread: is higher .*true, higher|lower"
    ):
        lower_is_better(TaskConfig(metrics={"mine": f"{HERE}.spread"}))
    with pytest.raises(InputError, match="is higher or lower better"):
        lower_is_better(
            TaskConfig(metrics={"m": "torchmetrics.classification.MulticlassConfusionMatrix"})
        )


def test_names_of_ones_own_go_before_ours() -> None:
    """An accuracy that is an error is one; what is not named keeps its way."""
    entry = {"_target_": f"{HERE}.spread", "higher_is_better": False}
    found = lower_is_better(TaskConfig(metrics={"accuracy": entry}))
    assert found == {"loss", "mae", "accuracy"}
    assert lower_is_better(TaskConfig()) == {"loss", "mae"}


def test_a_loss_may_want_more_outputs_than_targets(save: Save) -> None:
    """Two quantiles by a model of two outputs; the mean over both is the row's loss."""
    of = task(save(y=REAL), f"task.loss={HERE}.pinball", "+model.num_outputs=2", "task.metrics={}")
    params, (x, y) = of.initial_params(), of.batch(np.arange(6))
    weight, bias = params.values()
    off = y.numpy()[:, None] - (x.numpy() @ weight.numpy().T + bias.numpy())
    rates = np.array([0.1, 0.9])
    expected = np.maximum(rates * off, (rates - 1) * off).mean()
    assert float(of.loss(params, x, y)) == pytest.approx(expected, rel=1e-5)
    assert of.metrics(params, x, y).keys() == {"loss"}


def test_the_number_of_classes_is_that_of_the_model(save: Save) -> None:
    """Twelve outputs for three classes: torchmetrics refuses any other number."""
    f1 = "torchmetrics.functional.classification.multiclass_f1_score"
    of = task(save(), f"+task.metrics.f1={f1}", "+model.num_outputs=12")
    scores = of.metrics(of.initial_params(), *of.batch(np.arange(6)))
    assert 0 <= float(scores["f1"]) <= 1
    fixed = f"task.metrics={{f1: {{_target_: {f1}, num_classes: 3}}}}"
    with pytest.raises(
        InputError, match=r"^task\.metrics\.f1: fails on outputs \[6, 12\] and y \[6\]"
    ):
        task(save(), fixed, "+model.num_outputs=12")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (f"task.loss={HERE}.total", ["task.loss=", "shape [] for 6 rows", "one value a row"]),
        (f"task.loss={HERE}.flat", ["task.loss=", "no gradient"]),
        (f"task.loss={HERE}.lists", ["task.loss=", "gives a list"]),
        (f"task.loss={HERE}.absent", ["task.loss=", "absent"]),
        (f"task.loss={HERE}.HERE", ["task.loss=", "is a str, which cannot be called"]),
        ("task.loss=nowhere.loss", ["task.loss=nowhere.loss", "nowhere"]),
        ("task.loss=3", ["task.loss=3: must be a name"]),
        ("task.loss={delta: 1}", ["task.loss=", "must be a name"]),
        (
            "task.loss={_target_: torch.nn.HuberLoss, gamma: 1}",
            ["task.loss=torch.nn.HuberLoss", "gamma"],
        ),
        ("task.loss=torch.nn.functional.cross_entropy", ["gives shape [] for 6 rows"]),
        ("task.metrics=5", ["task.metrics=5: must be name:"]),
        ("task.metrics={loss: torch.nn.L1Loss}", ["task.metrics=loss: must be a plain name"]),
        ("task.metrics={rows: torch.nn.L1Loss}", ["task.metrics=rows: must be a plain name"]),
        ("task.metrics={a_std: torch.nn.L1Loss}", ["task.metrics=a_std"]),
        ("task.metrics={a b: torch.nn.L1Loss}", ["task.metrics=a b"]),
        (f"task.metrics={{{'a' * 101}: torch.nn.L1Loss}}", ["must be at most 100 long"]),
        (
            f"task.metrics={{m: {{_target_: {HERE}.pairs, higher_is_better: true}}}}",
            ["task.metrics.m: gives shape [2]", "one number, or one value a row"],
        ),
        (
            f"task.metrics={{m: {{_target_: {HERE}.total, higher_is_better: 1}}}}",
            ["task.metrics.m.higher_is_better=1: must be true or false"],
        ),
    ],
)
def test_what_cannot_be_used_is_refused_before_a_run(
    save: Save, override: str, words: list[str]
) -> None:
    with pytest.raises(InputError) as caught:
        task(save(y=REAL), override)
    assert [word for word in words if word not in str(caught.value)] == []
    assert "\n" not in str(caught.value)


def spread_out(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return a loss of two outputs for one target: a mean, and the logarithm of a variance."""
    mean, log_variance = outputs.unbind(-1)
    return (mean - y.flatten()) ** 2 / log_variance.exp() + log_variance


def test_a_loss_of_other_outputs_than_targets_says_what_to_report(save: Save) -> None:
    two = ["model=custom", "model._target_=torch.nn.LazyLinear", "+model.out_features=2"]
    loss = f"task.loss={HERE}.spread_out"
    with pytest.raises(InputError, match=r"outputs \[6, 2\] for targets \[6\] there is no mae"):
        task(save(y=REAL), loss, *two)
    assert task(save(y=REAL), loss, "task.metrics={}", *two).objective.names == ("loss",)


def test_a_loss_without_a_second_derivative_serves_where_none_is_needed(save: Save) -> None:
    """PyTorch has none of the multi-class hinge."""
    hinge = "task.loss=torch.nn.functional.multi_margin_loss"
    with pytest.raises(InputError, match=r"multi_margin_loss: derivative .* algorithm\.mode=hess"):
        task(save(), hinge)
    for other in ("algorithm.mode=first_order", "algorithm=fedavg"):
        of = task(save(), hinge, other)
        x, y = of.batch(np.arange(6))
        scores = of.predict(of.initial_params(), x)
        margin = (1 + scores - scores.gather(1, y[:, None])).clamp(min=0)
        expected = (margin.sum(1) - 1) / 3
        assert float(of.loss(of.initial_params(), x, y)) == pytest.approx(float(expected.mean()))


def test_a_mistyped_name_is_answered_with_the_nearest(save: Save) -> None:
    with pytest.raises(InputError, match=r"; did you mean torch\.nn\.functional\.mse_loss\?$"):
        task(save(y=REAL), "task.loss=torch.nn.functional.mse_los")
    with pytest.raises(InputError, match=r"did you mean torchmetrics\.regression\.R2Score\?$"):
        task(save(y=REAL), "+task.metrics.r2=torchmetrics.regression.R2Scor")


def test_without_torchmetrics_the_line_says_so(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine where it is not installed."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchmetrics"]:
        monkeypatch.delitem(sys.modules, name)
    given = builtins.__import__

    def absent(name: str, *rest: Any, **named: Any) -> Any:
        if name.partition(".")[0] == "torchmetrics":
            raise ModuleNotFoundError(f"No module named {name!r}")
        return given(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", absent)
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    with pytest.raises(InputError, match=r"needs torchmetrics; pip install torchmetrics$"):
        task(save(y=REAL), "+task.metrics.r2=torchmetrics.functional.r2_score")


def is_right(outputs: Tensor, y: Tensor) -> Tensor:
    """Return one truth value a row, and take no `reduction`."""
    return outputs.argmax(-1) == y


def per_output(outputs: Tensor, y: Tensor) -> Tensor:
    """Return as many values as there are outputs, which may be as many as rows."""
    return outputs.mean(0)


def weighted(outputs: Tensor, y: Tensor, weight: Any) -> Tensor:
    return torch.nn.functional.cross_entropy(outputs, y, reduction="none") * weight[y]


def listed(outputs: Tensor, y: Tensor, weights: list[float]) -> Tensor:
    assert isinstance(weights, list)
    return torch.nn.functional.cross_entropy(outputs, y, reduction="none") * weights[0]


@pytest.mark.parametrize("weighted", [False, True])
def test_a_metric_of_each_row_is_found_to_be_one(save: Save, weighted: bool) -> None:
    """And is the mean of the rows that count, so that clients may be stacked."""
    mine = f"+task.metrics.mine={{_target_: {HERE}.is_right, higher_is_better: true}}"
    of = task(save(), mine, "+task.metrics.l1=torch.nn.functional.cross_entropy")
    assert of.objective.by_row
    params, (x, y) = of.initial_params(), of.batch(np.arange(6))
    count = torch.tensor([True, False, True, True, False, True] if weighted else [True] * 6)
    right = of.predict(params, x).argmax(-1) == y
    scores = of.metrics(params, x, y, count if weighted else None)
    assert float(scores["mine"]) == pytest.approx(float(right[count].float().mean()))


def test_as_many_outputs_as_rows_are_no_values_of_rows(save: Save) -> None:
    mine = f"+task.metrics.mine={{_target_: {HERE}.per_output, higher_is_better: true}}"
    with pytest.raises(InputError, match=r"mine: gives shape \[6\] for 6 rows; it must be one nu"):
        task(save(), mine, "+model.num_outputs=6")


@pytest.mark.parametrize(
    "loss",
    [
        "{_target_: torch.nn.CrossEntropyLoss, weight: [1, 2, 4]}",
        "{_target_: torch.nn.functional.cross_entropy, weight: [1, 2, 4]}",
        f"{{_target_: {HERE}.weighted, weight: [1, 2, 4]}}",
    ],
)
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_class_weights_may_be_a_list(save: Save, loss: str, precision: str) -> None:
    """Each row's loss times the weight of its class; the mean over rows, whatever their weights."""
    of = task(save(), f"task.loss={loss}", f"engine.precision={precision}")
    plain = task(save(), f"engine.precision={precision}")
    params, (x, y) = of.initial_params(), of.batch(np.arange(6))
    rows = [float(plain.loss(params, x[[i]], y[[i]])) for i in range(6)]
    expected = np.mean(np.array(rows) * np.array([1, 2, 4])[y])
    value = of.loss(params, x, y)
    assert value.dtype == of.dtype
    assert float(value) == pytest.approx(expected, rel=1e-6)


def test_a_list_that_a_loss_asks_for_stays_one(save: Save) -> None:
    of = task(save(), f"task.loss={{_target_: {HERE}.listed, weights: [3, 2]}}")
    params, (x, y) = of.initial_params(), of.batch(np.arange(6))
    assert float(of.loss(params, x, y)) == pytest.approx(3 * float(task(save()).loss(params, x, y)))


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        ("weight: [1, 2]", r"^task\.loss=torch\.nn\.CrossEntropyLoss: fails on .* 3 classes"),
        ("weight: [a, b, c]", r"^task\.loss=torch\.nn\.CrossEntropyLoss: "),
        ("reduction: sum", r"^task\.loss\.reduction=sum: must be left out"),
        ("reduction: mean, weight: [1, 2, 4]", r"^task\.loss\.reduction=mean: must be left out"),
    ],
)
def test_weights_and_means_that_cannot_be_kept_are_refused(
    save: Save, loss: str, words: str
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        task(save(), f"task.loss={{_target_: torch.nn.CrossEntropyLoss, {loss}}}")
    assert "\n" not in str(caught.value)
