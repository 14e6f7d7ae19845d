"""The engine as a run uses it: what it chooses, what it refuses, and that a run is the same."""

import json
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from nufed.client_app.app import make_app
from nufed.client_app.executor import OneByOne
from nufed.conf.compose import compose_config
from nufed.conf.convert import to_json
from nufed.conf.errors import InputError
from nufed.server_app.app import app as server_app
from nufed.simulation import plan as plans
from nufed.simulation.batched import Batched, why_one_by_one
from nufed.simulation.grid import run_in_process
from nufed.strategies.rules.mean import Mean
from tests.helpers import RunResult, distance, read_run
from tests.simulation.helpers import (
    Scalar,
    Setting,
    Vocabulary,
    assert_same_curves,
    assert_same_training,
    batched,
    evaluate_job,
    setting,
    train_job,
)

Run = Callable[[Sequence[str]], RunResult]


# Models that people bring.


class Perceptron(nn.Sequential):
    """64 → 8 → classes, with a layer of someone's in between."""

    def __init__(self, layer: nn.Module, num_outputs: int) -> None:
        super().__init__(
            nn.Flatten(), nn.Linear(64, 8), layer, nn.ReLU(), nn.Linear(8, num_outputs)
        )


def dropping(num_outputs: int) -> nn.Module:
    return Perceptron(nn.Dropout(0.5), num_outputs)


def mixing(num_outputs: int) -> nn.Module:
    """Each row's outputs depend on the mean of all rows, a single one's too."""
    return Perceptron(Centred(), num_outputs)


