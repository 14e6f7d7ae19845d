"""Hundreds of malformed replies: each is dropped and named, and the rest counts as if alone."""

import copy
import io
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import fields
from functools import cache, partial
from typing import Any, NamedTuple, get_type_hints

import numpy as np
import pytest
import torch
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Error,
    Message,
    MetricRecord,
    RecordDict,
)
from hypothesis import given
from hypothesis import strategies as st

from nufed.client_app.algorithm import algorithm_of
from nufed.client_app.mean import StreamingMean
from nufed.client_app.messages import EvaluateReport, TrainReport
from nufed.client_app.wire import ARRAYS, METRICS, to_params
from nufed.conf.compose import compose_config
from nufed.conf.convert import to_json
from nufed.conf.text import printable
from nufed.simulation.grid import LocalGrid
from nufed.strategies.meta_fedavg import MetaFedAvg
from nufed.strategies.replies import LONGEST
from nufed.strategies.roster import Roster
from nufed.tasks.task import build
from tests.fuzz import FUZZ, report_in

CLIENTS, FOREIGN = 8, 77
Content = RecordDict
Spoil = Callable[[Content], Content | None]


class Scene(NamedTuple):
    """A strategy between rounds, and what each node honestly replies, by message type."""

    strategy: MetaFedAvg
    grid: LocalGrid
    arrays: ArrayRecord
    honest: dict[str, list[Content]]


@cache
def scene() -> Scene:
    """Every client on a node of its own; all of them train, and are evaluated."""
    from nufed.client_app.app import app as client_app

    config = compose_config(
        [
            "dataset=quadratics",
            "algorithm.alpha=0.03",
            "algorithm.beta=0.1",
            f"dataset.num_clients={CLIENTS}",
            "algorithm.tau=1",
            "algorithm.nu=1",
        ]
    )
    grid = LocalGrid(client_app, {"config": to_json(config)}, num_supernodes=CLIENTS)
    task = build(config)
    roster = Roster(0, [0], task.data.partition)
    roster.wait(grid, timeout=0)
    strategy = MetaFedAvg(
        algorithm_of(config.algorithm),
        config.evaluation,
        roster,
        seed=0,
        clients_per_round=CLIENTS,
    )
    arrays = ArrayRecord(task.initial_params())
    before = Scene(strategy, grid, arrays, {})
    honest = {
        kind: [reply.content for reply in grid.send_and_receive(questions_of(before, kind))]
        for kind in ("train", "evaluate")
    }
    return Scene(strategy, grid, arrays, honest)


def questions_of(of: Scene, kind: str) -> list[Message]:
    """Have the strategy ask for a round; the messages get their ids as they are sent."""
    configure = getattr(of.strategy, f"configure_{kind}")
    return list(configure(1, of.arrays, ConfigRecord(), of.grid))


def state(of: Scene) -> bytes:
    """What a round must leave as it was, but for the model."""
    roster = dict(vars(of.strategy.roster))
    names = ("seed", "weighting", "clients_per_round", "clip_norm", "max_norm")
    return pickle.dumps((roster, [getattr(of.strategy, name) for name in names]))


# What may be wrong with the content of a reply.


def with_field(content: Content, name: str, value: Any) -> Content:
    content[report_in(content)][name] = value
    return content


def without_field(content: Content, name: str) -> Content:
    del content[report_in(content)][name]
    return content


def without_record(content: Content, name: str) -> Content:
    del content[name]
    return content


def replaced_record(content: Content, name: str, record: Any) -> Content:
    content[name] = record
    return content


def with_examples(content: Content, value: Any) -> Content:
    content[METRICS] = MetricRecord({"num-examples": value})
    return content


def with_array(content: Content, array: Array) -> Content:
    (name,) = content[ARRAYS]
    content[ARRAYS] = ArrayRecord({name: array})
    return content


