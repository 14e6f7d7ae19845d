"""Aggregation against arithmetic, and with replies that are wrong on purpose."""

import functools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MetricRecord

from nufed.client_app.wire import EVALUATION, METRICS, REPORT
from nufed.conf.errors import RunStopped
from nufed.strategies.curves import GROUPS, summarize
from nufed.strategies.exchange import exchange
from nufed.strategies.replies import LONGEST
from nufed.strategies.rules.rule import Rule
from tests.strategies.helpers import SGD, Federation, assert_arrays, expected


@pytest.mark.parametrize("num_supernodes", [1, 5, 12])
def test_uniform_weights(num_supernodes: int) -> None:
    """However many clients a node answers for at once, each counts the same."""
    federation = Federation(num_supernodes=num_supernodes)
    arrays, metrics = federation.round()
    assert metrics is not None
    assert metrics["clients"] == 6
    assert_arrays(arrays, expected(federation, dict.fromkeys(federation.updates(), 1.0)))
    mean = (
        sum(torch.cat([p.flatten() for p in u.values()]) for u in federation.updates().values()) / 6
    )
    assert metrics["update_norm"] == pytest.approx(float(mean.norm()), abs=1e-12)


@pytest.mark.parametrize("num_supernodes", [1, 5, 12])
def test_weights_by_examples(num_supernodes: int) -> None:
    federation = Federation(weighting="examples", num_supernodes=num_supernodes)
    arrays, _ = federation.round()
    rows = federation.task.data.partition.train
    assert len(set(rows.tolist())) > 1
    assert_arrays(arrays, expected(federation, {i: float(rows[i]) for i in federation.updates()}))


def test_a_server_optimizer_takes_the_mean_update_as_its_gradient() -> None:
    """Two rounds of momentum: w₂ = w₁ − 0.5 (0.9 Δ₁ + Δ₂)."""
    federation = Federation(optimizer=functools.partial(torch.optim.SGD, lr=0.5, momentum=0.9))
    plain = Federation()
    first, _ = federation.round()
    delta1 = {n: a.numpy() - plain.round()[0][n].numpy() for n, a in plain.arrays.items()}
    for name, array in plain.arrays.items():
        assert np.abs(first[name].numpy() - (array.numpy() - 0.5 * delta1[name])).max() < 1e-12
    federation.arrays = plain.arrays = first
    second, _ = federation.round()
    delta2 = {n: a.numpy() - plain.round()[0][n].numpy() for n, a in plain.arrays.items()}
    for name, array in first.items():
        momentum = 0.9 * delta1[name] + delta2[name]
        assert np.abs(second[name].numpy() - (array.numpy() - 0.5 * momentum)).max() < 1e-12


def with_array(reply: Message, array: np.ndarray) -> Message:
    """The same reply, its first array replaced."""
    name = next(iter(reply.content["arrays"]))
    reply.content["arrays"][name] = ArrayRecord([array])["0"]
    return reply


def nan_array(reply: Message) -> Message:
    array = next(iter(reply.content["arrays"].values())).numpy().copy()
    array.flat[0] = np.nan
    return with_array(reply, array)


def lying_array(reply: Message) -> Message:
    """Declares the right shape and type, holds others."""
    declared = next(iter(reply.content["arrays"].values()))
    declared.data = ArrayRecord([np.zeros(3)])["0"].data
    return reply


def edited(field: str, value: object, record: str = REPORT) -> Callable[[Message], Message]:
    def edit(reply: Message) -> Message:
        if value is None:
            del reply.content[record][field]
        else:
            reply.content[record][field] = value
        return reply

    return edit


def without_report(reply: Message) -> Message:
    del reply.content[REPORT]
    return reply


def forged(reply: Message) -> Message:
    """Claims more rows than it has, to weigh more where weights are by examples."""
    reply.content[METRICS] = MetricRecord({"num-examples": 1_000_000})
    return reply


def without_metrics(reply: Message) -> Message:
    del reply.content[METRICS]
    return reply


def undecodable(reply: Message) -> Message:
    next(iter(reply.content["arrays"].values())).data = b"\x93NUMPY and then nothing"
    return reply


FAULTS = {
    "not finite": nan_array,
    "update has": lambda reply: with_array(reply, np.zeros((2, 2))),
    "float32": lambda reply: with_array(
        reply, next(iter(reply.content["arrays"].values())).numpy().astype(np.float32)
    ),
    "other than it declares": lying_array,
    "asked were": edited("clients", [99]),
    "columns of different length": edited("loss", [1.0, 2.0]),
    "loss is nan; must be from -3.40282e+38 to 3.40282e+38": edited("loss", [float("nan")]),
    "loss is 1.7e+308; must be": edited("loss", [1.7e308]),
    "loss is -3.5e+38; must be": edited("loss", [-3.5e38]),
    "meta_grad_norm is inf; must be from 0 to 3.4": edited("meta_grad_norm", [float("inf")]),
    "meta_grad_norm is -1; must be from 0": edited("meta_grad_norm", [-1.0]),
    "cpu_s is 1e+300; must be": edited("cpu_s", 1e300),
    "unknown field 'weight'": edited("weight", 1e9),
    "loss is None": edited("loss", None),
    "cpu_s is": edited("cpu_s", "much"),
    "no 'report' record": without_report,
    "num-examples is 1000000, the clients have": forged,
    "num-examples is None": without_metrics,
    "array '1.weight' cannot be read": undecodable,
    "cpu_s is -1; must be from 0": edited("cpu_s", -1.0),
    "boom": lambda reply: Message(Error(0, "boom"), reply_to=reply),
    "no reply in time": lambda reply: None,
}