class Centred(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - 0.5 * x.mean(0)


def batch_normalized(num_outputs: int) -> nn.Module:
    """It refuses, while it trains, a batch of one row."""
    return Perceptron(nn.BatchNorm1d(8, track_running_stats=False), num_outputs)


class Watchful(Perceptron):
    """It refuses to be traced, as a module that torch.compile made does."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__(nn.Identity(), num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        if get_proxy_mode() is not None:
            raise RuntimeError("a module that is not to be traced")
        scores: Tensor = super().forward(x)
        return scores


def layer_normalized(num_outputs: int) -> nn.Module:
    return Perceptron(nn.LayerNorm(8), num_outputs)


class Touchy(nn.Linear):
    """It raises for some rows, by a branch that no stack can take."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__(4, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        if (x > 50).any():
            raise ValueError("a value above 50")
        return super().forward(x)


def with_model(model: Callable[..., nn.Module], *overrides: str) -> Setting:
    target = f"{model.__module__}.{model.__qualname__}"
    return setting("model=custom", f"model._target_={target}", *overrides)


def with_rows(folder: Path, x: Any, model: Callable[..., nn.Module]) -> Setting:
    """Build a task of five clients with 40 of these rows each."""
    y, client = np.arange(200) % 3, np.repeat(np.arange(5), 40)
    np.savez(folder / "rows.npz", x=x, y=y, client=client)
    return with_model(model, "dataset=npz", f"dataset.path={folder / 'rows.npz'}", "algorithm.nu=1")


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return what was said so far."""
    caplog.set_level(logging.INFO, "nufed")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "nufed"]


def assert_exactly(mine: Any, theirs: Any) -> None:
    """Not only near: the very same."""
    assert distance(mine.update, theirs.update) == 0.0
    assert mine.report == theirs.report


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=mlp",),
        ("model=logistic",),
        ("model=cnn", "model.kernel=3", "model.padding=1"),
        ("dataset=quadratics",),
    ],
)
def test_nothing_is_said_against_ordinary_models(overrides: tuple[str, ...]) -> None:
    of = setting(*overrides)
    assert why_one_by_one(of.task, of.params) is None


def test_layers_that_normalize_a_row_by_itself_may_be_stacked() -> None:
    of = with_model(layer_normalized, "algorithm.nu=2")
    assert why_one_by_one(of.task, of.params) is None
    trained = batched(of, chunk_size=3).train(of.params, train_job(of))
    assert_same_training(trained, OneByOne(of.task).train(of.params, train_job(of)), 1e-5)


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (dropping, "the model draws random numbers"),
        (mixing, "what the model gives for a row depends on the rows beside it"),
        (batch_normalized, ""),
    ],
)
def test_models_that_a_stack_would_change_are_taken_one_by_one(
    model: Callable[..., nn.Module], why: str, said: Callable[[], list[str]]
) -> None:
    """Dropout would draw other masks, and rows that fill a batch up would count."""
    of = with_model(model, "algorithm.nu=1", "algorithm.batch.support=null")
    clients = [0, 1, 3, 4, 5, 6]
    torch.manual_seed(0)
    before = torch.get_rng_state()
    engine = batched(of)
    trained = engine.train(of.params, train_job(of, clients))
    measured = engine.evaluate(of.params, evaluate_job(of, clients))
    assert torch.equal(torch.get_rng_state(), before)
    alone = OneByOne(of.task)
    assert_exactly(trained, alone.train(of.params, train_job(of, clients)))
    assert_same_curves(measured, alone.evaluate(of.params, evaluate_job(of, clients)), 1e-15)
    assert sum("one by one" in line and why in line for line in said()) == 1


def test_a_chunk_size_that_is_given_lets_dropout_into_a_stack(
    said: Callable[[], list[str]],
) -> None:
    """With other masks than one by one, which is said; and with the same ones every time."""
    of = with_model(dropping, "algorithm.nu=1", "algorithm.batch.support=null")
    trained, again = (batched(of, chunk_size=3).train(of.params, train_job(of)) for _ in range(2))
    assert distance(trained.update, again.update) == 0.0
    alone = OneByOne(of.task).train(of.params, train_job(of))
    assert 1e-4 < distance(trained.update, alone.update) < 0.1
    assert trained.report.loss == pytest.approx(alone.report.loss, rel=0.2)
    assert sum("3 at once, as asked: the model draws random numbers" in s for s in said()) == 2


def test_a_given_chunk_size_does_not_let_rows_see_those_that_fill_up() -> None:
    of = with_model(mixing, "algorithm.nu=1", "algorithm.batch.support=null")
    engine, alone = batched(of, chunk_size=3), OneByOne(of.task)
    trained = engine.train(of.params, train_job(of))
    assert_same_training(trained, alone.train(of.params, train_job(of)), 1e-5)
    curves = engine.evaluate(of.params, evaluate_job(of))
    assert_same_curves(curves, alone.evaluate(of.params, evaluate_job(of)), 1e-5)


@pytest.mark.parametrize("culprit", [0, 3])
def test_a_client_that_makes_the_model_raise_is_named_whichever_it_is(
    tmp_path: Path, culprit: int
) -> None:
    """The first client is also the one that the engine tries its plans on."""
    x = np.random.default_rng(0).normal(size=(200, 4))
    x[culprit * 40 : culprit * 40 + 40] += 100
    of = with_rows(tmp_path, x, Touchy)
    engine, alone = batched(of), OneByOne(of.task)
    expected = alone.train(of.params, train_job(of))
    assert expected.report.failed == [culprit]
    assert_same_training(engine.train(of.params, train_job(of)), expected, 1e-5)
    curves = alone.evaluate(of.params, evaluate_job(of))
    assert_same_curves(engine.evaluate(of.params, evaluate_job(of)), curves, 1e-5)


def test_a_vocabulary_is_not_left_by_what_the_engine_tries(tmp_path: Path) -> None:
    """Every row holds the last word: there is none after it."""
    x = np.random.default_rng(0).integers(5, size=(200, 6))
    x[:, 0] = 9
    of = with_rows(tmp_path, x, Vocabulary)
    expected = OneByOne(of.task).train(of.params, train_job(of))
    assert_same_training(batched(of).train(of.params, train_job(of)), expected, 1e-5)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of its own, for the plans."""
    monkeypatch.setenv("NUFED_DATA", str(tmp_path))
    return tmp_path / plans.PLANS


def test_a_plan_is_made_once_and_kept(folder: Path, said: Callable[[], list[str]]) -> None:
    """A second engine does the same without a trial: here it believes what no trial would say."""
    of = setting("algorithm.nu=1")
    first = batched(of)
    trained, measured = (
        first.train(of.params, train_job(of)),
        first.evaluate(of.params, evaluate_job(of)),
    )
    kept = json.loads(folder.read_text())
    assert len(kept) == 2
    lines = said()
    assert [line.split(" ", 3)[:3] for line in lines] == [
        ["clients", "are", "trained"],
        ["clients", "are", "evaluated"],
    ]
    again = batched(of)
    assert_exactly(again.train(of.params, train_job(of, round=1)), trained)
    assert again.evaluate(of.params, evaluate_job(of)) == measured
    assert said() == lines * 2
    assert json.loads(folder.read_text()) == kept
    for plan in kept.values():
        plan[0] = 5
    folder.write_text(json.dumps(kept))
    third = batched(of)
    assert_same_training(third.train(of.params, train_job(of)), trained, 1e-5)
    third.train(of.params, train_job(of, round=2))
    assert [line for line in said()[4:] if "trained 5 at once" in line] == said()[4:]
    assert len(said()) == 5


def test_another_algorithm_model_or_number_of_clients_is_another_plan(folder: Path) -> None:
    counts = []
    for overrides, changes in (
        (("algorithm.nu=1",), {}),
        (("algorithm.nu=1",), {"round": 2, "tau": 3, "seed": 4}),
        (("algorithm.nu=2",), {}),
        (("algorithm.nu=2",), {"mode": "first_order"}),
        (("algorithm.nu=2",), {"support": 3}),
        (("algorithm.nu=2",), {"clients": [0, 1, 3]}),
        (("algorithm.nu=2", "model=logistic"), {}),
        (("algorithm.nu=2", "engine.precision=float64"), {}),
    ):
        of = setting(*overrides)
        batched(of).train(of.params, train_job(of, **changes))
        counts.append(len(json.loads(folder.read_text())))
    assert counts == [1, 1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("content", [b"no JSON", b"\xff\xfe", b"[]"])
def test_plans_that_cannot_be_read_are_made_anew(folder: Path, content: bytes) -> None:
    folder.write_bytes(content)
    of = setting("algorithm.nu=1")
    trained = batched(of).train(of.params, train_job(of))
    assert_same_training(trained, OneByOne(of.task).train(of.params, train_job(of)), 1e-5)
    assert len(json.loads(folder.read_text())) == 1


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("engine.chunk_size=0", "engine.chunk_size=0: must be at least 1, or null"),
        ("engine.chunk_size=2.5", "engine.chunk_size=2.5: must be at least 1, or null"),
        ("engine.chunk_size=true", "engine.chunk_size=True: must be at least 1, or null"),
        ("engine.chunk_size=many", "engine.chunk_size=many: must be at least 1, or null"),
        ("engine.workers=0", "engine.workers=0: must be at least 1, or null"),
        ("engine.workers=-1", "engine.workers=-1: must be at least 1, or null"),
        ("engine.compile='yes'", "engine.compile=yes: must be true, false, or auto"),
        ("engine.compile=1", "engine.compile=1: must be true, false, or auto"),
        ("engine.compile=null", "engine.compile=None: must be true, false, or auto"),
        ("engine.ray_address=6379", "engine.ray_address=6379: must be host:port of a Ray cluster"),
        ("engine.precision=float16", "engine.precision=float16: must be float32 | float64 | bf16"),
    ],
)
def test_impossible_options_are_refused_in_one_line(override: str, says: str) -> None:
    with pytest.raises(InputError) as refused:
        batched(setting(override))
    assert str(refused.value).startswith(says)
    assert "\n" not in str(refused.value)


