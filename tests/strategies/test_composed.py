"""Sampler, rule, schedule, optimizer and privacy: every combination against arithmetic."""

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from nufed.client_app.app import app as client_app
from nufed.client_app.client import train
from nufed.conf.compose import compose_config
from nufed.conf.convert import to_json
from nufed.conf.schema import Config
from nufed.server_app.app import make_strategy
from nufed.server_app.rounds import rounds
from nufed.server_app.tracking import State
from nufed.simulation.grid import LocalGrid
from nufed.strategies.roster import Roster
from nufed.tasks.streams import Purpose, stream
from nufed.tasks.task import Task, build
from tests.helpers import training

Vector = NDArray[np.float64]

SMALL = [
    *("dataset=quadratics", "dataset.num_clients=7", "algorithm.nu=1", "engine.precision=float64"),
    *("clients_per_round=6", "evaluation.new_clients=0", "evaluation.every=2", "rounds=2"),
    *("algorithm.batch.support=null", "algorithm.batch.query=null", "server.join_timeout=0"),
    *("algorithm.alpha=0.03", "algorithm.beta=0.1", "server.min_replies=3"),
]
N, M, SEED = 7, 6, 0

# Who is there in round k, of clients alike in their rows.
SAMPLERS: dict[str, tuple[list[str], Callable[[int], list[int]]]] = {
    "uniform": ([], lambda k: [*range(N)]),
    "available": (
        ["sampler=available", "sampler.p={0: 0, 1: 0.6}"],
        lambda k: [
            i
            for i, draw in enumerate(stream(Purpose.AVAILABLE, SEED, round=k).random(N))
            if draw < {0: 0.0, 1: 0.6}.get(i, 1.0)
        ],
    ),
    "trace": (["sampler=trace"], lambda k: {1: [0, 2, 3, 4, 6], 2: [1, 2, 3, 5, 6]}[k]),
}
TRACE = "".join(f"{k},{i}\n" for k in (1, 2) for i in SAMPLERS["trace"][1](k))


def trimmed(updates: Vector) -> Vector:
    """A fifth at either end, of five or six: one."""
    mean: Vector = np.sort(updates, 0)[1:-1].mean(0)
    return mean


def nearest(updates: Vector) -> Vector:
    """Multi-Krum with f = 1: without the one that is farthest from its n − 3 nearest."""
    squares = ((updates[:, None] - updates) ** 2).sum(2)
    scores = np.sort(squares, 1)[:, 1 : len(updates) - 2].sum(1)
    mean: Vector = np.delete(updates, scores.argmax(), 0).mean(0)
    return mean


RULES: dict[str, tuple[list[str], Callable[[Vector], Vector]]] = {
    "mean": ([], lambda updates: updates.mean(0)),
    "median": (["rule=median"], lambda updates: np.median(updates, 0)),
    "trimmed_mean": (["rule=trimmed_mean"], trimmed),
    "krum": (["rule=krum", "rule.num_malicious=1"], nearest),
}
SCHEDULES: dict[str, tuple[list[str], Callable[[int], float]]] = {
    "none": ([], lambda k: 1.0),
    "decay": (["schedule=decay", "schedule.beta.rate=0.5"], lambda k: 0.5 ** (k - 1)),
}


def plain(deltas: list[Vector]) -> Vector:
    """Return Σ Δ."""
    return deltas[0] + deltas[1]


def fedadam(deltas: list[Vector]) -> Vector:
    """Two steps of algorithm 2 of Reddi et al. 2021."""
    m, v, moved = np.zeros_like(deltas[0]), np.full_like(deltas[0], 1e-6), np.zeros_like(deltas[0])
    for delta in deltas:
        m, v = 0.9 * m + 0.1 * delta, 0.99 * v + 0.01 * delta**2
        moved = moved + 0.01 * m / (np.sqrt(v) + 1e-3)
    return moved


