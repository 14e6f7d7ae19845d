"""Figures that a client reports are such as float32 can hold, in float64 too."""

import math

import numpy as np
import pytest
import torch

from nufed.client_app.executor import Executor, OneByOne
from nufed.client_app.figures import MOST, all_finite, as_reported, reportable
from nufed.conf.compose import compose_config
from nufed.conf.schema import Config
from nufed.simulation.batched import Batched
from nufed.tasks.task import Task, build
from tests.helpers import measuring, training

CLIENTS = [0, 1, 2]


def test_what_float32_can_hold_is_reported_as_it_is() -> None:
    assert float(np.finfo(np.float32).max) == MOST
    assert as_reported([0.0, -1.5, MOST, -MOST]) == [0.0, -1.5, MOST, -MOST]
    beyond = as_reported([1e39, -1e300, math.inf, -math.inf, math.nan])
    assert beyond[:4] == [math.inf, -math.inf, math.inf, -math.inf]
    assert math.isnan(beyond[4])
    figures = torch.tensor([1.0, MOST, 1e39, math.inf, math.nan], dtype=torch.float64)
    assert reportable(figures).tolist() == [True, True, False, False, False]


def steep(alpha: float) -> tuple[Config, Task]:
    """Return least squares in float64, whose loss grows by about α² L² a fine-tuning step."""
    config = compose_config(
        [
            *("dataset=quadratics", "dataset.num_clients=3", "engine.precision=float64"),
            *("algorithm.nu=1", "algorithm.tau=2", "algorithm.beta=0.1", "evaluation.steps=3"),
            f"algorithm.alpha={alpha}",
        ]
    )
    return config, build(config)


@pytest.mark.parametrize("batched", [False, True])
def test_a_loss_that_float32_cannot_hold_is_divergence(batched: bool) -> None:
    """It is a finite number in float64, and each client's own: no other's reply is malformed."""
    for alpha, diverged in ((1e30, CLIENTS), (0.1, [])):
        config, task = steep(alpha)
        executor: Executor = Batched(config, task) if batched else OneByOne(task)
        job = training(config, CLIENTS)
        report = executor.train(task.initial_params(), job).report
        assert report.diverged == diverged
        assert report.diverged_at == [0] * len(diverged)
        assert report.clients == [client for client in CLIENTS if client not in diverged]


@pytest.mark.parametrize("batched", [False, True])
def test_a_curve_is_infinite_from_where_float32_would_be(batched: bool) -> None:
    config, task = steep(1e15)
    executor: Executor = Batched(config, task) if batched else OneByOne(task)
    report = executor.evaluate(
        task.initial_params(), measuring(config, CLIENTS, steps=3, alpha=1e15, batch=20)
    )
    loss = np.reshape(report.curves, (len(report.metrics), 3, 4))[report.metrics.index("loss")]
    assert np.isfinite(loss[:, :2]).all()
    assert (loss[:, 2:] == math.inf).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_are_finite_though_their_sum_is_not(dtype: torch.dtype) -> None:
    most = torch.finfo(dtype).max
    assert all_finite(torch.tensor([most, most, 1.0], dtype=dtype))
    for bad in (torch.inf, -torch.inf, torch.nan):
        assert not all_finite(torch.tensor([most, bad, 1.0], dtype=dtype))
    assert not all_finite(torch.tensor([torch.inf, -torch.inf], dtype=dtype))
    assert all_finite(torch.zeros(0, dtype=dtype))
