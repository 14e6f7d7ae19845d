"""Whole runs in this process: where they converge, what they leave behind, how they stop."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError, RunStopped
from nufed.tasks.datasets.quadratics import clients
from nufed.tasks.task import build
from nufed.theory import quadratics
from tests.helpers import RunResult

Train = Callable[..., RunResult]

QUADRATICS = [
    "dataset=quadratics",
    "dataset.num_clients=10",
    "dataset.curvature=[0.3,1.0]",
    "engine.precision=float64",
    "algorithm.batch.support=null",
    "algorithm.batch.query=null",
    "evaluation.new_clients=0",
    "clients_per_round=10",
    "evaluation.every=1000",
    "algorithm.alpha=0.3",
]


def quadratic_clients() -> tuple[np.ndarray, np.ndarray]:
    return clients(10, 5, (0.3, 1.0), 1.0, seed=0)


@pytest.mark.parametrize(("nu", "tau"), [(0, 3), (1, 1), (3, 3)])
def test_rounds_converge_to_the_fixed_point_of_the_theory(train: Train, nu: int, tau: int) -> None:
    """All clients, full batches: the apps end in w_fed(ν, β, τ), to 1e-10."""
    beta = 0.8
    run = train(
        [
            *QUADRATICS,
            f"algorithm.nu={nu}",
            f"algorithm.tau={tau}",
            f"algorithm.beta={beta}",
            "rounds=150",
        ]
    )
    (w,) = run.model.values()
    expected = quadratics.fixed_point_exact(*quadratic_clients(), 0.3, nu, beta, tau)
    assert np.abs(w.numpy().flatten() - expected).max() < 1e-10


def test_smaller_beta_ends_nearer_to_the_optimum(train: Train) -> None:
    """|w_fed − w*(ν)| = O(β): through the apps, a third of β is a third of the distance."""
    target = quadratics.optimum_exact(*quadratic_clients(), 0.3, 2)
    gaps = []
    for beta, rounds in ((0.3, 60), (0.1, 180)):
        run = train(
            [
                *QUADRATICS,
                "algorithm.nu=2",
                "algorithm.tau=4",
                f"algorithm.beta={beta}",
                f"rounds={rounds}",
            ]
        )
        (w,) = run.model.values()
        gaps.append(np.linalg.norm(w.numpy().flatten() - target))
    assert gaps[0] / gaps[1] == pytest.approx(3, rel=0.15)


def test_first_order_rounds_converge_to_their_own_optimum(train: Train) -> None:
    """One local step: first-order at 2ν stands still at w*(ν), exact at half the steps."""
    run = train(
        [
            *QUADRATICS,
            "algorithm.nu=4",
            "algorithm.tau=1",
            "algorithm.beta=0.8",
            "algorithm.mode=first_order",
            "rounds=150",
        ]
    )
    (w,) = run.model.values()
    expected = quadratics.optimum_exact(*quadratic_clients(), 0.3, 2)
    assert np.abs(w.numpy().flatten() - expected).max() < 1e-10


SMALL = ["rounds=3", "evaluation.every=2", "partition.num_clients=10", "clients_per_round=4"]
TIMES = ("train_s", "train_cpu_s")


def timeless(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


def test_the_same_seed_gives_the_same_metrics_and_model(train: Train) -> None:
    first, second, other = train(SMALL), train(SMALL), train([*SMALL, "seed=1"])
    assert timeless(first.rows) == timeless(second.rows)
    assert all(torch.equal(first.model[name], second.model[name]) for name in first.model)
    assert timeless(first.rows) != timeless(other.rows)


def test_evaluating_more_often_does_not_change_training(train: Train) -> None:
    often, seldom = train([*SMALL, "evaluation.every=1"]), train([*SMALL, "evaluation.every=3"])
    assert all(torch.equal(often.model[name], seldom.model[name]) for name in often.model)


def test_what_a_run_leaves_behind(train: Train) -> None:
    run = train(SMALL)
    assert sorted(p.name for p in run.folder.iterdir()) == [
        "checkpoint",
        "clients.json",
        "config.yaml",
        "metrics.jsonl",
        "model.safetensors",
        "summary.json",
        "tensorboard",
    ]
    assert [row["round"] for row in run.rows] == [0, 1, 2, 3]
    for row in run.rows[1:]:
        assert row["clients"] == 4
        assert row["failures"] == []
        assert row["train_s"] > 0
        assert row["train_cpu_s"] > 0
        for key in ("train_loss", "update_norm", "meta_grad_norm"):
            assert row[key] > 0
    assert ["new" in row for row in run.rows] == [True, False, True, True]
    for kind, count in (("participating", 8), ("new", 2)):
        curves = run.summary[kind]
        assert curves == run.rows[-1][kind]
        assert curves["clients"] == count
        assert curves["k"] == [0, 1, 2, 3, 4, 5]
        for name in ("accuracy", "loss"):
            assert all(
                len(curves[key]) == 6 for key in (name, f"{name}_std", f"{name}_worst_decile")
            )
        assert run.summary["untrained"][kind] == run.rows[0][kind] != curves
    assert run.summary["rounds"] == 3
    assert run.summary["parameters"] == sum(p.numel() for p in run.model.values()) == 7510
    assert run.summary["clients"] == {"participating": 8, "new": 2}
    assert torch.__version__.startswith(run.summary["versions"]["torch"])
    assert run.summary["wall_s"] > 0
    assert run.summary["peak_rss_mb"] > 100
    assert "stopped" not in run.summary


def test_new_clients_take_no_part_in_training(train: Train, tmp_path: Path) -> None:
    """Their rows can be anything: the trained model is the same bit for bit."""
    random = np.random.default_rng(0)
    x, y = random.normal(size=(400, 6)).astype(np.float32), random.integers(3, size=400)
    client = np.repeat(np.arange(10), 40)
    runs = []
    for name, new_rows in (("kept", x), ("changed", 100 * x)):
        data = np.where(np.isin(client, [2, 5])[:, None], new_rows, x)
        np.savez(tmp_path / f"{name}.npz", x=data, y=y, client=client)
        runs.append(
            train(
                [
                    "dataset=npz",
                    f"dataset.path={tmp_path / name}.npz",
                    "rounds=6",
                    "clients_per_round=5",
                    "evaluation.new_clients=[2,5]",
                ]
            )
        )
    kept, changed = runs
    assert all(torch.equal(kept.model[name], changed.model[name]) for name in kept.model)
    assert kept.summary["participating"] == changed.summary["participating"]
    assert kept.summary["new"]["loss"] != changed.summary["new"]["loss"]


def test_a_diverging_run_stops_says_why_and_keeps_the_last_good_model(
    train: Train, tmp_path: Path
) -> None:
    """β too large: a later loss is not finite, and the model of the round before is saved."""
    with pytest.raises(RunStopped) as stopped:
        train([*SMALL, "rounds=30", "algorithm.beta=1e25", "algorithm.nu=0"])
    message = str(stopped.value)
    assert "\n" not in message
    assert "algorithm.beta=1e+25 is probably too large" in message
    folder = tmp_path / "run1"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["stopped"] == message
    assert f"round {summary['rounds'] + 1}" in message
    assert all(torch.isfinite(p).all() for p in load_file(folder / "model.safetensors").values())


def test_the_inner_step_size_is_blamed_where_fine_tuning_blew_up(train: Train) -> None:
    with pytest.raises(
        RunStopped, match=r"round 1: .*algorithm.alpha=1e\+30 is probably too large"
    ):
        train([*SMALL, "algorithm.alpha=1e30"])


def test_a_large_beta_is_not_blamed_on_alpha(train: Train, tmp_path: Path) -> None:
    """One local step: the parameters are lost after it, which is β's doing."""
    x, client = np.full((40, 3), 30, np.float32), np.repeat(np.arange(4), 10)
    np.savez(tmp_path / "steep.npz", x=x, y=np.full(40, 100.0), client=client)
    steps = ["algorithm.beta=1e38", "algorithm.alpha=1e-9", "algorithm.tau=1", "algorithm.nu=1"]
    data = ["dataset=npz", f"dataset.path={tmp_path}/steep.npz", "model=linear"]
    with pytest.raises(RunStopped, match=r"round 1: .*algorithm.beta=1e\+38 is probably") as e:
        train([*data, *steps, "rounds=1"])
    assert "algorithm.alpha" not in str(e.value)


