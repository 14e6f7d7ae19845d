"""A client's curvature: as autograd has the Hessian entry by entry; who cannot tell is named."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nufed.client_app import curvature as module
from nufed.client_app.curvature import Curvature, curvature, probe, widest
from nufed.client_app.messages import ProbeInstruction
from nufed.conf.compose import compose_config
from nufed.tasks.derivatives import Derivatives
from nufed.tasks.store import FederatedData
from nufed.tasks.task import Task, build


def bent() -> Task:
    """Return digits (three clients) under a net of seven parameters: Lanczos is exact then."""
    task = build(compose_config(["partition=iid", "partition.num_clients=3"]))
    torch.manual_seed(0)
    first = np.asarray(task.data.x).reshape(len(task.data.x), -1)[:, [20, 28]]
    data = FederatedData(first.astype(np.float64), np.asarray(task.data.y) % 2, task.data.partition)
    net = nn.Sequential(nn.Linear(2, 1), nn.Tanh(), nn.Linear(1, 2)).double()
    return replace(task, data=data, module=net, dtype=torch.float64)


def test_the_ends_are_those_of_the_whole_hessian(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each of three clients, on all its train rows; there is negative curvature too."""
    monkeypatch.setattr(module, "ROWS", 10**6)
    task = bent()
    params = {name: 3 * p for name, p in task.initial_params().items()}
    for client in range(3):
        batch = task.batch(task.data.partition.train_rows(client))

        def loss(flat: Tensor, batch: tuple[Tensor, ...] = batch) -> Tensor:
            parts = torch.split(flat, [p.numel() for p in params.values()])
            theta = {n: v.view_as(p) for (n, p), v in zip(params.items(), parts, strict=True)}
            return task.loss(theta, *batch)

        at = torch.cat([p.flatten() for p in params.values()])
        values = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, at))
        found = curvature(task, params, client, seed=5)
        ends = float(values.abs().max()), float(-values.min())
        assert (found.largest, found.negative) == pytest.approx(ends, rel=1e-9)
        assert found.negative > 0


def test_without_second_derivatives_it_is_that_of_differences_of_gradients() -> None:
    """Of a smooth loss, to the error of central differences."""
    task, params = bent(), {name: 3 * p for name, p in bent().initial_params().items()}
    exact = curvature(task, params, 0, seed=5)
    without = replace(task, derivatives=Derivatives(missing="not implemented"))
    found = curvature(without, params, 0, seed=5)
    assert (found.largest, found.negative) == pytest.approx(exact[:2], rel=1e-3)
    assert found != exact


def test_few_rows_are_drawn_from_the_seed_and_the_client() -> None:
    task = bent()
    params = {name: 3 * p for name, p in task.initial_params().items()}
    here = [curvature(task, params, client, seed=0) for client in (0, 0, 1)]
    assert here[0] == here[1] != here[2]
    assert here[0] != curvature(task, params, 0, seed=1)


def test_what_holds_for_all() -> None:
    assert widest([Curvature(3.0, 0.5), Curvature(2.0, 1.0)], "no") == Curvature(3.0, 1.0)
    nobody = widest([], "client 3: has no rows")
    assert not nobody.known
    assert nobody.unknown == "client 3: has no rows"
    assert Curvature(1.0, 0.0).known
    assert not Curvature(0.0, 0.0).known


class _Choosy(nn.Linear):
    """Raises for rows of one sign, and is not finite where they are not."""

    def forward(self, input: Tensor) -> Tensor:
        if (input < 0).any():
            raise ArithmeticError("below 0")
        return super().forward(input)


def test_a_client_that_raises_or_is_not_finite_is_named_and_the_others_count() -> None:
    """Rows of client 0 are negative, those of client 1 are not finite, client 2 is sound."""
    task = bent()
    x = np.abs(np.asarray(task.data.x)) + 0.1
    x[task.data.partition.train_rows(0)] = -1
    x[task.data.partition.train_rows(1)] = np.inf
    task = replace(task, data=replace(task.data, x=x), module=_Choosy(2, 2).double())
    report = probe(task, task.initial_params(), ProbeInstruction(0, [0, 1, 2]))
    assert report.clients == [2]
    assert report.largest[0] > 0
    assert report.failed == [0, 1]
    assert report.reasons[0] == "ArithmeticError: below 0"
    assert "not finite" in report.reasons[1]
