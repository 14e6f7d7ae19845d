"""Clients of unequal size, what the server asks of them, and when two answers are the same."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from sklearn.datasets import load_digits
from torch import Tensor, nn

from nufed.client_app.algorithm import algorithm_of
from nufed.client_app.executor import Trained
from nufed.client_app.messages import EvaluateReport
from nufed.client_app.meta_gradient import Params
from nufed.client_app.work import Measuring, Training, task_for
from nufed.conf.compose import compose_config
from nufed.conf.schema import Config
from nufed.simulation.batched import Batched
from nufed.tasks.store import home
from nufed.tasks.task import Task
from tests.helpers import distance, measuring, training

SIZES = (60, 33, 1, 20, 45, 7, 28)  # rows of the ragged clients; the one with one row has no test
TOLERANCE = {"float64": 1e-10, "float32": 1e-5}


class Setting(NamedTuple):
    """A configuration, and what is made from it."""

    config: Config
    task: Task
    params: Params


@cache
def ragged_digits() -> Path:
    """Write digits of clients with 1 to 60 rows, as a person would bring them."""
    digits, n = load_digits(), sum(SIZES)
    home().mkdir(parents=True, exist_ok=True)
    path = home() / "ragged.npz"
    x = (digits.images[:n] * 15.9).astype(np.uint8)
    np.savez(path, x=x, y=digits.target[:n], client=np.repeat(np.arange(len(SIZES)), SIZES))
    return path


@cache
def setting(*overrides: str) -> Setting:
    """Build a task, on the ragged digits unless another data set is named.

    Step sizes are so large that results would differ visibly if they differed.
    """
    data = ["dataset=npz", f"dataset.path={ragged_digits()}", "dataset.one_class=keep"]
    named = any(override.startswith("dataset=") for override in overrides)
    steps = ["algorithm.alpha=0.2", "algorithm.beta=0.5", "algorithm.tau=2"]
    config = compose_config(["baselines=none", *([] if named else data), *steps, *overrides])
    task = task_for(algorithm_of(config.algorithm), config)
    return Setting(config, task, task.initial_params())


def batched(of: Setting, **engine: Any) -> Batched:
    """Make the engine, with options of its own."""
    return Batched(replace(of.config, engine=of.config.engine | engine), of.task)


def train_job(of: Setting, clients: Sequence[int] | None = None, **changes: Any) -> Training:
    """Return one round of training of all clients, or some, as the server would."""
    everyone = range(of.task.data.num_clients) if clients is None else clients
    return training(of.config, everyone, **changes)


def evaluate_job(of: Setting, clients: Sequence[int] | None = None, **changes: Any) -> Measuring:
    """Return the personalization curves of all clients, or some, as the server would."""
    everyone = range(of.task.data.num_clients) if clients is None else clients
    return measuring(of.config, everyone, **changes)


def assert_same_training(
    mine: Trained, theirs: Trained, tolerance: float, norms: float | None = None
) -> None:
    """Mean update and reports agree, and the update is large beside the tolerance."""
    assert max(float(p.abs().max()) for p in theirs.update.values()) > 1e3 * tolerance
    assert distance(mine.update, theirs.update) < tolerance
    assert [p.dtype for p in mine.update.values()] == [p.dtype for p in theirs.update.values()]
    order = [mine.report.clients.index(client) for client in theirs.report.clients]
    assert len(order) == len(mine.report.clients)
    for name, within in (("loss", tolerance), ("meta_grad_norm", norms or tolerance)):
        column = np.array(getattr(mine.report, name))[order]
        assert column == pytest.approx(getattr(theirs.report, name), rel=within, abs=within)
    for name in ("diverged", "diverged_at", "failed", "reasons"):
        assert getattr(mine.report, name) == getattr(theirs.report, name)


def curves_of(report: EvaluateReport) -> dict[int, np.ndarray]:
    """Return client -> [metric, k], whatever the order of the clients."""
    cube = np.reshape(report.curves, (len(report.metrics), len(report.clients), -1))
    return {client: cube[:, i] for i, client in enumerate(report.clients)}


def assert_same_curves(mine: EvaluateReport, theirs: EvaluateReport, tolerance: float) -> None:
    """Every client's curves agree, and the same clients were measured."""
    assert mine.metrics == theirs.metrics
    assert (mine.failed, mine.reasons) == (theirs.failed, theirs.reasons)
    mine_of, theirs_of = curves_of(mine), curves_of(theirs)
    assert len(mine_of) == len(mine.clients)
    assert mine_of.keys() == theirs_of.keys()
    for client, curve in theirs_of.items():
        assert mine_of[client] == pytest.approx(curve, rel=tolerance, abs=tolerance, nan_ok=True)
    assert sorted(mine.undefined) == sorted(theirs.undefined)


STRANGE = 5


class Vocabulary(nn.Module):
    """A bag of ten words, all but one of them known: that is an error of the client with it."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.scores = nn.Embedding(10, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.long()
        scores: Tensor = self.scores(tokens + 90 * (tokens == STRANGE))
        return scores.sum(-2)


class Scalar(nn.Linear):
    """It reads a number out of a tensor: each client by itself can, a stack of them cannot."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__(4, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1.0 + 0.0 * x.sum().item())
