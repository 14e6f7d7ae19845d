"""Hundreds of malformed messages at the ClientApp: each is named, and leaves nothing behind."""

import copy
import json
from collections.abc import Callable
from dataclasses import fields
from functools import cache, partial
from typing import Any, NamedTuple, get_type_hints

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from nufed.client_app.algorithm import algorithm_of
from nufed.client_app.app import app as client_app
from nufed.client_app.baselines.local import ALONE, AloneInstruction
from nufed.client_app.messages import (
    CURVATURE,
    EvaluateInstruction,
    EvaluationNumbers,
    Numbers,
    ProbeInstruction,
    TrainInstruction,
)
from nufed.client_app.wire import ARRAYS, EVALUATION, REPORT, encode
from nufed.conf.compose import compose_config
from nufed.conf.convert import to_json
from nufed.conf.errors import InputError
from nufed.simulation.grid import LocalGrid
from nufed.tasks.task import build
from tests.fuzz import FULL, FUZZ, report_in

NODE, CLIENTS = 1000, 6
KINDS = {
    "train": TrainInstruction,
    "evaluate": EvaluateInstruction,
    CURVATURE: ProbeInstruction,
    ALONE: AloneInstruction,
}
Change = Callable[[RecordDict], RecordDict]


class Scene(NamedTuple):
    """A node, well-formed contents by message type, and what it answered at first."""

    grid: LocalGrid
    config: str
    contents: dict[str, RecordDict]
    answers: dict[str, RecordDict]


@cache
def scene() -> Scene:
    config = compose_config(
        [
            "dataset=quadratics",
            "algorithm.alpha=0.03",
            "algorithm.beta=0.1",
            f"dataset.num_clients={CLIENTS}",
            "rounds=1",
            "algorithm.tau=1",
            "algorithm.nu=1",
        ]
    )
    grid = LocalGrid(client_app, {"config": to_json(config)})
    arrays = ArrayRecord(build(config).initial_params())
    algorithm = algorithm_of(config.algorithm)
    also = (Numbers.of(algorithm), EvaluationNumbers.of(algorithm))
    contents = {
        "train": encode(TrainInstruction(1, 0, [1, 4], "uniform"), arrays, also=also),
        "evaluate": encode(EvaluateInstruction(0, [1, 4], 2, 20), arrays, also=also),
        CURVATURE: encode(ProbeInstruction(0, [1, 4]), arrays),
        ALONE: encode(AloneInstruction([1, 4])),
    }
    answers = {kind: send(grid, kind, content).content for kind, content in contents.items()}
    return Scene(grid, to_json(config), contents, answers)


def send(grid: LocalGrid, kind: str, content: RecordDict) -> Message:
    """Deliver a message to the node; return its reply."""
    (reply,) = grid.send_and_receive([Message(copy.deepcopy(content), NODE, kind)])
    return reply


def told(answer: RecordDict) -> tuple[Any, ...]:
    """What a reply says, bit by bit, but for the CPU time that it took."""
    report = {name: value for name, value in answer[report_in(answer)].items() if name != "cpu_s"}
    arrays = answer.array_records.get(ARRAYS, ArrayRecord())
    return report, {name: (a.dtype, a.shape, a.data) for name, a in arrays.items()}


def assert_as_before(of: Scene, kind: str) -> None:
    """The next well-formed message is answered as if nothing had happened."""
    reply = send(of.grid, kind, of.contents[kind])
    assert reply.has_content()
    assert told(reply.content) == told(of.answers[kind])


def assert_refused(of: Scene, kind: str, content: RecordDict) -> None:
    """The reply is an error of ours, in words; or our one-line error, which this grid passes on."""
    try:
        reply = send(of.grid, kind, content)
    except InputError as error:
        line = str(error)
    else:
        assert reply.has_error(), told(reply.content)
        name, _, line = reply.error.reason.partition(": ")
        assert name == "MalformedMessage"
    assert line
    assert "\n" not in line
    assert len(line) < 1000


# What may be wrong with the content of a message.


def with_field(content: RecordDict, name: str, value: Any) -> RecordDict:
    content[report_in(content)][name] = value
    return content


def without(content: RecordDict, name: str, field: str | None = None) -> RecordDict:
    if field is None:
        del content[name]
    else:
        del content[name][field]
    return content


def replaced(content: RecordDict, name: str, record: Any) -> RecordDict:
    del content[name]
    content[name] = record
    return content


def with_array(content: RecordDict, name: str, array: Array) -> RecordDict:
    content[ARRAYS] = ArrayRecord({name: array})
    return content


def with_declared(content: RecordDict, **changes: Any) -> RecordDict:
    (array,) = content[ARRAYS].values()
    for name, value in changes.items():
        setattr(array, name, value)
    return content