@pytest.mark.parametrize("reason", FAULTS)
def test_a_bad_reply_is_dropped_named_and_changes_nothing_else(reason: str) -> None:
    """The round's model is the mean of the other clients' updates."""
    federation = Federation()

    def spoil(i: int, reply: Message) -> Message | None:
        if i != 2:
            return reply
        answers = reply.metadata.reply_to_message_id
        bad = FAULTS[reason](reply)
        if bad is not None:
            bad.metadata.__dict__["_reply_to_message_id"] = answers
        return bad

    arrays, metrics = federation.round(spoil)
    assert metrics is not None
    assert metrics["clients"] == 5
    (failure,) = federation.strategy.failures
    assert reason in failure.reason
    assert "\n" not in failure.reason
    assert failure.client in federation.updates()
    good = dict.fromkeys(set(federation.updates()) - {failure.client}, 1.0)
    assert_arrays(arrays, expected(federation, good))


@pytest.mark.parametrize("step", [-1, 100_001, 2**63 - 1])
def test_a_step_that_no_client_takes_is_none_to_have_diverged_at(step: int) -> None:
    federation = Federation()

    def spoil(i: int, reply: Message) -> Message:
        if i == 2:
            report = reply.content[REPORT]
            report["diverged"], report["diverged_at"] = report["clients"], [step]
            report["clients"] = report["loss"] = report["meta_grad_norm"] = []
        return reply

    federation.round(spoil)
    (failure,) = federation.strategy.failures
    assert failure.reason == f"diverged_at is {step:g}; must be from 0 to 100000"
    assert failure.diverged_at is None


def test_the_largest_figures_that_count_have_finite_means_and_squares() -> None:
    """Of a million clients, at most: what float32 can hold."""
    federation, most = Federation(), float(np.finfo(np.float32).max)

    def spoil(i: int, reply: Message) -> Message:
        for name in ("loss", "meta_grad_norm"):
            reply.content[REPORT][name] = [most]
        reply.content[REPORT]["cpu_s"] = most
        return reply

    _, metrics = federation.round(spoil)
    assert metrics["train_loss"] == metrics["meta_grad_norm"] == pytest.approx(most)
    assert metrics["train_cpu_s"] == pytest.approx(6 * most)
    values = np.full((10**6, 1), most)
    values[::2] *= -1
    assert np.isfinite(list(summarize({"loss": values}).values())).all()


def test_a_round_without_a_usable_update_changes_nothing() -> None:
    federation = Federation()
    assert federation.round(lambda i, reply: None) == (None, None)
    assert len(federation.strategy.failures) == 6


def test_replies_are_not_held() -> None:
    """Streaming: when the next reply is asked for, the one before can be freed."""
    import gc
    import weakref

    federation = Federation()
    alive: list[int] = []
    seen: list[weakref.ref[Message]] = []

    def watch(i: int, reply: Message) -> Message:
        gc.collect()
        alive.append(sum(ref() is not None for ref in seen))
        seen.append(weakref.ref(reply))
        return reply

    federation.round(watch)
    assert len(alive) == 6
    assert max(alive) <= 1


def evaluate(federation: Federation, spoil: Callable[[int, Message], Message]):
    """Evaluate all clients; `spoil` may change the i-th reply."""
    strategy = federation.strategy
    sent = list(strategy.configure_evaluate(1, federation.arrays, ConfigRecord(), federation.grid))
    replies = enumerate(exchange(federation.grid, sent, timeout=60))
    return strategy.aggregate_evaluate(1, (spoil(i, reply) for i, reply in replies))


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (edited("metrics", ["loss", "score"], EVALUATION), "measured loss, score"),
        (edited("metrics", ["score", "accuracy"], EVALUATION), "loss must be among them"),
        (edited("curves", [float("nan")] * 12, EVALUATION), "the global model's loss is nan"),
        (edited("curves", [1.7e308] * 12, EVALUATION), "curves is 1.7e+308; must be from -3.4"),
        (edited("curves", [-4e38] * 12, EVALUATION), "curves is -4e+38; must be"),
        (edited("curves", [1.0], EVALUATION), "1 values for 2 metrics x 1 clients x 6"),
    ],
)
def test_a_bad_evaluation_is_dropped_and_named(edit, reason: str) -> None:
    """The statistics are those of the other clients."""
    federation = Federation()
    whole = evaluate(federation, lambda i, reply: reply)
    part = evaluate(federation, lambda i, reply: edit(reply) if i == 0 else reply)
    (failure,) = federation.strategy.failures
    assert reason in failure.reason
    clients = {kind: whole[f"{kind}.clients"] - part[f"{kind}.clients"] for kind in GROUPS}
    assert sorted(clients.values()) == [0, 1]
    assert all(np.isfinite(part[f"{kind}.loss"]).all() for kind in GROUPS)


