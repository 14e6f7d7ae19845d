"""Losses and metrics of one's own, on ragged clients: on a stack as one by one, and as by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchmetrics.functional as M
from torch import Tensor
from torch.func import functional_call

from nufed.client_app.executor import OneByOne
from nufed.client_app.meta_gradient import Params, trajectory
from nufed.client_app.personalization import personalization_curve
from nufed.simulation.batched import why_one_by_one
from tests.helpers import distance, unrolled_meta_gradient
from tests.simulation.helpers import (
    TOLERANCE,
    Setting,
    assert_same_curves,
    assert_same_training,
    batched,
    curves_of,
    evaluate_job,
    setting,
    train_job,
)

SIZES = (40, 9, 23, 14)  # rows a client
T, TOKENS = 6, 5
CHUNKS = (1, 3, 4)


def ragged(folder: Path, kind: str) -> tuple[str, ...]:
    """Write clients of unequal size with a task of some kind; return the overrides for it."""
    random, n = np.random.default_rng(0), sum(SIZES)
    client = np.repeat(np.arange(len(SIZES)), SIZES)
    if kind == "sequence":
        x = random.integers(TOKENS, size=(n, T))
        y = np.where(random.random((n, T)) < 0.3, -1, (x + client[:, None]) % TOKENS)
        y[:, 0] = np.maximum(y[:, 0], 0)
        model = ["model=transformer", "model.width=8", "model.heads=2", "model.depth=1"]
    else:
        x = random.normal(size=(n, 3))
        value = x[:, 0] * (client - 1.5) + random.normal(size=n)
        y = value if kind == "regression" else np.digitize(value, [-1, 1])
        model = ["model=mlp", "model.hidden=[8]"]
    np.savez(folder / "rows.npz", x=x, y=y, client=client)
    return ("dataset=npz", f"dataset.path={folder / 'rows.npz'}", *model)


def squared_hinge(outputs: Tensor, y: Tensor) -> Tensor:
    """A loss of one's own: one a row, and no `reduction` to ask for."""
    margin = 1 + outputs - outputs.gather(-1, y[:, None])
    return margin.clamp(min=0).square().sum(-1)


def is_right(outputs: Tensor, y: Tensor) -> Tensor:
    """A metric of one's own: a truth value a row."""
    return outputs.argmax(-1) == y


HUBER = "{_target_: torch.nn.functional.huber_loss, delta: 0.5}"
TARGETS = "torchmetrics.functional"
CASES: dict[str, tuple[str, list[str]]] = {
    "a function": ("regression", [f"task.loss={HUBER}"]),
    "a class": (
        "classes",
        ["task.loss={_target_: torch.nn.CrossEntropyLoss, label_smoothing: 0.1}"],
    ),
    "class weights": (
        "classes",
        ["task.loss={_target_: torch.nn.CrossEntropyLoss, weight: [1, 2, 4]}"],
    ),
    "one's own": ("classes", [f"task.loss={__name__}.squared_hinge"]),
    "one's own metric of rows": (
        "classes",
        [f"task.metrics={{right: {{_target_: {__name__}.is_right, higher_is_better: true}}}}"],
    ),
    "rows and sets": (
        "classes",
        [
            f"task.metrics.f1={TARGETS}.classification.multiclass_f1_score",
            "task.metrics.ece=torchmetrics.classification.MulticlassCalibrationError",
        ],
    ),
    "a set that some lack": (
        "classes",
        ["task.metrics={auroc: torchmetrics.classification.MulticlassAUROC}"],
    ),
    "a set alone": ("regression", [f"task.metrics.r2={TARGETS}.r2_score"]),
    "rows alone": ("regression", ["task.metrics.huber=torch.nn.HuberLoss"]),
    "sequences": ("sequence", []),
    "sequences, f1": (
        "sequence",
        [
            f"task.metrics.f1={TARGETS}.classification.multiclass_f1_score",
            "task.metrics.ce=torch.nn.functional.cross_entropy",
        ],
    ),
}