def with_declared(content: Content, **changes: Any) -> Content:
    """An array that declares what it does not hold, or holds what it does not declare."""
    (array,) = content[ARRAYS].values()
    for name, value in changes.items():
        setattr(array, name, value)
    return content


def renamed_array(content: Content, name: str) -> Content:
    content[ARRAYS] = ArrayRecord({name: next(iter(content[ARRAYS].values()))})
    return content


def more_arrays(content: Content, name: str) -> Content:
    content[ARRAYS][name] = next(iter(content[ARRAYS].values()))
    return content


def npy(array: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def bomb() -> bytes:
    """Bytes that run code when they are unpickled, as np.load would with allow_pickle."""

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return pytest.fail, ("a reply was unpickled",)

    return npy(np.array([Bomb()], dtype=object), allow_pickle=True)


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("arr_0.npy", npy(np.zeros((1, 5), np.float32)))
    return buffer.getvalue()


def huge() -> bytes:
    """A header that announces terabytes."""
    return npy(np.zeros((1, 5), np.float32)).replace(b"(1, 5), }", b"(9999999999999,), }")


INTEGERS = st.integers(-(2**63), 2**63 - 1)
SCALARS = st.one_of(INTEGERS, st.floats(), st.booleans(), st.text(), st.binary(max_size=20))
VALUES = st.one_of(
    SCALARS,
    st.lists(INTEGERS),
    st.lists(st.floats()),
    st.lists(st.booleans(), min_size=1),
    st.lists(st.text(), min_size=1),
    st.lists(st.binary(max_size=5), min_size=1),
)
TEXTS = st.text(min_size=1, max_size=2000)


def breaks(kind: type, honest: Any, name: str, value: Any) -> bool:
    """Whether a report with this value in a field is malformed, by its type or its length alone."""
    hint = str(get_type_hints(kind)[name])
    if not isinstance(value, list):
        wrong = type(value).__name__ not in hint or "list" in hint
        return wrong or not (isinstance(value, float) and 0 <= value < float("inf"))
    item = hint.removeprefix("list[").removesuffix("]")
    return any(type(entry).__name__ != item for entry in value) or len(value) != len(honest[name])


def spoilt_fields(kind: type, honest: Any) -> st.SearchStrategy[Spoil]:
    """Fields that are missing, unknown, of another type or of another length."""
    names = st.sampled_from([f.name for f in fields(kind)])
    wrong = st.tuples(names, VALUES).filter(lambda pair: breaks(kind, honest, *pair))
    return st.one_of(
        wrong.map(lambda pair: partial(with_field, name=pair[0], value=pair[1])),
        names.map(lambda name: partial(without_field, name=name)),
        TEXTS.filter(lambda text: text not in get_type_hints(kind)).map(
            lambda text: partial(with_field, name=text, value=1)
        ),
        st.lists(INTEGERS, min_size=1, max_size=1)
        .filter(lambda clients: clients[0] not in range(CLIENTS))
        .map(lambda clients: partial(with_field, name="clients", value=clients)),
    )


RECORDS = st.sampled_from([MetricRecord({"loss": 1.0}), ConfigRecord(), ArrayRecord()])
SPOILT_RECORDS = st.one_of(
    st.just(lambda content: without_record(content, report_in(content))),
    RECORDS.map(
        lambda record: lambda content: replaced_record(content, report_in(content), record)
    ),
    st.just(lambda content: RecordDict()),
    st.just(lambda content: None),
)
BAD_BYTES = st.one_of(
    st.binary(max_size=300),
    st.binary(max_size=50).map(lambda tail: b"\x93NUMPY\x01\x00" + tail),
    st.sampled_from([bomb(), archive(), huge(), npy(np.zeros((1, 5), ">f4")), b""]),
)
BAD_ARRAYS = st.one_of(
    st.sampled_from([np.nan, np.inf, -np.inf, 1e30, 1e5]).map(
        lambda x: Array(np.full((1, 5), x, np.float32))
    ),
    st.sampled_from(
        [np.float64, np.float16, np.int32, np.uint16, np.bool_, np.complex64, np.str_]
    ).map(lambda kind: Array(np.zeros((1, 5), kind))),
    st.lists(st.integers(0, 6), max_size=4)
    .filter(lambda shape: shape != [1, 5])
    .map(lambda shape: Array(np.zeros(shape, np.float32))),
)
SPOILT_ARRAYS = st.one_of(
    BAD_ARRAYS.map(lambda array: partial(with_array, array=array)),
    BAD_BYTES.map(lambda data: partial(with_declared, data=data)),
    BAD_ARRAYS.map(lambda array: partial(with_declared, data=array.data)),
    TEXTS.filter(lambda text: text != "numpy.ndarray").map(
        lambda text: partial(with_declared, stype=text)
    ),
    TEXTS.filter(lambda text: text != "float32").map(
        lambda text: partial(with_declared, dtype=text)
    ),
    st.sampled_from([(), (5,), (1, 5, 1), (-1, 5), (2**62, 5)]).map(
        lambda shape: partial(with_declared, shape=shape)
    ),
    TEXTS.map(lambda text: partial(renamed_array, name=text)),
    TEXTS.map(lambda text: partial(more_arrays, name=text)),
    st.just(partial(without_record, name=ARRAYS)),
)


def forged_examples(honest: Content) -> st.SearchStrategy[Spoil]:
    """Any number but the client's own, and no number at all."""
    (true,) = honest[METRICS].values()
    values = st.one_of(
        INTEGERS.filter(lambda n: n != true),
        st.floats(),
        st.just(float(true)),
        st.lists(INTEGERS, max_size=3),
        st.sampled_from([true - 1, true + 1, -true, 10 * true]),
    )
    forged = values.map(lambda value: partial(with_examples, value=value))
    return st.one_of(forged, st.just(partial(without_record, name=METRICS)))


def not_a_reply(data: st.DataObject, content: Content, question: Message) -> Message:
    """An error in the place of a content, with whatever reason."""
    reason = data.draw(st.one_of(TEXTS, st.none()))
    return Message(Error(data.draw(st.integers(0, 1000)), reason), reply_to=question)


def play(
    of: Scene, data: st.DataObject, kind: str, spoils: Callable[[Content], st.SearchStrategy[Spoil]]
) -> tuple[Any, list[int], dict[int, Content]]:
    """Run a round in which some replies are malformed, doubled or foreign.

    Returns what the strategy made of it, the clients whose reply was spoilt, and the contents that
    were not, in the order in which they came.
    """
    questions = questions_of(of, kind)
    of.grid.push_messages(questions)
    order = data.draw(st.permutations(range(len(questions))))
    bad = data.draw(st.sets(st.sampled_from(order), min_size=1))
    replies, spoilt, good = list[Message](), list[int](), dict[int, Content]()
    for i in order:
        honest = of.honest[kind][i]
        (client,) = honest[report_in(honest)]["clients"]
        content = copy.deepcopy(honest)
        if i not in bad:
            good[client] = honest
            replies.append(Message(content, reply_to=questions[i]))
            if data.draw(st.integers(0, 4)) == 0:  # once more, and now with another content
                replies.append(Message(RecordDict(), reply_to=questions[i]))
                spoilt.append(client)
            continue
        spoilt.append(client)
        if data.draw(st.integers(0, 5)) == 0:
            replies.append(not_a_reply(data, content, questions[i]))
            continue
        changed = data.draw(spoils(honest))(content)
        replies.append(Message(content if changed is None else changed, reply_to=questions[i]))
        if changed is None:
            replies[-1].__dict__["_content"] = None
    if data.draw(st.booleans()):
        foreign = Message(copy.deepcopy(of.honest[kind][0]), reply_to=questions[0])
        foreign.metadata.__dict__["_reply_to_message_id"] = data.draw(st.text())
        replies.insert(data.draw(st.integers(0, len(replies))), foreign)
        spoilt.append(FOREIGN)
    return getattr(of.strategy, f"aggregate_{kind}")(1, iter(replies)), spoilt, good


def assert_named(of: Scene, spoilt: list[int]) -> None:
    """Every spoilt reply is a failure, once, whose reason fits on a line of a terminal."""
    failures = of.strategy.failures
    named = [FOREIGN if failure.client is None else failure.client for failure in failures]
    assert sorted(named) == sorted(spoilt)
    for failure in failures:
        assert 0 < len(failure.reason) <= LONGEST
        assert printable(failure.reason) == failure.reason


@FUZZ
@given(st.data())
def test_the_model_is_exactly_the_mean_of_the_well_formed_updates(data: st.DataObject) -> None:
    of = scene()
    before = state(of)

    def spoils(honest: Content) -> st.SearchStrategy[Spoil]:
        report = spoilt_fields(TrainReport, honest[report_in(honest)])
        nan = st.sampled_from(["loss", "meta_grad_norm"]).map(
            lambda name: partial(with_field, name=name, value=[float("nan")])
        )
        return st.one_of(report, nan, SPOILT_RECORDS, SPOILT_ARRAYS, forged_examples(honest))

    (arrays, metrics), spoilt, good = play(of, data, "train", spoils)
    assert_named(of, spoilt)
    assert state(of) == before
    if not good:
        assert (arrays, metrics) == (None, None)
        return
    mean = StreamingMean()
    for content in good.values():
        mean.add(to_params(content[ARRAYS]), 1.0)
    assert metrics["clients"] == len(good)
    for name, delta in mean.value(torch.float32).items():
        wanted = to_params(of.arrays)[name] - delta
        assert np.array_equal(arrays[name].numpy(), wanted.numpy())


@FUZZ
@given(st.data())
def test_the_curves_are_exactly_those_of_the_well_formed_evaluations(data: st.DataObject) -> None:
    of = scene()
    before = state(of)

    def spoils(honest: Content) -> st.SearchStrategy[Spoil]:
        report = spoilt_fields(EvaluateReport, honest[report_in(honest)])
        points = len(honest[report_in(honest)]["curves"])
        nan = st.sampled_from([float("nan"), float("inf")]).map(
            lambda x: partial(with_field, name="curves", value=[x] * points)
        )
        return st.one_of(report, nan, SPOILT_RECORDS)

    metrics, spoilt, good = play(of, data, "evaluate", spoils)
    assert_named(of, spoilt)
    assert state(of) == before
    questions = questions_of(of, "evaluate")
    of.grid.push_messages(questions)
    by_client = {
        content[report_in(content)]["clients"][0]: i
        for i, content in enumerate(of.honest["evaluate"])
    }
    alone = [Message(content, reply_to=questions[by_client[c]]) for c, content in good.items()]
    wanted = of.strategy.aggregate_evaluate(1, iter(alone))
    assert (metrics is None) == (not good)
    assert metrics == wanted


def test_a_million_entries_are_dropped_and_named_in_a_line() -> None:
    of = scene()
    for kind, report in (("train", TrainReport), ("evaluate", EvaluateReport)):
        names = [f.name for f in fields(report)]
        questions = questions_of(of, kind)
        of.grid.push_messages(questions)
        replies = []
        for i, (question, honest) in enumerate(zip(questions, of.honest[kind], strict=True)):
            entry = (7, 0.5, "x")[i % 3]
            name = names[i % len(names)]
            content = with_field(copy.deepcopy(honest), name, [entry] * 1_000_000)
            replies.append(Message(content, reply_to=question))
        assert not any(getattr(of.strategy, f"aggregate_{kind}")(1, iter(replies)) or ())
        spoilt = [content[report_in(content)]["clients"][0] for content in of.honest[kind]]
        assert_named(of, spoilt)
