"""What a private run released, measured in its models: the clipping, and the noise."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chi2

from nufed.client_app.app import app as client_app
from nufed.client_app.client import train
from nufed.client_app.meta_gradient import Params
from nufed.conf.compose import compose_config
from nufed.conf.convert import to_json
from nufed.server_app import checkpoint
from nufed.server_app.releases import RELEASES
from nufed.simulation.grid import LocalGrid
from nufed.strategies.roster import Roster
from nufed.strategies.samplers.uniform import Uniform
from nufed.tasks.task import build
from tests.helpers import epsilon_of, read_run, training

Z, C, M, DELTA = 0.1, 0.01, 3, 1e-3
PRIVATE = [
    *("dataset=digits", "partition=iid", "partition.num_clients=6", "evaluation.new_clients=[1]"),
    *(f"clients_per_round={M}", "model=mlp", "algorithm.nu=1", "algorithm.tau=1", "rounds=2"),
    *("algorithm.alpha=0.1", "algorithm.beta=1.0", "evaluation.every=100", "evaluation.steps=0"),
    *("privacy=central_dp", f"privacy.noise_multiplier={Z}", f"privacy.clipping_norm={C}"),
    *(f"privacy.delta={DELTA}", "checkpoint.every=1", "algorithm.batch.support=20"),
]
"""Two rounds of updates that are many times longer than C, of a model of 7,510 parameters."""
FALSE_ALARM = 1e-7


class _Round(NamedTuple):
    """A release, and what it was to be."""

    moved: NDArray[np.float64]
    """w_k − w_{k+1} [P]"""
    clipped: NDArray[np.float64]
    """The updates, each scaled to the norm C [m, P]."""


def assert_released(models: Path) -> None:
    """Fail unless two rounds of `PRIVATE` moved the model by (Σ clipped + N(0, (zC)²)) / m.

    Parameters
    ----------
    models
        The folder of the run that has the checkpoints, where the server is.
    """
    rounds = _rounds(models)
    noise = np.concatenate([M * r.moved - r.clipped.sum(0) for r in rounds]) / (Z * C)
    low, high = chi2.ppf(FALSE_ALARM, len(noise)), chi2.isf(FALSE_ALARM, len(noise))
    assert 0.9 < low / len(noise) < (noise**2).mean() < high / len(noise) < 1.1
    assert abs(noise.mean()) < 5.4 / np.sqrt(len(noise))
    first, second = np.split(noise, 2)
    assert abs(first @ second) < 5.4 * np.sqrt(len(first)), "each round draws anew"
    for r in rounds:  # along the update of each client, beside what the others give
        for i, mine in enumerate(r.clipped):
            others = r.clipped.sum(0) - mine
            share = (M * r.moved - others) @ mine / C**2
            assert abs(share - 1) < 5.4 * Z, f"client {i} of the round moved the sum by {share} C"


def _rounds(models: Path) -> list[_Round]:
    """Read the models, and train the clients of each round here, from the model that they got."""
    config = compose_config(PRIVATE)
    task = build(config)
    roster = Roster(config.seed, config.evaluation.new_clients, task.data.partition)
    roster.wait(LocalGrid(client_app, {"config": to_json(config)}, 1), timeout=0)
    files = sorted((models / "checkpoint").glob("*.safetensors"))
    after = [checkpoint._unpack(file).state for file in files]
    assert [state.round for state in after] == [1, 2]
    before, rounds = task.initial_params(), list[_Round]()
    for state in after:
        clients, clipped = Uniform().sample(roster, state.round, M), list[NDArray[np.float64]]()
        job = training(config, clients, round=state.round)
        for client in clients:
            update = _flat(train(task, before, job, client).update, before)
            length = float(np.linalg.norm(update))
            assert length > 20 * C, "or the test would not see that it was clipped"
            clipped.append(update * C / length)
        moved = _flat(before, before) - _flat(state.params, before)
        rounds.append(_Round(moved, np.stack(clipped)))
        before = {name: state.params[name] for name in before}
    return rounds


def _flat(params: Params, order: Params) -> NDArray[np.float64]:
    return np.concatenate([params[name].double().numpy().ravel() for name in order])


def assert_priced(run: Path) -> None:
    """Fail unless each of its rows has the ε of so many releases, all of them written down."""
    rows = read_run(run).rows
    spent = [row["epsilon"] for row in rows if row["round"] > 0]
    wanted = [epsilon_of(releases + 1, Z, DELTA) for releases in range(len(spent))]
    assert spent == pytest.approx(wanted, rel=1e-9)
    assert [row["clipped"] for row in rows[1:]] == [M] * len(spent)
    written = (run / RELEASES).read_text().splitlines()
    assert [json.loads(line)["round"] for line in written] == [row["round"] for row in rows[1:]]
