"""Work that a SuperNode takes on: no more than the run's configuration says, nor than its own."""

import copy
from dataclasses import replace
from typing import Any

import pytest
from flwr.app import ArrayRecord, Message

from nufed.client_app import app as module
from nufed.client_app.algorithm import algorithm_of
from nufed.client_app.app import app as client_app
from nufed.client_app.baselines.local import ALONE, AloneInstruction
from nufed.client_app.bounds import limits_of, require_allowed, require_within
from nufed.client_app.messages import (
    EvaluateInstruction,
    EvaluationNumbers,
    MalformedMessage,
    Numbers,
    TrainInstruction,
)
from nufed.client_app.states import Held
from nufed.client_app.wire import encode
from nufed.conf.compose import compose_config
from nufed.conf.convert import to_json
from nufed.conf.errors import InputError
from nufed.simulation.grid import LocalGrid
from nufed.tasks.task import build

CONFIG = compose_config(
    [
        *("algorithm.nu=3", "algorithm.tau=2", "algorithm.batch.support=20"),
        *("algorithm.batch.query=null", "algorithm.batch.hessian=8", "evaluation.steps=4"),
        *("evaluation.batch=10", "algorithm.alpha=0.1", "algorithm.beta=0.1"),
    ]
)
ROWS = 90
TRAIN = TrainInstruction(1, 0, [0], "uniform")
EVALUATE = EvaluateInstruction(0, [0], 4, 10)
ALGORITHM = algorithm_of(CONFIG.algorithm)
NUMBERS = Numbers.of(ALGORITHM)


def line(instruction: TrainInstruction | EvaluateInstruction, **changes: Any) -> str:
    """Return why an instruction is refused, once it is changed."""
    with pytest.raises(MalformedMessage) as refused:
        require_within(replace(instruction, **changes), CONFIG, ROWS)
    return str(refused.value)


def test_what_the_configuration_says_and_less_is_done() -> None:
    require_within(TRAIN, CONFIG, ROWS)
    require_within(EVALUATE, CONFIG, ROWS)
    require_within(replace(EVALUATE, steps=0, batch=1), CONFIG, ROWS)
    require_within(replace(EVALUATE, batch=None), CONFIG, rows=10)  # all, which are as many


def test_a_message_has_no_say_in_how_much_a_round_is() -> None:
    """ν, τ, the mode and batch sizes are the configuration's; numbers alone may be chosen."""
    instruction = TRAIN.of(NUMBERS.into(algorithm_of(CONFIG.algorithm)), Held())
    assert instruction.algorithm == algorithm_of(CONFIG.algorithm)
    halved = Numbers(["alpha", "beta", "delta"], [0.05, 0.05, 1e-3]).into(instruction.algorithm)
    assert halved == replace(instruction.algorithm, alpha=0.05, beta=0.05)
    for name in ("nu", "tau", "mode", "batch", "name", "recompute", "_target_"):
        with pytest.raises(MalformedMessage, match=f"algorithm.{name}: is no real number"):
            Numbers([name], [10.0**7]).into(instruction.algorithm)
    for value in (0.0, -1.0, float("inf"), float("nan"), 1e39):
        with pytest.raises(MalformedMessage, match=r"beta|values"):
            Numbers(["beta"], [value]).into(instruction.algorithm)


def test_curves_that_are_more_are_refused() -> None:
    assert (
        line(EVALUATE, steps=10**7) == "steps=10000000 is more than evaluation.steps=4 of the run"
    )
    assert line(EVALUATE, batch=11) == "batch=11 is more than evaluation.batch=10 of the run"
    assert line(EVALUATE, batch=None) == "batch=90 is more than evaluation.batch=10 of the run"


