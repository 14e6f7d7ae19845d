"""Early stopping, on quadratics whose every iterate is known, and across a resumption."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from nufed.server_app.early_stopping import Watch
from nufed.server_app.resume import read, resumed_config
from nufed.tasks.datasets.quadratics import clients
from nufed.tasks.task import build
from nufed.theory import quadratics
from tests.helpers import Row, RunResult
from tests.server_app.test_trackers import resume

Train = Callable[..., RunResult]
BETA = 0.3
RUN = [
    *("dataset=quadratics", "dataset.num_clients=4", "dataset.seed=0", "fraction=1.0"),
    *("algorithm.batch.support=null", "algorithm.batch.query=null", "evaluation.new_clients=0"),
    *("algorithm.nu=0", "algorithm.tau=1", f"algorithm.beta={BETA}", "engine.precision=float64"),
    *("evaluation.every=1", "evaluation.steps=0", "tracking=none"),
]


def losses(beta: float, rounds: int) -> list[float]:
    """Return the mean loss before each round of gradient descent, in closed form."""
    hessians, optima = clients(4, 5, (0.05, 1.0), 1.0, seed=0)
    (w,) = (p.numpy().flatten() for p in build(compose_config(RUN)).initial_params().values())
    found = []
    for _ in range(rounds):
        pairs = list(zip(hessians, optima, strict=True))
        found.append(float(np.mean([quadratics.meta_loss(h, c, w, 0.3, 0) for h, c in pairs])))
        w = w - beta * np.mean([h @ (w - c) for h, c in pairs], axis=0)
    return found


def evaluated(round: int, **figures: object) -> dict[str, object]:
    return {"round": round, "evaluation_failures": [], **figures}


def test_it_waits_as_long_as_it_is_told_to_and_keeps_the_best(train: Train) -> None:
    """β above 2/L: the losses fall for a few rounds and then rise, at rounds that are known."""
    hessians, _ = clients(4, 5, (0.05, 1.0), 1.0, seed=0)
    beta = 2.02 / float(np.linalg.eigvalsh(hessians.mean(0)).max())
    expected = losses(beta, 40)
    best = int(np.argmin(expected))
    assert 3 < best < 30, "else the test shows nothing"
    run = train([*RUN, "rounds=60", f"algorithm.beta={beta}", "early_stopping.patience=3"])
    # The loss of round r is taken at the model that the round begins with.
    assert run.summary["best"]["round"] == best + 1
    assert run.summary["best"]["train_loss"] == pytest.approx(expected[best])
    assert run.summary["rounds"] == best + 1 + 3
    assert "stopped" not in run.summary
    assert run.summary["stopped_early"].startswith("3 evaluations without a better train_loss")
    assert list((run.folder / "checkpoint").glob(f"{best + 4:06}.*"))
    kept = load_file(run.folder / "best.safetensors")
    again = train([*RUN, f"rounds={best + 1}", f"algorithm.beta={beta}"])
    assert all(torch.equal(kept[name], again.model[name]) for name in kept)
    assert not all(torch.equal(kept[name], run.model[name]) for name in kept)


def test_a_run_that_improves_goes_through_all_its_rounds(train: Train) -> None:
    run = train([*RUN, "rounds=12", "early_stopping.patience=1"])
    assert run.summary["rounds"] == 12
    assert run.summary["best"]["round"] == 12
    assert run.summary["best"]["train_loss"] == pytest.approx(losses(BETA, 12)[-1])
    assert "stopped_early" not in run.summary


def test_it_is_off_unless_asked_for(train: Train) -> None:
    run = train([*RUN, "rounds=1"])
    assert "best" not in run.summary
    assert not (run.folder / "best.safetensors").exists()


def test_losses_count_from_one_evaluation_to_the_next() -> None:
    watch = Watch("train_loss")
    assert not watch.take(evaluated(0))
    assert not watch.take({"round": 1, "train_loss": 4.0})
    assert watch.take(evaluated(2, train_loss=2.0))
    assert watch.best == 3.0
    watch.take({"round": 3, "train_loss": 1.0})
    assert not watch.take(evaluated(4, train_loss=5.0)), "3 is no better than 3"
    assert (watch.round, watch.waited) == (2, 1)
    watch.take({"round": 5, "train_loss": None})  # as a row that was not finite is read
    assert not watch.take(evaluated(6))
    assert watch.waited == 1, "an evaluation that says nothing is none"


def test_accuracy_is_better_if_larger_and_of_participating_clients() -> None:
    watch = Watch("accuracy")
    curves = [[0.1, 0.5], [0.9, 0.4], [0.0, 0.6]]
    new = {"accuracy": [0.0, 0.0]}
    rows = [
        evaluated(i, participating={"clients": 4, "accuracy": c}, new=new)
        for i, c in enumerate(curves)
    ]
    assert [watch.take(row) for row in rows] == [True, False, True]
    assert (watch.best, watch.round) == (0.6, 2)


def test_validation_rows_may_be_chosen_by_and_test_rows_not(train: Train) -> None:
    stopping = ["early_stopping.patience=2", "early_stopping.metric=loss"]
    with pytest.raises(InputError) as caught:
        compose_config([*RUN, *stopping])
    assert str(caught.value).startswith("early_stopping.metric=loss: must be train_loss, or add ")
    run = train([*RUN, *stopping, "rounds=3", "evaluation.split=validation"])
    measured = [row["participating"]["loss"][-1] for row in run.rows]
    assert run.summary["best"]["loss"] == min(measured)
    accuracy = ["early_stopping.metric=accuracy", "evaluation.split=validation"]
    with pytest.raises(
        InputError, match=r"early_stopping\.metric=accuracy: must be train_loss \| loss$"
    ):
        train([*RUN, *stopping, *accuracy])


def test_a_metric_of_ones_own_is_better_where_it_says_so() -> None:
    rows = [
        evaluated(i, participating={"clients": 4, "brier": [0.9, v]})
        for i, v in enumerate((0.2, 0.3, 0.1))
    ]
    assert Watch("brier", rows).round == 1
    assert Watch("brier", rows, {"brier"}).round == 2


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["early_stopping.patience=0"], "early_stopping.patience=0: must be at least 1, or null"),
        (
            ["early_stopping.patience=2", "privacy=central_dp"],
            "early_stopping.patience=2: must be null with privacy=central_dp",
        ),
    ],
)
def test_what_cannot_be_is_named(overrides: list[str], line: str) -> None:
    with pytest.raises(InputError) as caught:
        compose_config(overrides)
    assert str(caught.value).startswith(line)


def test_a_resumed_run_counts_on_and_one_that_was_stopped_says_so(
    train: Train, tmp_path: Path
) -> None:
    hessians, _ = clients(4, 5, (0.05, 1.0), 1.0, seed=0)
    beta = 2.02 / float(np.linalg.eigvalsh(hessians.mean(0)).max())
    best = int(np.argmin(losses(beta, 40))) + 1
    options = [*RUN, f"algorithm.beta={beta}", "early_stopping.patience=3"]
    run = train([*options, f"rounds={best + 1}"])
    resume(train, run, "rounds=60")
    rows = (run.folder / "metrics.jsonl").read_text().splitlines()
    assert len(rows) == best + 3 + 1, "with round 0"

    config = resumed_config(run.folder, compose_config([]), [])
    config.rounds = 60
    task = build(config)
    with pytest.raises(InputError) as caught:
        read(run.folder, config, task, task.initial_params())
    assert "there were 3 evaluations without a better train_loss" in str(caught.value)
    assert "early_stopping.patience=6 or null would go on" in str(caught.value)
    resume(train, run, "rounds=60", "early_stopping.patience=6")
    assert len((run.folder / "metrics.jsonl").read_text().splitlines()) == best + 6 + 1


@pytest.mark.parametrize("nothing", [float("nan"), None])
def test_what_is_not_finite_is_no_better_than_anything(nothing: float | None) -> None:
    """As a run has it (NaN), and as metrics.jsonl has it (null)."""

    def rows(*values: float | None) -> list[Row]:
        return [evaluated(i, participating={"clients": 4, "r2": [v]}) for i, v in enumerate(values)]

    first, later = (Watch("r2", rows(*v)) for v in ((nothing, 0.1, 0.2), (0.5, nothing, nothing)))
    assert (first.best, first.waited) == (0.2, 0)
    assert (later.best, later.waited) == (0.5, 2)
    losses = Watch(
        "train_loss", [{"round": 1, "train_loss": nothing}, evaluated(2, train_loss=2.0)]
    )
    assert losses.best == 2.0