INTEGERS = st.integers(-(2**63), 2**63 - 1)
TEXTS = st.text(min_size=1, max_size=500)
VALUES = st.one_of(
    INTEGERS, st.floats(), st.booleans(), TEXTS, st.binary(max_size=20),
    st.lists(INTEGERS), st.lists(st.floats(), min_size=1), st.lists(TEXTS, min_size=1),
    st.just(list(range(100_000))),
)  # fmt: skip
OUT_OF_RANGE = {
    "round": INTEGERS.filter(lambda n: n < 0),
    "seed": INTEGERS.filter(lambda n: n < 0),
    "whole": st.just(True),  # the run is not diagnosed
    "steps": INTEGERS.filter(lambda n: not 0 <= n <= 5),
    "most_rows": INTEGERS.filter(lambda n: n < 1),
    "weighting": TEXTS,
    "batch": INTEGERS.filter(lambda n: not 1 <= n <= 20),
    "clients": st.lists(INTEGERS, min_size=1).filter(
        lambda c: not set(c) <= set(range(CLIENTS)) or len(set(c)) < len(c)
    ),
}


def of_another_type(kind: type, name: str, value: Any) -> bool:
    hint = str(get_type_hints(kind)[name])
    if isinstance(value, list):
        return not (hint == "list[int]" and all(type(entry) is int for entry in value))
    return "list" in hint or type(value).__name__ not in hint


def spoilt_instructions(kind: type) -> st.SearchStrategy[Change]:
    """Fields that are missing, unknown, of another type, or impossible."""
    place = EVALUATION if kind is EvaluateInstruction else REPORT
    hints = get_type_hints(kind)
    names = [f.name for f in fields(kind)]
    typed = st.tuples(st.sampled_from(names), VALUES).filter(
        lambda pair: of_another_type(kind, *pair)
    )
    ranged = st.sampled_from([name for name in names if name in OUT_OF_RANGE]).flatmap(
        lambda name: st.tuples(st.just(name), OUT_OF_RANGE[name])
    )
    unknown = st.tuples(TEXTS.filter(lambda text: text not in hints), VALUES)
    needed = st.sampled_from([name for name in names if "None" not in str(hints[name])])
    return st.one_of(
        st.one_of(typed, ranged, unknown).map(
            lambda pair: partial(with_field, name=pair[0], value=pair[1])
        ),
        needed.map(lambda name: partial(without, name=place, field=name)),
        st.just(partial(without, name=place)),
        st.sampled_from([MetricRecord(), ArrayRecord(), ConfigRecord()]).map(
            lambda record: partial(replaced, name=place, record=record)
        ),
    )


SPOILT_ARRAYS = st.one_of(
    st.just(partial(without, name=ARRAYS)),
    st.just(partial(replaced, name=ARRAYS, record=ArrayRecord())),
    TEXTS.map(
        lambda name: partial(with_array, name=name, array=Array(np.zeros((1, 5), np.float32)))
    ),
    st.lists(st.integers(0, 6), max_size=3)
    .filter(lambda shape: shape != [1, 5])
    .map(lambda s: partial(with_array, name="1.weight", array=Array(np.zeros(s, np.float32)))),
    st.sampled_from([np.int64, np.bool_, np.complex64, np.str_, np.uint16]).map(
        lambda t: partial(with_array, name="1.weight", array=Array(np.zeros((1, 5), t)))
    ),
    st.binary(max_size=300).map(lambda data: partial(with_declared, data=data)),
    st.binary(max_size=60).map(lambda d: partial(with_declared, data=b"\x93NUMPY\x01\x00" + d)),
    TEXTS.map(lambda text: partial(with_declared, stype=text)),
    TEXTS.map(lambda text: partial(with_declared, dtype=text)),
)


def with_numbers(content: RecordDict, names: list[str], values: list[float]) -> RecordDict:
    place = "evaluation.numbers" if report_in(content) == EVALUATION else "numbers"
    content[place] = ConfigRecord({"names": names, "values": values})
    return content


KNOWN = ("alpha", "beta", "delta")
IMPOSSIBLE = st.tuples(st.sampled_from(KNOWN), st.floats().filter(lambda x: not 0 < x < 3e38))
FIXED_BY_CONFIG = st.sampled_from(["nu", "tau", "mode", "batch", "name", "recompute"])
SPOILT_NUMBERS = st.one_of(
    IMPOSSIBLE.map(lambda pair: partial(with_numbers, names=[pair[0]], values=[pair[1]])),
    st.one_of(TEXTS, FIXED_BY_CONFIG)
    .filter(lambda name: name not in KNOWN)
    .map(lambda name: partial(with_numbers, names=[name], values=[0.1])),
    st.just(partial(with_numbers, names=["alpha", "alpha"], values=[0.1, 0.1])),
    st.just(partial(with_numbers, names=["alpha", "beta"], values=[0.1])),
)


def test_the_model_is_the_one_that_the_arrays_above_miss() -> None:
    assert {n: a.shape for n, a in scene().contents["train"][ARRAYS].items()} == {
        "1.weight": (1, 5)
    }


@FUZZ
@given(st.data())
def test_a_malformed_message_is_named_and_leaves_nothing_behind(data: st.DataObject) -> None:
    of, kind = scene(), data.draw(st.sampled_from(sorted(KINDS)))
    changes = [spoilt_instructions(KINDS[kind])]
    changes += [SPOILT_ARRAYS] if kind != ALONE else []
    changes += [SPOILT_NUMBERS] if kind not in (ALONE, CURVATURE) else []
    change = data.draw(st.one_of(*changes))
    assert_refused(of, kind, change(copy.deepcopy(of.contents[kind])))
    assert_as_before(of, kind)


