"""A federation between rounds, whose replies a test may spoil, and what a mean comes to."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message

from nufed.client_app.algorithm import algorithm_of
from nufed.client_app.app import app as client_app
from nufed.client_app.app import shared_of
from nufed.client_app.client import train as train_client
from nufed.client_app.messages import TrainInstruction
from nufed.client_app.states import Held
from nufed.client_app.wire import decode
from nufed.conf.compose import compose_config
from nufed.conf.convert import to_json
from nufed.simulation.grid import LocalGrid
from nufed.strategies.exchange import exchange
from nufed.strategies.meta_fedavg import MetaFedAvg
from nufed.strategies.roster import Roster
from nufed.tasks.task import build

OVERRIDES = [
    "partition=dirichlet",
    "partition.num_clients=12",
    "clients_per_round=6",
    "engine.precision=float64",
    "model=logistic",
    "algorithm.nu=2",
    "algorithm.tau=3",
    "algorithm.alpha=0.03",
    "algorithm.beta=0.1",
]
SGD = functools.partial(torch.optim.SGD, lr=1.0)


class Federation:
    """A strategy and a grid with one node a client, between rounds."""

    def __init__(
        self,
        weighting: str = "uniform",
        optimizer: Any = SGD,
        num_supernodes: int = 12,
        kind: type[MetaFedAvg] = MetaFedAvg,
        overrides: tuple[str, ...] = (),
        **options: Any,
    ) -> None:
        self.config = compose_config([*OVERRIDES, *overrides])
        self.grid = LocalGrid(client_app, {"config": to_json(self.config)}, num_supernodes)
        self.task = build(self.config)
        self.roster = Roster(0, 0.25, self.task.data.partition)
        self.roster.wait(self.grid, timeout=0)
        self.algorithm = algorithm_of(self.config.algorithm)
        self.strategy = kind(
            self.algorithm, self.config.evaluation, self.roster,
            seed=0, clients_per_round=6, weighting=weighting, optimizer=optimizer, **options,
        )  # fmt: skip
        self.arrays = ArrayRecord(self.task.initial_params())

    def round(
        self, spoil: Callable[[int, Message], Message | None] = lambda i, reply: reply, k: int = 1
    ):
        """Run round k; `spoil` may change or withhold the i-th reply."""
        self.sent = list(self.strategy.configure_train(k, self.arrays, ConfigRecord(), self.grid))
        replies = enumerate(exchange(self.grid, self.sent, timeout=60))
        spoilt = (spoil(i, reply) for i, reply in replies)
        return self.strategy.aggregate_train(k, (reply for reply in spoilt if reply is not None))

    def updates(self) -> dict[int, dict[str, torch.Tensor]]:
        """Each asked client's update, computed directly."""
        algorithm = self.algorithm
        asked = [decode(TrainInstruction, m).of(algorithm, Held()) for m in self.sent]
        params = shared_of(self.sent[0], self.task, algorithm)
        return {
            client: train_client(self.task, params, job, client).update
            for job in asked
            for client in job.clients
        }


def expected(federation: Federation, weights: dict[int, float]) -> dict[str, np.ndarray]:
    """w − Σ weight · update / Σ weight."""
    updates = federation.updates()
    total = sum(weights.values())
    return {
        name: array.numpy() - sum(w * updates[i][name].numpy() for i, w in weights.items()) / total
        for name, array in federation.arrays.items()
    }


def assert_arrays(arrays: ArrayRecord | None, wanted: dict[str, np.ndarray]) -> None:
    assert arrays is not None
    for name, array in arrays.items():
        assert np.abs(array.numpy() - wanted[name]).max() < 1e-12