OPTIMIZERS: dict[str, Callable[[list[Vector]], Vector]] = {
    "none": plain,
    "fedadam": fedadam,
}
C = 0.5
PRIVATE = ["privacy=central_dp", f"privacy.clipping_norm={C}", "privacy.noise_multiplier=1e-12"]


class Case(NamedTuple):
    """A combination."""

    sampler: str
    rule: str
    schedule: str
    optimizer: str
    private: bool


CASES = [
    case
    for each in product(SAMPLERS, RULES, SCHEDULES, OPTIMIZERS, (False, True))
    if (case := Case(*each)).rule == "mean" or not case.private  # the others refuse its noise
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_they_combine(tmp_path: Path, case: Case) -> None:
    """Two rounds through a grid; what clients are asked and what the server makes of it, by hand.

    With next to no noise, so that the arithmetic shows.
    """
    (tmp_path / "trace.csv").write_text(TRACE)
    words = [*SAMPLERS[case.sampler][0], *RULES[case.rule][0], *SCHEDULES[case.schedule][0]]
    words += [f"sampler.path={tmp_path / 'trace.csv'}"] * (case.sampler == "trace")
    config = compose_config(
        [*SMALL, *words, f"optimizer={case.optimizer}", *PRIVATE * case.private]
    )
    task = build(config)
    grid = LocalGrid(client_app, {"config": to_json(config)}, num_supernodes=2)
    roster = Roster(SEED, 0, task.data.partition)
    strategy = make_strategy(config, roster)
    roster.wait(grid, 0)
    start = State(-1, task.initial_params(), {})
    *_, (row, state) = rounds(grid, strategy, config, start)
    assert row["round"] == 2
    assert row["failures"] == []
    wanted = flat(start.params) - moved(config, task, case)
    assert np.abs(flat(state.params) - wanted).max() < 1e-9
    assert np.abs(flat(state.params) - flat(start.params)).max() > 1e-3


def moved(config: Config, task: Task, case: Case) -> Vector:
    """Return by how much two rounds move the model, each client trained here by itself."""
    params, deltas = task.initial_params(), list[Vector]()
    for k in (1, 2):
        there = SAMPLERS[case.sampler][1](k)
        m = min(M, len(there))
        chosen = stream(Purpose.SAMPLE, SEED, round=k).choice(len(there), m, replace=False)
        clients = sorted(there[i] for i in chosen)
        job = training(config, clients, k, beta=0.1 * SCHEDULES[case.schedule][1](k))
        updates = np.stack([flat(train(task, params, job, i).update) for i in clients])
        if case.private:
            updates *= np.minimum(1, C / np.linalg.norm(updates, axis=1))[:, None]
        deltas.append(RULES[case.rule][1](updates))
        if k == 1:
            params = shaped(flat(params) - first_step(case.optimizer, deltas[0]), params)
    return OPTIMIZERS[case.optimizer](deltas)


def first_step(optimizer: str, delta: Vector) -> Vector:
    """Return the first of the two steps."""
    if optimizer == "none":
        return delta
    return 0.01 * 0.1 * delta / (np.sqrt(0.99e-6 + 0.01 * delta**2) + 1e-3)


def flat(params: Any) -> Vector:
    return np.concatenate([np.asarray(p, np.float64).ravel() for p in params.values()])


def shaped(vector: Vector, like: Any) -> Any:
    assert len(like) == 1
    return {n: torch.from_numpy(vector).reshape(p.shape) for n, p in like.items()}


def test_the_arithmetic_above_tells_them_apart() -> None:
    updates = np.random.default_rng(0).normal(size=(6, 3))
    results = [rule(updates) for _, rule in RULES.values()]
    results += [moved([updates[0], updates[1]]) for moved in OPTIMIZERS.values()]
    for i, one in enumerate(results):
        assert all(np.abs(one - other).max() > 1e-3 for other in results[:i])