NOT_USED = "steps are not compiled: "


@pytest.mark.parametrize("chunk", [3, None])
def test_steps_that_cannot_be_compiled_are_done_as_they_are_and_this_is_said(
    folder: Path, chunk: int | None, said: Callable[[], list[str]]
) -> None:
    """Once, in the trial or at the first chunk; in stacks they can be."""
    of = with_model(Watchful, "algorithm.nu=1")
    engine = batched(of, compile=True, chunk_size=chunk)
    for round in (1, 2):
        job = train_job(of, round=round)
        assert_same_training(
            engine.train(of.params, job), OneByOne(of.task).train(of.params, job), 1e-5
        )
    vain = [line for line in said() if NOT_USED in line]
    assert vain == [f"{NOT_USED}a module that is not to be traced"]
    assert engine.executor.one_by_one == set()
    assert folder.exists() == (chunk is None)


@pytest.mark.parametrize("chunk", [2, None])
def test_clients_that_only_work_by_themselves_are_not_compiled_and_this_is_said(
    tmp_path: Path, chunk: int | None, said: Callable[[], list[str]]
) -> None:
    of = with_rows(tmp_path, np.random.default_rng(0).normal(size=(200, 4)), Scalar)
    engine = batched(of, compile=True, chunk_size=chunk)
    for round in (1, 2):
        engine.evaluate(of.params, evaluate_job(of))  # as a run does before its first round
        job = train_job(of, round=round)
        expected = OneByOne(of.task).train(of.params, job)
        assert_same_training(engine.train(of.params, job), expected, 1e-6)
    (why,) = [line for line in said() if ".item()" in line]
    assert why.startswith("clients go one by one: each by itself works, a stack does not: vmap: ")
    assert [line for line in said() if NOT_USED in line] == [f"{NOT_USED}clients go one by one"]