def test_an_initial_model_without_a_finite_loss_is_not_blamed_on_a_step_size(
    train: Train, tmp_path: Path
) -> None:
    x, client = np.full((40, 3), 1e30, np.float32), np.repeat(np.arange(4), 10)
    np.savez(tmp_path / "huge.npz", x=x, y=np.linspace(0, 1, 40), client=client)
    huge = ["dataset=npz", f"dataset.path={tmp_path}/huge.npz", "rounds=1"]
    with pytest.raises(RunStopped, match=r"round 0: .*scale x and y down; no round was completed"):
        train([*huge, "algorithm.alpha=0.1", "algorithm.beta=0.1"])
    with pytest.raises(InputError, match=r"algorithm.alpha=auto: .*not finite; scale x and y down"):
        train(huge)
    assert not (tmp_path / "run1" / "model.safetensors").exists()


MODULES = """
import torch
from torch import nn

class Dropping(nn.Sequential):
    def __init__(self, input_shape, num_outputs):
        super().__init__(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.5),
                         nn.Linear(32, num_outputs))

class Touchy(nn.Linear):
    def __init__(self, input_shape, num_outputs):
        super().__init__(input_shape[0], num_outputs)

    def forward(self, x):
        if (x > 50).any():
            raise ValueError("a value above 50")
        return super().forward(x)
"""