LEAVES = {
    "rounds": "x", "seed": -1, "clients_per_round": 0, "fraction": 2.0, "device": "abacus",
    "algorithm.nu": "many", "algorithm.alpha": -1.0, "algorithm.mode": "best",
    "algorithm.batch.query": 0, "partition.test_fraction": 1.5, "evaluation.every": 0,
    "evaluation.new_clients": [-1], "privacy.name": "some", "engine.precision": "float8",
    "dataset.curvature": 5, "dataset._target_": "nothing.read", "model._target_": "os.getcwd",
}  # fmt: skip
GROUPS = (
    "algorithm",
    "partition",
    "evaluation",
    "privacy",
    "dataset",
    "model",
    "engine",
    "strategy",
)


def at(config: dict[str, Any], path: str, change: Callable[[dict[str, Any], str], None]) -> str:
    """Change one key of a configuration, and return it as it travels."""
    changed = copy.deepcopy(config)
    *groups, key = path.split(".")
    node = changed
    for group in groups:
        node = node[group]
    change(node, key)
    return json.dumps(changed)


def spoilt_configs(config: dict[str, Any]) -> st.SearchStrategy[dict[str, str]]:
    """Texts that are no configuration, or no possible one."""

    def to(value: Any) -> Callable[[dict[str, Any], str], None]:
        return lambda node, key: node.update({key: value})

    whole = json.dumps(config)
    texts = st.one_of(
        st.sampled_from(sorted(LEAVES)).map(lambda path: at(config, path, to(LEAVES[path]))),
        st.tuples(st.sampled_from(GROUPS), st.sampled_from([None, 3, "x", [1], {}])).map(
            lambda pair: at(config, pair[0], to(pair[1]))
        ).filter(lambda text: json.loads(text)["strategy"] != {} != json.loads(text)["engine"]),
        st.sampled_from(["algorithm.nu", "algorithm", "dataset", "model", "seed"]).map(
            lambda path: at(config, path, lambda node, key: node.pop(key))
        ),
        st.text("abcdefgh", min_size=9).map(lambda key: at(config, key, to(1))),
        st.integers(1, len(whole) - 1).map(lambda end: whole[:end]),
        TEXTS.filter(lambda text: text.strip() not in ("", "~")),
    )  # fmt: skip
    overrides = st.one_of(
        st.sampled_from(
            ["algorithm.nu=x", "foo=1", "dataset=none_such", "'", "~model", "rounds=-1", "=", "a b"]
        ),
        st.text("abcdefgh", min_size=9).map(lambda key: f"{key}=1"),
    )
    return st.one_of(
        texts.map(lambda text: {"config": text}), overrides.map(lambda text: {"overrides": text})
    )


@settings(FUZZ, max_examples=150 if FULL else 50)  # each is composed anew, by Hydra
@given(st.data())
def test_a_run_config_that_is_none_is_named_and_leaves_nothing_behind(data: st.DataObject) -> None:
    of, kind = scene(), data.draw(st.sampled_from(sorted(KINDS)))
    context = of.grid.nodes[NODE]
    kept = context.run_config
    context.run_config = data.draw(spoilt_configs(json.loads(of.config)))
    try:
        assert_refused(of, kind, of.contents[kind])
    finally:
        context.run_config = kept
    assert_as_before(of, kind)


@FUZZ
@given(st.data())
def test_a_node_config_that_is_none_is_named_and_leaves_nothing_behind(
    data: st.DataObject,
) -> None:
    of, kind = scene(), data.draw(st.sampled_from([*sorted(KINDS), "query"]))
    context = of.grid.nodes[NODE]
    kept = context.node_config
    odd = st.one_of(st.text(), st.floats(), st.booleans(), st.integers(-(2**63), -1))
    changed = dict(kept)
    changed[data.draw(st.sampled_from(sorted(kept.keys() - {"trust"})))] = data.draw(odd)
    missing = {data.draw(st.sampled_from(sorted(kept))): 0}
    untrusting = kept | {"trust": data.draw(st.one_of(st.floats(), st.booleans(), st.integers()))}
    too_high = {"partition-id": data.draw(st.integers(3, 2**62)), "num-partitions": 3}
    context.node_config = data.draw(st.sampled_from([changed, untrusting, missing, too_high, {}]))
    try:
        assert_refused(of, kind, of.contents.get(kind, RecordDict()))
    finally:
        context.node_config = kept
    assert_as_before(of, "train")


def test_the_well_formed_answer_is_that_of_a_client() -> None:
    """Else every comparison above could be one of two errors."""
    answer = scene().answers["train"]
    assert answer[report_in(answer)]["clients"] == [1, 4]
    assert max(np.abs(array.numpy()).max() for array in answer[ARRAYS].values()) > 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_clients_that_are_not_hosted_here_are_named_shortly(kind: str) -> None:
    of = scene()
    assert_refused(of, kind, with_field(copy.deepcopy(of.contents[kind]), "clients", [10**9]))