def test_dropout_is_not_compiled_and_this_is_said(said: Callable[[], list[str]]) -> None:
    """A stack of one, too, would draw other masks than a client by itself."""
    of = with_model(dropping, "algorithm.nu=1", "algorithm.batch.support=null")
    for chunk in (None, 1):
        engine = batched(of, compile=True, chunk_size=chunk)
        expected = OneByOne(of.task).train(of.params, train_job(of))
        assert_exactly(engine.train(of.params, train_job(of)), expected)
    assert [line for line in said() if NOT_USED in line] == [f"{NOT_USED}clients go one by one"] * 2


def test_compiling_and_recomputing_exclude_each_other() -> None:
    of = setting("engine.compile=true", "algorithm.recompute=true")
    with pytest.raises(InputError, match=r"engine.compile=true: .*algorithm.recompute=true"):
        batched(of)


# Whole runs, through server and client apps.


@pytest.fixture
def run_batched(tmp_path: Path) -> Run:
    """Return a function that does what `nufed engine=batched` does, and reads the run folder."""

    def run(overrides: Sequence[str]) -> RunResult:
        folder = tmp_path / f"batched{len([*tmp_path.iterdir()])}"
        run_config = {
            "config": to_json(compose_config(["baselines=none", "report=false", *overrides])),
            "run-dir": str(folder),
        }
        run_in_process(server_app, make_app(Batched), run_config)
        return read_run(folder)

    return run


RAGGED = ["dataset=npz", "dataset.one_class=keep", "model.hidden=[16]"]
RUNS = {
    "by examples, Adam, Hessian batches": [
        *("strategy.weighting=examples", "algorithm.batch.hessian=9", "rounds=4"),
        "strategy.optimizer={_target_: torch.optim.Adam, _partial_: true, lr: 0.01}",
        *("clients_per_round=5", "evaluation.every=2", "evaluation.new_clients=[0,4]"),
    ],
    "all rows, first order": [
        *("algorithm.batch.support=null", "algorithm.batch.query=null", "rounds=2"),
        *("algorithm.mode=first_order", "clients_per_round=7", "evaluation.new_clients=0"),
    ],
}


def ragged(overrides: Sequence[str]) -> list[str]:
    return [*RAGGED, f"dataset.path={setting().config.dataset['path']}", *overrides]


@pytest.mark.parametrize("name", RUNS)
def test_a_whole_run_writes_the_rows_that_the_loop_writes(
    name: str, run_batched: Run, train: Callable[..., RunResult]
) -> None:
    """Every key of metrics.jsonl but the times; clients of 1 to 60 rows."""
    overrides = ragged(RUNS[name])
    mine, theirs = run_batched(overrides), train(overrides)
    assert distance(mine.model, theirs.model) < 1e-5
    assert len(mine.rows) == compose_config(overrides).rounds + 1
    for row, expected in zip(mine.rows, theirs.rows, strict=True):
        assert row.keys() == expected.keys()
        for key in row.keys() - {"train_s", "train_cpu_s"}:
            assert_near(row[key], expected[key])
    for kind in ("participating", "new"):
        assert_near(mine.summary.get(kind), theirs.summary.get(kind))
    assert theirs.rows[-1]["train_loss"] < theirs.rows[1]["train_loss"]


def assert_near(mine: Any, theirs: Any) -> None:
    """Compare numbers within numbers' containers to 1e-5."""
    if isinstance(theirs, dict):
        assert mine.keys() == theirs.keys()
        for key, value in theirs.items():
            assert_near(mine[key], value)
    elif isinstance(theirs, list):
        assert len(mine) == len(theirs)
        for pair in zip(mine, theirs, strict=True):
            assert_near(*pair)
    elif isinstance(theirs, float) and not math.isnan(theirs):
        assert mine == pytest.approx(theirs, rel=1e-5, abs=1e-5)
    else:
        assert repr(mine) == repr(theirs)


class SeesEach(Mean):
    """As a rule would be that must see every client's update by itself."""

    sees_each = True


@pytest.mark.parametrize("weighting", ["uniform", "examples"])
def test_each_update_by_itself_gives_the_same_model_as_their_mean(
    run_batched: Run, weighting: str
) -> None:
    rounds = ["rounds=2", "clients_per_round=5", "engine.precision=float64"]
    overrides = ragged([*rounds, f"strategy.weighting={weighting}", "evaluation.new_clients=0"])
    together = run_batched(overrides)
    by_itself = run_batched([*overrides, f"rule._target_={__name__}.SeesEach"])
    assert distance(together.model, by_itself.model) < 1e-10
    for row, expected in zip(by_itself.rows[1:], together.rows[1:], strict=True):
        assert row["clients"] == 5
        for key in ("train_loss", "meta_grad_norm", "update_norm"):
            assert row[key] == pytest.approx(expected[key], abs=1e-10)