def case(folder: Path, name: str, precision: str = "float64") -> Setting:
    kind, task = CASES[name]
    task = [f"+{o}" if o.startswith("task.metrics.") else o for o in task]
    data = ragged(folder, kind)
    return setting(*data, *task, "algorithm.nu=2", f"engine.precision={precision}")


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("name", CASES)
def test_a_stack_is_each_client_by_itself(name: str, precision: str, tmp_path: Path) -> None:
    of = case(tmp_path, name, precision)
    assert why_one_by_one(of.task, of.params) is None
    alone, job = OneByOne(of.task), train_job(of, support=None)
    trained, measured = alone.train(of.params, job), alone.evaluate(of.params, evaluate_job(of))
    for chunk in CHUNKS:
        engine = batched(of, chunk_size=chunk)
        assert_same_training(engine.train(of.params, job), trained, TOLERANCE[precision])
        assert_same_curves(
            engine.evaluate(of.params, evaluate_job(of)), measured, 10 * TOLERANCE[precision]
        )


def by_hand(of: Setting, client: int, theta: Params) -> dict[str, float]:
    """Return what torch and torchmetrics say of a client's test rows, with nothing of ours."""
    data = of.task.data
    rows = data.partition.test_rows(client)
    x, y = torch.from_numpy(np.asarray(data.x)[rows]), torch.from_numpy(np.asarray(data.y)[rows])
    outputs = functional_call(of.task.module, theta, (x,))
    if y.ndim == 2:
        outputs, y = outputs[y >= 0], y[y >= 0]
    if y.dtype == torch.int64:
        n = outputs.shape[-1]
        return {
            "auroc": float(M.classification.multiclass_auroc(outputs, y, n))
            if len(set(y.tolist())) == n
            else float("nan"),
            "f1": float(M.classification.multiclass_f1_score(outputs, y, n)),
            "ece": float(M.classification.multiclass_calibration_error(outputs, y, n)),
            "ce": float(F.cross_entropy(outputs, y)),
            "accuracy": float(M.classification.multiclass_accuracy(outputs, y, n, "micro")),
            "weighted": float((F.cross_entropy(outputs, y, reduction="none") * (1 << y)).mean()),
            "smooth": float(F.cross_entropy(outputs, y, label_smoothing=0.1)),
            "hinge": float(
                np.mean(
                    [
                        float(squared_hinge(o[None], t[None]))
                        for o, t in zip(outputs, y, strict=True)
                    ]
                )
            ),
        }
    outputs = outputs[:, 0]
    return {
        "r2": float(M.r2_score(outputs, y)),
        "mae": float(M.mean_absolute_error(outputs, y)),
        "half": float(F.mse_loss(outputs, y)) / 2,
        "huber": float(F.huber_loss(outputs, y)),
        "huber half": float(F.huber_loss(outputs, y, delta=0.5)),
    }


EXPECTED = {
    "a function": {"loss": "huber half", "mae": "mae"},
    "a class": {"loss": "smooth", "accuracy": "accuracy"},
    "class weights": {"loss": "weighted", "accuracy": "accuracy"},
    "one's own metric of rows": {"loss": "ce", "right": "accuracy"},
    "one's own": {"loss": "hinge", "accuracy": "accuracy"},
    "rows and sets": {"loss": "ce", "f1": "f1", "ece": "ece"},
    "a set that some lack": {"loss": "ce", "auroc": "auroc"},
    "a set alone": {"loss": "half", "r2": "r2"},
    "rows alone": {"loss": "half", "huber": "huber"},
    "sequences": {"loss": "ce", "accuracy": "accuracy"},
    "sequences, f1": {"loss": "ce", "f1": "f1", "ce": "ce"},
}


