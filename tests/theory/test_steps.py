"""Step sizes from curvature: that of every client, as autograd has it entry by entry."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from conf.compose import compose_config
from tasks.store import FederatedData
from tasks.task import Task, build
from theory.steps import Curvature, curvature, suggested_steps


def bent() -> Task:
    """Return digits (three clients) under a net of seven parameters: Lanczos is exact then."""
    task = build(compose_config(["partition=iid", "partition.num_clients=3"]))
    torch.manual_seed(0)
    first = np.asarray(task.data.x).reshape(len(task.data.x), -1)[:, [20, 28]]
    data = FederatedData(first.astype(np.float64), np.asarray(task.data.y) % 2, task.data.partition)
    net = nn.Sequential(nn.Linear(2, 1), nn.Tanh(), nn.Linear(1, 2)).double()
    return replace(task, data=data, module=net, dtype=torch.float64)


def test_the_ends_are_those_of_the_whole_hessians() -> None:
    """Of all three clients, on rows that the probe draws; it has negative curvature too."""
    task = bent()
    params = {name: 3 * p for name, p in task.initial_params().items()}
    random, ends = np.random.default_rng(5), []
    for client in random.permutation(3):
        batch = task.batch(random.permutation(task.data.partition.train_rows(client))[:32])

        def loss(flat: torch.Tensor, batch: tuple[torch.Tensor, ...] = batch) -> torch.Tensor:
            parts = torch.split(flat, [p.numel() for p in params.values()])
            theta = {n: v.view_as(p) for (n, p), v in zip(params.items(), parts, strict=True)}
            return task.loss(theta, *batch)

        at = torch.cat([p.flatten() for p in params.values()])
        values = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, at))
        ends.append((float(values.abs().max()), float(-values.min())))
    largest, negative = np.array(ends).max(0)
    found = curvature(task, params, [0, 1, 2], seed=5)
    assert negative > 0
    assert found == pytest.approx(Curvature(largest, negative), rel=1e-9)


def test_steps_keep_to_valleys_and_to_negative_curvature() -> None:
    assert suggested_steps(Curvature(2.0, 0.0), nu=5) == (0.25, 0.25)
    assert suggested_steps(Curvature(2.0, 1.0), nu=5) == (0.1, 0.25)
    assert suggested_steps(Curvature(2.0, 1.0), nu=0) == (0.25, 0.25)
    for nu in (1, 5, 100):
        alpha, beta = suggested_steps(Curvature(3.0, 2.0), nu)
        assert (1 + 2.0 * alpha) ** nu < np.e
        assert max(alpha, beta) <= 1 / 3.0
