"""Step sizes that nobody set, and what a run that diverged is told."""

import logging
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from nufed.conf.compose import compose_config, of_run
from nufed.conf.errors import InputError, RunStopped
from nufed.conf.schema import Config
from nufed.server_app.probe import measured_here
from nufed.server_app.steps import remedy, with_steps
from nufed.tasks.task import build
from tests.helpers import RunResult

Train = Callable[..., RunResult]
QUADRATICS = [
    *("dataset=quadratics", "dataset.num_clients=8", "evaluation.new_clients=0", "rounds=2"),
    *("engine.precision=float64", "algorithm.batch.support=null", "algorithm.batch.query=null"),
]


def largest_eigenvalue() -> float:
    """Return L of the quadratic clients: ∇²f_i is (1/N) Σ x xᵀ, whatever the model."""
    task = build(compose_config(QUADRATICS))
    rows = [np.asarray(task.data.x)[task.data.partition.train_rows(i)] for i in range(8)]
    return max(float(np.linalg.eigvalsh(x.T @ x / len(x))[-1]) for x in rows)


def longest(largest: float) -> float:
    """Return β = 1/max λ (1 − αλ/4)^10 of ν = 5 with α = 1/L, as convex losses have it."""
    curvatures = np.linspace(0, largest, 100_001)
    return float(f"{1 / (curvatures * (1 - curvatures / (4 * largest)) ** 10).max():.1e}")


def probed(config: Config) -> Config:
    """Return a configuration with the step sizes of a run on one process."""
    task = build(config)
    return with_steps(config, lambda: measured_here(config, task, task.initial_params()))


def test_they_follow_from_the_largest_eigenvalue_and_are_what_the_run_says(train: Train) -> None:
    run = train(QUADRATICS)
    config, largest = of_run(run.folder, "the run"), largest_eigenvalue()
    assert config.algorithm["alpha"] == float(f"{1 / largest:.1e}")
    assert config.algorithm["beta"] == longest(largest)
    assert config.strategy["clip_norm"] == "usual"
    assert all("clipped" in row for row in run.rows[1:])


def test_nothing_is_clipped_where_beta_is_given(train: Train) -> None:
    run = train([*QUADRATICS, "algorithm.beta=0.1"])
    assert of_run(run.folder, "the run").strategy["clip_norm"] is None
    assert not any("clipped" in row for row in run.rows)
    never = train([*QUADRATICS, "strategy.clip_norm=null"])
    assert of_run(never.folder, "the run").strategy["clip_norm"] is None


def test_only_what_was_not_set_is_probed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "nufed")
    config = compose_config([*QUADRATICS, "algorithm.alpha=0.7"])
    a = probed(config).algorithm
    assert a["alpha"] == 0.7
    assert a["beta"] == longest(largest_eigenvalue())
    assert "beta = " in caplog.text
    assert "alpha" not in caplog.text


def test_a_loss_without_curvature_is_named(tmp_path: Path) -> None:
    client = np.repeat(np.arange(4), 10)
    np.savez(tmp_path / "flat.npz", x=np.zeros((40, 3)), y=np.linspace(0, 1, 40), client=client)
    data = ["dataset=npz", f"dataset.path={tmp_path}/flat.npz"]
    config = compose_config(
        [*data, "model=custom", "model._target_=tests.server_app.test_steps.Dot"]
    )
    with pytest.raises(
        InputError, match=r"^algorithm.alpha=auto: the loss has no curvature; give a number$"
    ):
        probed(config)


def test_the_remedy_is_the_largest_step_that_the_curvature_allows(train: Train) -> None:
    """And it works: the run that is told of it goes through with it."""
    beta = longest(largest_eigenvalue())
    with pytest.raises(RunStopped, match=rf"beta=1e\+09 is probably too large, try .*={beta:.2g};"):
        train([*QUADRATICS, "algorithm.beta=1e9", "algorithm.alpha=0.1"])
    with pytest.raises(RunStopped, match=r"alpha=1e\+09 is probably .* try algorithm.alpha=\S+; "):
        train([*QUADRATICS, f"algorithm.beta={beta}", "algorithm.alpha=1e9"])
    assert train([*QUADRATICS, f"algorithm.beta={beta}"]).summary["rounds"] == 2


def test_fewer_steps_are_offered_where_alpha_would_do_for_them() -> None:
    config = compose_config(["algorithm.alpha=0.1", "algorithm.nu=40", "algorithm.beta=0.1"])
    task = build(config)
    text = remedy(config, measured_here(config, task, task.initial_params()), ["alpha"])
    alpha, nu = map(float, re.fullmatch(REMEDY, text).groups())
    assert alpha * 40 == pytest.approx(0.1 * nu, rel=0.5)
    assert nu < 40


REMEDY = (
    r"algorithm.alpha=0.1 is probably too large, try algorithm.alpha=(\S+), "
    r"or algorithm.nu=(\d+) with this alpha"
)


class Dot(nn.Linear):
    """A model whose outputs do not depend on rows of zeros."""

    def __init__(self, input_shape: tuple[int, ...], num_outputs: int) -> None:
        super().__init__(input_shape[0], num_outputs, bias=False)
