"""Personalization curves: exact on quadratics, and never fine-tuned on test rows."""

import dataclasses
from dataclasses import replace

import numpy as np
import pytest
import torch

from nufed.client_app.client import evaluate
from nufed.client_app.meta_gradient import trajectory
from nufed.client_app.personalization import personalization_curve
from nufed.conf.compose import compose_config
from nufed.tasks.store import FederatedData
from nufed.tasks.task import Task, build
from nufed.theory import quadratics
from tests.helpers import measuring, quadratic_loss, random_quadratics

ASK = measuring(compose_config([]), [3], steps=5, alpha=0.3, batch=10)


def test_curve_in_closed_form() -> None:
    """Fine-tuned on client 0, measured on client 1: f_1(θ_0^k(w)) for k = 0 … 6."""
    hessians, optima = random_quadratics(2, 4, seed=1)
    h, c = torch.from_numpy(hessians), torch.from_numpy(optima)
    w = np.random.default_rng(2).normal(size=4)
    support = h[0].expand(6, -1, -1), c[0].expand(6, -1)
    curve = personalization_curve(
        trajectory(quadratic_loss, {"w": torch.from_numpy(w)}, support, alpha=0.3),
        lambda params, *batch: {"loss": quadratic_loss(params, *batch)},
        (h[1], c[1]),
    )
    thetas = [quadratics.fine_tuned(hessians[0], optima[0], w, 0.3, k) for k in range(7)]
    expected = [(t - optima[1]) @ hessians[1] @ (t - optima[1]) / 2 for t in thetas]
    assert curve["loss"].tolist() == pytest.approx(expected, abs=1e-10)


def with_labels(task: Task, rows: np.ndarray, labels: np.ndarray) -> Task:
    """The same task with other labels in some rows."""
    y = np.array(task.data.y)
    y[rows] = labels
    return dataclasses.replace(task, data=FederatedData(task.data.x, y, task.data.partition))


def test_evaluation_fine_tunes_on_train_rows_and_measures_on_test_rows() -> None:
    """Changed test labels change what is measured, by exactly what they must if the models stay the
    same; with fine-tuning on test rows the models would follow them, and this fails."""
    task = build(compose_config(["engine.precision=float64"]))
    params, job = task.initial_params(), dataclasses.replace(ASK, steps=30)
    partition = task.data.partition
    train, test = partition.train_rows(3), partition.test_rows(3)
    assert not set(train) & set(test)
    before = evaluate(task, params, job, 3)

    # Two-class client: with its test labels swapped, the same models have the opposite accuracy.
    first, second = np.unique(task.data.y[np.concatenate([train, test])])
    swapped = first + second - task.data.y[test]
    after = evaluate(with_labels(task, test, swapped), params, job, 3)
    assert before["accuracy"][-1] > 0.6, "the models must have learned something for this to tell"
    assert after["accuracy"][-1] == pytest.approx(1 - before["accuracy"][-1], abs=1e-12)

    retrained = evaluate(
        with_labels(task, train, first + second - task.data.y[train]), params, job, 3
    )
    assert retrained["accuracy"][0] == before["accuracy"][0]
    assert retrained["accuracy"][-1] < 0.5 < before["accuracy"][-1]


def test_the_curve_does_not_depend_on_the_round_or_on_who_else_is_asked() -> None:
    task = build(compose_config([]))
    params = task.initial_params()
    assert evaluate(task, params, ASK, 3) == evaluate(task, params, ASK, 3)
    other = replace(ASK, seed=1)
    assert evaluate(task, params, other, 3) != evaluate(task, params, ASK, 3)