def test_why_a_metric_is_undefined_is_kept_of_those_that_count() -> None:
    """A client may name a metric that nobody else has: it is left out, and what it says of that."""
    federation = Federation()

    def spoil(i: int, reply: Message) -> Message:
        report = reply.content[EVALUATION]
        report["undefined"] = [f"accuracy: one class\x1b[2J\n{'x' * 60_000}"]
        if i == 0:
            report["metrics"], report["undefined"] = ["loss", "mine"], ["mine: no"]
        return reply

    evaluate(federation, spoil)
    (why,) = federation.strategy.undefined.pop("accuracy")
    assert why.startswith(r"one class\x1b[2J xxx")
    assert len(why) == LONGEST
    assert federation.strategy.undefined == {}


def test_what_was_measured_is_kept_client_by_client() -> None:
    """Its means are what is reported; a client that was dropped is not among them."""
    federation = Federation()
    whole = evaluate(federation, lambda i, reply: reply)
    measured = federation.strategy.measured
    assert measured is not None
    assert measured.round == 1
    for kind in GROUPS:
        members = measured.groups[kind]
        assert members.clients == getattr(federation.roster, kind)
        assert members.rows == [federation.roster.rows[client] for client in members.clients]
        assert members.curves["loss"].shape == (len(members.clients), 6)
        assert members.curves["loss"].mean(0) == pytest.approx(whole[f"{kind}.loss"])
    spoil = edited("metrics", ["loss", "score"], EVALUATION)
    evaluate(federation, lambda i, reply: spoil(reply) if i == 0 else reply)
    fewer = federation.strategy.measured
    assert fewer is not None
    (failure,) = federation.strategy.failures
    kept = [client for members in fewer.groups.values() for client in members.clients]
    assert sorted([*kept, failure.client]) == list(range(12))


class Median:
    """The coordinate-wise median, as a rule that someone might add."""

    def __init__(self) -> None:
        self.updates: list[dict[str, torch.Tensor]] = []

    def add(self, update: dict[str, torch.Tensor], weight: float) -> None:
        assert weight == 1.0
        self.updates.append(update)

    def value(self, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        return {
            name: torch.stack([update[name] for update in self.updates]).quantile(0.5, 0).to(dtype)
            for name in self.updates[0]
        }


class Middle(Rule):
    """A rule of one's own."""

    sees_each = True

    def begin(self) -> Median:
        return Median()


@pytest.mark.parametrize("num_supernodes", [1, 5])
def test_another_rule_sees_every_update_on_any_number_of_nodes(num_supernodes: int) -> None:
    """A method and a class attribute make it, and no client knows."""
    federation = Federation(num_supernodes=num_supernodes, rule=Middle())
    arrays, _ = federation.round()
    updates = federation.updates().values()
    assert len(updates) == 6
    for name, before in federation.arrays.items():
        middle = np.median([update[name].numpy() for update in updates], axis=0)
        assert np.abs(arrays[name].numpy() - (before.numpy() - middle)).max() < 1e-12


def test_no_optimizer_is_plain_averaging() -> None:
    with_sgd, without = Federation(optimizer=SGD), Federation(optimizer=None)
    arrays, _ = without.round()
    wanted = {name: array.numpy() for name, array in with_sgd.round()[0].items()}
    assert_arrays(arrays, wanted)


def test_a_step_that_leaves_the_numbers_stops_the_run() -> None:
    """Each update is sound, and the server's own step is not."""
    optimizer = functools.partial(torch.optim.SGD, lr=1e200)
    federation = Federation(optimizer=optimizer, max_norm=None)
    with pytest.raises(RunStopped, match="round 1: the server's step left a model that is not fin"):
        federation.round(lambda i, reply: times(reply, 1e200))


def times(reply: Message, factor: float) -> Message:
    arrays = {n: torch.from_numpy(a.numpy() * factor) for n, a in reply.content["arrays"].items()}
    reply.content["arrays"] = ArrayRecord(arrays)
    return reply


def test_what_a_client_wrote_is_shown_in_one_short_printable_line() -> None:
    federation = Federation()
    text = "\x1b[31m" + "long\nstory\u202e " * 1000

    def spoil(i: int, reply: Message) -> Message:
        if i > 0:
            return reply
        (question,) = [
            message
            for message in federation.sent
            if message.metadata.message_id == reply.metadata.reply_to_message_id
        ]
        return Message(Error(0, text), reply_to=question)

    federation.round(spoil)
    (failure,) = federation.strategy.failures
    assert failure.reason.startswith(r"\x1b[31mlong story\u202e long story\u202e")
    assert len(failure.reason) == 200
    assert failure.reason.isprintable()