def test_all_rows_are_asked_for_where_the_run_is_diagnosed() -> None:
    whole = replace(TRAIN, whole=True)
    require_within(whole, replace(CONFIG, diagnostics=replace(CONFIG.diagnostics, every=1)), ROWS)
    with pytest.raises(MalformedMessage, match=r"whole=True, and diagnostics\.every=null"):
        require_within(whole, CONFIG, ROWS)
    algorithm = whole.of(algorithm_of(CONFIG.algorithm), Held()).algorithm
    assert (algorithm.tau, algorithm.beta) == (1, 1.0)
    assert [each.rows for each in algorithm.draws().values()] == [None, None]


def test_a_message_is_refused_before_anything_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the same SuperNode then does what it may."""
    grid = LocalGrid(client_app, {"config": to_json(CONFIG)})
    arrays = ArrayRecord(build(CONFIG).initial_params())

    def send(instruction: Any, kind: str) -> Message:
        content = copy.deepcopy(
            encode(instruction, arrays, also=(NUMBERS, EvaluationNumbers.of(ALGORITHM)))
        )
        return grid.send_and_receive([Message(content, 1000, kind)])[0]

    with monkeypatch.context() as never:
        never.setattr(module, "shared_of", pytest.fail)
        reply = send(replace(TRAIN, whole=True), "train")
        assert reply.error.reason == (
            "MalformedMessage: whole=True, and diagnostics.every=null of the run"
        )
        reply = send(replace(EVALUATE, steps=10**7), "evaluate")
        assert reply.error.reason.endswith(
            "steps=10000000 is more than evaluation.steps=4 of the run"
        )
    assert send(TRAIN, "train").has_content()
    assert send(EVALUATE, "evaluate").has_content()


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"max-nu": 2}, "max-nu=2: the run asks this SuperNode for algorithm.nu=3; lower that, or"),
        ({"max-nu": 3}, "max-nu=3: the run asks this SuperNode for evaluation.steps=4; lower that"),
        ({"max-tau": 1}, "max-tau=1: the run asks this SuperNode for algorithm.tau=2; lower that"),
        ({"max-nu": "4"}, "max-nu=4: must be a whole number from 0 on"),
        ({"max-nu": 4.5}, "max-nu=4.5: must be a whole number from 0 on"),
        ({"max-nu": True}, "max-nu=True: must be a whole number from 0 on"),
        ({"max-tau": 0}, "max-tau=0: must be a whole number from 1 on"),
    ],
)
@pytest.mark.parametrize("kind", ["query", "train", "evaluate"])
def test_who_runs_a_supernode_says_how_much_it_does(
    limits: dict[str, object], words: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it is asked, and before any data are read."""
    monkeypatch.setattr(module, "task_for", pytest.fail)
    module._work.cache_clear()
    grid = LocalGrid(client_app, {"config": to_json(CONFIG)})
    grid.nodes[1000].node_config |= limits
    with pytest.raises(InputError) as refused:
        grid.send_and_receive([Message(encode(TRAIN), 1000, kind)])
    assert str(refused.value).startswith(words)
    assert "\n" not in str(refused.value)


def test_a_model_alone_takes_no_more_steps_than_local_training_may() -> None:
    """50 rounds would have 250 of them; nothing is trained, and the node does the rest."""
    grid = LocalGrid(
        client_app, {"config": to_json(replace(CONFIG, rounds=50, baselines="simple"))}
    )
    grid.nodes[1000].node_config |= {"max-nu": 4, "max-tau": 249}
    instruction = encode(AloneInstruction([0]))
    (reply,) = grid.send_and_receive([Message(instruction, 1000, ALONE)])
    said = "max-tau=249: a model alone takes up to 250 steps here; say baselines=none"
    assert reply.error.reason == f"MalformedMessage: {said}"


def test_what_keeps_to_the_limits_is_done() -> None:
    node = {"partition-id": 0, "num-partitions": 1, "max-nu": 4, "max-tau": 2}
    assert limits_of(node) == (("max-nu", 4), ("max-tau", 2))
    require_allowed(CONFIG, dict(limits_of(node)))
    require_allowed(CONFIG, dict(limits_of({"partition-id": 0})))