@pytest.mark.parametrize("chunk", [1, 4])
@pytest.mark.parametrize("name", CASES)
def test_figures_are_those_of_torch_and_torchmetrics(name: str, chunk: int, tmp_path: Path) -> None:
    """Of the untrained model, of every client; 2 to 10 test rows, so that filler would show."""
    of = case(tmp_path, name)
    report = batched(of, chunk_size=chunk).evaluate(of.params, evaluate_job(of, steps=1))
    assert report.metrics == [*EXPECTED[name]]
    assert len({len(of.task.data.partition.test_rows(i)) for i in range(4)}) == 4
    for client, curves in curves_of(report).items():
        expected = by_hand(of, client, of.params)
        for metric, curve in zip(report.metrics, curves, strict=True):
            value = pytest.approx(expected[EXPECTED[name][metric]], abs=1e-7, nan_ok=True)
            assert curve[0] == value, metric


def test_fine_tuning_descends_ones_own_loss(tmp_path: Path) -> None:
    """θ¹ by plain autograd, through the Huber loss of all train rows."""
    of = case(tmp_path, "a function")
    rows = of.task.data.partition.train_rows(1)
    x, y = of.task.batch(rows)
    leaves = {name: p.clone().requires_grad_() for name, p in of.params.items()}
    loss = F.huber_loss(functional_call(of.task.module, leaves, (x,))[:, 0], y, delta=0.5)
    gradients = torch.autograd.grad(loss, list(leaves.values()))
    theta = {n: p - 0.2 * g for (n, p), g in zip(of.params.items(), gradients, strict=True)}
    test = of.task.batch(of.task.data.partition.test_rows(1))
    models = trajectory(of.task.loss, of.params, (x[None], y[None]), alpha=0.2)
    curve = personalization_curve(models, of.task.metrics, test)
    assert float(curve["loss"][1]) == pytest.approx(by_hand(of, 1, theta)["huber half"], abs=1e-12)


def test_the_meta_gradient_of_a_sequence_is_the_unrolled_one(tmp_path: Path) -> None:
    """Second derivatives of attention, layer norms and embeddings, with places left out."""
    from nufed.client_app.meta_gradient import meta_gradient

    of = case(tmp_path, "sequences")
    train = of.task.data.partition.train_rows(0)
    support, query = of.task.batch(train[:18].reshape(3, 6)), of.task.batch(train[18:24])
    assert (query[1] < 0).any()
    assert query[0].dtype == torch.int64

    def plain(params: Params, x: Tensor, y: Tensor) -> Tensor:
        outputs = functional_call(of.task.module, params, (x,))
        return F.cross_entropy(outputs.movedim(-1, 1), y, ignore_index=-1)

    expected = unrolled_meta_gradient(plain, of.params, support, query, alpha=0.3)
    assert max(float(p.abs().max()) for p in expected.values()) > 0.1
    for recompute in (False, True):
        found = meta_gradient(
            of.task.loss, of.params, support, query, alpha=0.3, recompute=recompute
        )
        assert distance(found, expected) < 1e-12
    first_order = meta_gradient(
        of.task.loss, of.params, support, query, alpha=0.3, mode="first_order"
    )
    assert distance(first_order, expected) > 1e-3


def test_a_run_reports_ones_own_metric_and_its_worst_clients(tmp_path: Path, train) -> None:  # type: ignore[no-untyped-def]
    """An error: its worst tenth are the largest; a score: the smallest."""
    data = ragged(tmp_path, "regression")
    metrics = f"task.metrics={{rmse: torchmetrics.MeanSquaredError, r2: {TARGETS}.r2_score}}"
    run = train([*data, metrics, "rounds=1", "evaluation.new_clients=[1]", "evaluation.steps=2"])
    group = run.summary["participating"]
    assert [name for name in group if f"{name}_std" in group] == ["loss", "rmse", "r2"]
    assert all(np.greater(group["rmse_bottom"], group["rmse"]))
    assert all(np.less(group["r2_bottom"], group["r2"]))
