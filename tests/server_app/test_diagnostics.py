"""Diagnostics: ‖∇F‖² is the closed form's, on whatever nodes, and training does not notice."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord

from nufed.client_app.meta_gradient import Params
from nufed.conf.compose import compose_config
from nufed.server_app.app import make_strategy, notes
from nufed.server_app.diagnostics import diagnose
from nufed.server_app.rounds import State, rounds
from nufed.server_app.tracking import Row
from nufed.strategies.roster import Roster
from nufed.tasks.datasets.quadratics import clients
from nufed.tasks.task import build
from nufed.theory import quadratics
from tests.helpers import RunResult
from tests.server_app.unsteady import SMALL, TOGETHER, Unsteady

Train = Callable[..., RunResult]
EVERY = "diagnostics.every=2"
NU_2 = [
    *("algorithm.nu=2", "algorithm.tau=3", "algorithm.alpha=0.3", "clients_per_round=2"),
    *("evaluation.new_clients=[1]", "algorithm.batch.support=2", "algorithm.batch.query=3"),
    "algorithm.batch.hessian=2",
]


def run(
    overrides: list[str], script: dict[int, set[int]] | None = None
) -> tuple[list[Row], list[Params]]:
    """Carry a run of six clients out; return its rows, and the model after each round."""
    config = compose_config([*SMALL, "server.round_timeout=0.3", *overrides])
    grid = Unsteady(config, script)
    task = build(config)
    roster = Roster(config.seed, config.evaluation.new_clients, task.data.partition)
    strategy = make_strategy(config, roster)
    roster.wait(grid, 0)

    def diagnosis(*of: Any) -> Row:
        return diagnose(grid, roster, config, task, *of)

    start = State(-1, task.initial_params(), {})
    found = list(rounds(grid, strategy, config, start, diagnosis))
    return [row for row, _ in found], [state.params for _, state in found]


def test_a_federation_that_went_away_is_no_end_of_a_run() -> None:
    config = compose_config([*SMALL, "server.round_timeout=0.3"])
    grid, task = Unsteady(config), build(config)
    roster = Roster(config.seed, 0, task.data.partition)
    roster.wait(grid, 0)
    assert len(roster.participating) == 6
    grid.nodes.clear()
    row = diagnose(grid, roster, config, task, 1, ArrayRecord(dict(task.initial_params())))
    assert row["diagnostics"] == {"meta_grad_norm2": None, "clients": 0, "failures": []}


def exact(model: Params, among: list[int]) -> float:
    """Return ‖(1/n) Σ M_i^{2ν} H_i (w − c_i)‖² for ν = 2."""
    (w,) = (p.numpy().flatten() for p in model.values())
    hessians, optima = clients(6, 5, (0.05, 1.0), 1.0, seed=0)
    each = [quadratics.meta_gradient(hessians[i], optima[i], w, 0.3, 2) for i in among]
    return float(np.sum(np.mean(each, 0) ** 2))


OF_THE_RUN = {
    "as it is": [],
    "first order": ["algorithm.mode=first_order"],
    "krum": ["rule=krum", "rule.num_malicious=1"],
}


@pytest.mark.parametrize("of_the_run", OF_THE_RUN.values(), ids=OF_THE_RUN.keys())
def test_the_norm_is_that_of_the_closed_form(of_the_run: list[str]) -> None:
    """Whatever the run does: it samples, approximates, draws batches, trusts nobody."""
    rows, models = run([*NU_2, EVERY, "clients_per_round=5", *of_the_run])
    assert ["diagnostics" in row for row in rows] == [i % 2 == 0 for i in range(len(rows))]
    for row, model in zip(rows, models, strict=True):
        if "diagnostics" in row:
            found = row["diagnostics"]
            assert found["clients"] == 5
            assert found["failures"] == []
            assert found["meta_grad_norm2"] == pytest.approx(
                exact(model, [0, 2, 3, 4, 5]), rel=1e-9
            )


def test_the_constants_are_noted_with_their_errors() -> None:
    (row,), _ = run([*NU_2, EVERY, "rounds=0"])
    hessians, _ = clients(6, 5, (0.05, 1.0), 1.0, seed=0)
    eigenvalues = np.linalg.eigvalsh(hessians[[0, 2, 3, 4, 5]])
    found = row["diagnostics"]["estimates"]
    assert found["L"]["value"] == pytest.approx(eigenvalues.max())
    assert found["negative"]["value"] == pytest.approx(-eigenvalues.min())
    assert found["L"]["errors"] == {"clients": 0.0, "Lanczos": pytest.approx(0), "rows": 0.0}
    assert row["diagnostics_s"] > 0


def test_a_client_that_does_not_answer_is_named_and_training_goes_on() -> None:
    undisturbed = run(NU_2)[1][-1]
    rows, models = run([*NU_2, EVERY], {1: {4}})
    assert rows[0]["diagnostics"]["clients"] == 4
    assert rows[0]["diagnostics"]["failures"] == [{"client": 4, "reason": "no reply in time"}]
    assert rows[0]["diagnostics"]["meta_grad_norm2"] == pytest.approx(
        exact(models[0], [0, 2, 3, 5])
    )
    assert [row.get("attempts") for row in rows] == [None, 1, 1, 1, 1]
    assert all(torch.equal(models[-1][name], undisturbed[name]) for name in undisturbed)


def test_nothing_finite_is_nothing_known() -> None:
    (row,), _ = run([*NU_2, EVERY, "rounds=0", "algorithm.alpha=1e38", "algorithm.nu=6"])
    assert row["diagnostics"]["meta_grad_norm2"] is None
    assert {f["reason"] for f in row["diagnostics"]["failures"]} == {"∇F_i is not finite"}


def test_evaluation_that_travels_with_training_leaves_diagnostics_as_they_are() -> None:
    apart, together = run([*NU_2, EVERY])[0], run([*NU_2, EVERY, TOGETHER])[0]
    assert [row.get("diagnostics") for row in together] == [row.get("diagnostics") for row in apart]


DIGITS = [
    *("rounds=2", "evaluation.every=2", "partition.num_clients=50", "clients_per_round=4"),
    *("model=logistic", "algorithm.nu=1", "evaluation.clients=5"),
]
ADAM = "strategy.optimizer={_target_: torch.optim.Adam, _partial_: true, lr: 0.01}"
NOT_OF_TRAINING = ("train_s", "train_cpu_s", "diagnostics", "diagnostics_s")


@pytest.mark.parametrize("overrides", [[], [ADAM]], ids=["averaged", "Adam"])
def test_a_run_with_diagnostics_is_the_run_without_bit_by_bit(
    train: Train, overrides: list[str]
) -> None:
    without = train([*DIGITS, *overrides], num_supernodes=3)
    diagnosed = train([*DIGITS, *overrides, "diagnostics.every=1"], num_supernodes=3)
    assert all(torch.equal(diagnosed.model[name], p) for name, p in without.model.items())
    rows = [
        [{k: v for k, v in row.items() if k not in NOT_OF_TRAINING} for row in some.rows]
        for some in (without, diagnosed)
    ]
    assert rows[0] == rows[1]
    norms = [row["diagnostics"]["meta_grad_norm2"] for row in diagnosed.rows]
    assert len(norms) == 3
    assert min(norms) > 0


def test_with_private_data_the_constants_are_left_out_and_it_is_said() -> None:
    shapes = ["dataset.input_shape=[5]", "dataset.num_outputs=2", "dataset.num_clients=3"]
    config = compose_config(["dataset=private", *shapes, EVERY])
    task = build(config)
    assert notes(config, task, {0: 100})[0].startswith("diagnostics.every=2: ‖∇F‖² alone")
    assert not notes(compose_config(["dataset=private", *shapes]), task, {0: 100})
