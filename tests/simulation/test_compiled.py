"""A compiled local step gives what it gives as it is written."""

import json
import logging
from dataclasses import replace

import pytest
import torch

from nufed.client_app.executor import OneByOne
from nufed.simulation import plan as plans
from nufed.simulation.batched import Batched
from nufed.simulation.compiled import CompilerFailed
from nufed.tasks.store import home
from tests.helpers import distance
from tests.simulation.helpers import (
    TOLERANCE,
    Setting,
    assert_same_curves,
    assert_same_training,
    batched,
    evaluate_job,
    setting,
    train_job,
)

SETTINGS = {
    "float32": ("model.hidden=[16]", "algorithm.nu=1", "algorithm.batch.support=6"),
    # Batches of all rows: ragged, so that some of what fills them does not count.
    "float64": (
        *("model=logistic", "algorithm.nu=2"),
        *("algorithm.batch.support=null", "algorithm.batch.query=null"),
    ),
}


@pytest.fixture(scope="module", params=SETTINGS)
def compiled(request: pytest.FixtureRequest) -> tuple[Setting, Batched]:
    """Compile once in each precision; chunks of three, of seven clients, are not all full."""
    of = setting(*SETTINGS[request.param], f"engine.precision={request.param}")
    engine = batched(of, compile=True, chunk_size=3)
    engine.train(of.params, train_job(of))
    return of, engine


def programs() -> set[str]:
    """Return the programs on disk: beside the data, where a later run finds them."""
    return {file.name for file in (home() / "compiled").rglob("*.so")}


def tolerance(of: Setting) -> float:
    return TOLERANCE[of.config.engine["precision"]]


@pytest.mark.parametrize("weighting", ["uniform", "examples"])
def test_compiled_steps_are_the_steps_as_written(
    compiled: tuple[Setting, Batched], weighting: str
) -> None:
    """Those that fill a short chunk up weigh nothing, and are not reported."""
    of, engine = compiled
    job = train_job(of, weighting=weighting)
    result = engine.train(of.params, job)
    assert result.report.clients == [0, 1, 2, 3, 4, 5, 6]
    eager = batched(of, chunk_size=3).train(of.params, job)
    assert_same_training(result, eager, tolerance(of))
    assert_same_training(result, OneByOne(of.task).train(of.params, job), tolerance(of))


def test_a_later_round_needs_no_new_program(compiled: tuple[Setting, Batched]) -> None:
    """Other draws, other parameters, more steps, other clients: the same program serves.

    The largest, with 60 rows, is not among the last: batches of all rows are as long as its.
    """
    of, engine = compiled
    before = programs()
    assert before
    other = {name: p + 0.1 * torch.randn_like(p) for name, p in of.params.items()}
    for clients in ([6, 2, 0, 1, 4, 3, 5], [5, 2, 6]):
        job = train_job(of, clients, round=9, tau=5, seed=3)
        result = engine.train(other, job)
        assert programs() == before
        assert_same_training(result, OneByOne(of.task).train(other, job), tolerance(of))


def test_programs_write_over_no_parameters_of_others(compiled: tuple[Setting, Batched]) -> None:
    """They overwrite those that they are given, which must be copies of the global model."""
    of, engine = compiled
    before = {name: p.clone() for name, p in of.params.items()}
    first = engine.train(of.params, train_job(of))
    kept = {name: p.clone() for name, p in first.update.items()}
    second = engine.train(of.params, train_job(of))
    assert all(torch.equal(before[name], p) for name, p in of.params.items())
    assert distance(first.update, kept) == 0.0
    assert distance(first.update, second.update) == 0.0


def test_a_compiled_single_client_is_tried_and_the_plan_is_obeyed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A stack of one, with a program of its own. What is not chosen is said to be in vain."""
    caplog.set_level(logging.INFO, "nufed")
    monkeypatch.setattr(plans, "PLANS", "plans-single.json")
    of = setting(*SETTINGS["float32"], "engine.precision=float32")
    job, file = train_job(of, [4]), home() / plans.PLANS
    expected = OneByOne(of.task).train(of.params, job)
    engine = batched(of, compile=True)
    assert_same_training(engine.train(of.params, job), expected, 1e-5)
    made_steps = engine.executor._step.cache_info().currsize
    assert made_steps <= 2, "as it is, and compiled: the round takes what the trial made"
    ((name, found),) = json.loads(file.read_text()).items()
    plan, made = plans.Plan(*found), programs()
    assert plan.seconds_compiled is not None
    assert plan.seconds == min(plan.seconds_compiled, plan.seconds_one_by_one) or plan.compiled
    for compiled, says in (
        (True, "clients are trained one by one, compiled, on 1 thread: in the trial"),
        (False, "steps are not compiled: in the trial"),
    ):
        caplog.clear()
        file.write_text(json.dumps({name: plan._replace(compiled=compiled)}))
        engine = batched(of, compile=True)
        assert_same_training(engine.train(of.params, job), expected, 1e-5)
        assert caplog.records[-1].getMessage().startswith(says)
        assert programs() == made


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a run of a second be long enough to compile, and plans be found anew."""
    monkeypatch.setattr(plans, "TRIAL_S", 0.3)
    monkeypatch.setattr(plans, "PLANS", "plans-auto.json")
    (home() / plans.PLANS).unlink(missing_ok=True)


def plan_of(of: Setting, **changes: object) -> plans.Plan:
    """Train for a round, and return the plan that was kept for it."""
    job = train_job(of)
    engine = Batched(replace(of.config, **changes), of.task)
    assert_same_training(
        engine.train(of.params, job), OneByOne(of.task).train(of.params, job), tolerance(of)
    )
    ((_, found),) = json.loads((home() / plans.PLANS).read_text()).items()
    return plans.Plan(*found)


@pytest.mark.usefixtures("short")
def test_left_to_itself_a_long_run_is_compiled_and_a_short_one_is_not() -> None:
    """What is known of the one serves the other: nothing is tried a second time."""
    of = setting("model.hidden=[11]", "algorithm.nu=1")
    assert of.config.engine["compile"] == "auto"
    assert plan_of(of, rounds=1).seconds_compiled is None
    long = plan_of(of, rounds=1000)
    assert long.seconds_compiled is not None
    assert long.compiled == (long.seconds == long.seconds_compiled)
    made = programs()
    assert plan_of(of, rounds=1000) == plan_of(of, rounds=1) == long
    assert programs() == made


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("override", ["algorithm.recompute=true", "schedule=decay"])
def test_left_to_itself_what_must_not_be_compiled_is_not(override: str) -> None:
    of = setting("model.hidden=[12]", "algorithm.nu=1", override)
    assert plan_of(of, rounds=10**6).seconds_compiled is None


@pytest.mark.usefixtures("short")
def test_without_a_compiler_a_run_left_to_itself_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "nufed")
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("/nowhere/c++",))
    of = setting("model.hidden=[13]", "algorithm.nu=1")
    plan = plan_of(of, rounds=1000)
    assert not plan.compiled
    assert plan.untraceable is not None
    (said,) = [line for line in caplog.messages if line.startswith("steps are not compiled: ")]
    assert "a C++ compiler is needed" in said
    with pytest.raises(CompilerFailed):
        batched(of, compile=True).train(of.params, train_job(of))


def test_evaluation_beside_compiled_training(compiled: tuple[Setting, Batched]) -> None:
    of, engine = compiled
    curves = engine.evaluate(of.params, evaluate_job(of))
    expected = OneByOne(of.task).evaluate(of.params, evaluate_job(of))
    assert_same_curves(curves, expected, tolerance(of))