@pytest.fixture
def own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the modules above where a user's own are."""
    (tmp_path / "training_modules.py").write_text(MODULES)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("own_modules")
def test_dropout_follows_from_the_seed_and_is_off_in_what_is_measured(train: Train) -> None:
    """The same metrics twice and on any number of nodes; no randomness at k = 0 at all."""
    overrides = [*SMALL, "model=custom", "model._target_=training_modules.Dropping"]
    first, second = train(overrides), train(overrides, num_supernodes=4)
    assert timeless(first.rows)[0] == timeless(second.rows)[0]
    for mine, theirs in zip(first.rows[1:], second.rows[1:], strict=True):
        assert mine["train_loss"] == pytest.approx(theirs["train_loss"], abs=1e-6)
    config = compose_config(overrides)
    task = build(config)
    x, y = task.batch(task.data.partition.test_rows(0))
    params = task.initial_params()
    assert task.metrics(params, x, y)["loss"] == task.metrics(params, x, y)["loss"]
    assert task.loss(params, x, y) != task.loss(params, x, y)


@pytest.mark.usefixtures("own_modules")
@pytest.mark.parametrize("num_supernodes", [1, 5])
def test_one_clients_failure_is_its_own(train: Train, tmp_path: Path, num_supernodes: int) -> None:
    """Client 3's rows make the model raise: the others train on, wherever they live."""
    random = np.random.default_rng(0)
    x, client = random.normal(size=(200, 4)).astype(np.float32), np.repeat(np.arange(5), 40)
    x[client == 3] += 100
    np.savez(tmp_path / "touchy.npz", x=x, y=random.integers(2, size=200), client=client)
    run = train(
        [
            *("dataset=npz", f"dataset.path={tmp_path}/touchy.npz", "rounds=2"),
            *("model=custom", "model._target_=training_modules.Touchy", "evaluation.new_clients=0"),
        ],
        num_supernodes=num_supernodes,
    )
    for row in run.rows[1:]:
        assert row["failures"] == [{"client": 3, "reason": "ValueError: a value above 50"}]
        assert row["clients"] == 4
    assert run.rows[-1]["evaluation_failures"] == run.rows[1]["failures"]
    assert run.summary["participating"]["clients"] == 4


def test_small_clients_are_told_of_once(train: Train, caplog: pytest.LogCaptureFixture) -> None:
    train([*SMALL, "partition.num_clients=100"])
    said = [
        record.getMessage() for record in caplog.records if "replacement" in record.getMessage()
    ]
    assert len(said) == 1
    assert "fewer train rows than a batch of" in said[0]
