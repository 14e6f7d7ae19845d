"""What clients sent back, checked: a reply that cannot be used never stops a round."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from flwr.app import Message
from numpy.typing import NDArray
from torch import Tensor

from nufed.client_app.algorithm import norm
from nufed.client_app.baselines.local import AloneReport
from nufed.client_app.figures import all_finite
from nufed.client_app.messages import EvaluateReport, MalformedMessage, ProbeReport, TrainReport
from nufed.client_app.meta_gradient import Params
from nufed.client_app.wire import arrays_of, decode, examples_of, to_params
from nufed.conf.errors import reason
from nufed.conf.text import printable
from nufed.tasks.ids import ClientIds, Id
from nufed.tasks.measures import LONGEST_NAME, RESERVED, STATISTICS

REASONS = 3  # why a metric does not exist, that are kept
MOST_METRICS = 1000
"""Of an evaluation's reply: each is in every row of metrics.jsonl, with its statistics."""
TAKEN = frozenset(RESERVED) - {"loss"}
"""Names that something else has in a row of metrics.jsonl or in clients.json."""
LONGEST = 200  # characters of a reason: what it quotes was written by somebody else

T = TypeVar("T")
Curves = dict[int, dict[str, NDArray[np.float64]]]


@dataclass(frozen=True)
class Failure:
    """A client whose reply was not used, and why."""

    client: int | None
    """Its number; None for a reply that answers nothing that was asked."""
    reason: str
    """One short line, printable whatever a client wrote."""
    diverged_at: int | None = None
    """The local step at which it stopped being finite, if that is why."""
    too_long: bool = False
    """Whether it would move the model further than strategy.max_norm."""
    lost: bool = False
    """Whether no reply came, or an error in its place: another attempt may do better."""

    def row(self, ids: ClientIds) -> dict[str, Any]:
        """Return what metrics.jsonl says of it, by the client's id."""
        return {"client": self.called(ids), "reason": self.reason}

    def line(self, ids: ClientIds) -> str:
        """Return what a person is told of it."""
        return f"client {self.called(ids)}: {self.reason}"

    def called(self, ids: ClientIds) -> Id | None:
        """Return the client's id; None for a reply that is nobody's."""
        return None if self.client is None else ids[self.client]

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", short(self.reason))


def short(text: str) -> str:
    """Return what somebody else wrote as one printable line of bounded length."""
    start = " ".join(text[: 4 * LONGEST].split())
    line = printable(start)
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


class TooLong(MalformedMessage):
    """An update is longer than strategy.max_norm."""


class Sent(NamedTuple):
    """A message, and the clients that it asks."""

    message: Message
    clients: list[int]


def read_replies(
    read: Callable[[Message, list[int]], T],
    sent: Iterable[Sent],
    replies: Iterable[Message],
    failures: list[Failure],
) -> Iterator[T]:
    """Yield ``read(reply, clients)`` of each usable reply; append every other client to `failures`.

    Nothing is kept of a reply once it was yielded.
    """
    unanswered = {message.metadata.message_id: clients for message, clients in sent}
    answered: dict[str, list[int]] = {}
    for reply in replies:
        question = reply.metadata.reply_to_message_id
        if question not in unanswered:
            again = "a second reply; the first one counts"
            failures += [Failure(client, again) for client in answered.get(question, [])]
            if question not in answered:
                failures.append(Failure(None, "a reply to a message that was not sent"))
            continue
        clients = answered[question] = unanswered.pop(question)
        try:
            if reply.has_error():
                raise MalformedMessage(reply.error.reason or f"error {reply.error.code}")
            content = read(reply, clients)
        except ValueError as error:
            lost, too_long = reply.has_error(), isinstance(error, TooLong)
            failures += [
                Failure(client, reason(error), too_long=too_long, lost=lost) for client in clients
            ]
        else:
            yield content
    for clients in unanswered.values():
        failures += [Failure(client, "no reply in time", lost=True) for client in clients]


class Update(NamedTuple):
    """The mean of some clients' updates."""

    clients: list[int]
    params: Params


def read_update(
    reply: Message,
    clients: list[int],
    like: Mapping[str, Tensor],
    rows: Mapping[int, int],
    failures: list[Failure],
    max_norm: float | None = None,
    each: bool = False,
) -> tuple[TrainReport, list[Update]]:
    """Return the report of a train reply and its update: the mean, or `each` client's by itself.

    What is wrong with one of several is that client's failure, and the report is without it.

    Raises
    ------
    MalformedMessage
        If it speaks of other clients than were asked, claims another number of examples than their
        train `rows`, or its arrays are not finite, longer than `max_norm`, or not shaped and typed
        like the global model `like`.
    """
    report = decode(TrainReport, reply)
    _require_metrics(report.metrics)
    named = [*report.clients, *report.diverged, *report.too_long, *report.failed]
    _require_asked(named, clients)
    if len(named) < len(clients):
        raise MalformedMessage(f"reply names clients {named}, asked were {clients}")
    _require_asked(report.afresh, clients)
    examples, known = examples_of(reply), sum(rows.get(client, 0) for client in report.clients)
    if type(examples) is not int or examples != known:
        raise MalformedMessage(f"num-examples is {examples!r:.40}, the clients have {known}")
    arrays, stack = arrays_of(reply), [len(report.clients)] if each else []
    if not report.clients:
        return report, []
    given = {name: (tuple(array.shape), array.dtype) for name, array in arrays.items()}
    wanted = {
        name: ((*stack, *p.shape), str(p.dtype).removeprefix("torch.")) for name, p in like.items()
    }
    if given != wanted:
        raise MalformedMessage(f"update has {given}, the global model {wanted}")
    params = to_params(arrays)
    if not each:
        require_usable(params, max_norm)
        return report, [Update(report.clients, params)]
    updates, dropped = list[Update](), set[int]()
    for i, client in enumerate(report.clients):
        one = {name: p[i] for name, p in params.items()}
        try:
            require_usable(one, max_norm)
        except MalformedMessage as error:
            failures.append(Failure(client, reason(error), too_long=isinstance(error, TooLong)))
            dropped.add(client)
        else:
            updates.append(Update([client], one))
    return report.without(dropped) if dropped else report, updates


def require_usable(update: Params, max_norm: float | None) -> None:
    """Raise a `MalformedMessage` unless an update is finite and at most so long."""
    if not all(map(all_finite, update.values())):
        raise MalformedMessage("update is not finite")
    if max_norm is not None and (size := float(norm(update))) > max_norm:
        raise TooLong(too_long(size, max_norm))


def too_long(size: float, max_norm: float | None) -> str:
    """Say that an update is left out for its norm."""
    return (
        f"the update's norm {size:.3g} is above strategy.max_norm={max_norm or 0:g}; "
        "if the client is honest, lower algorithm.beta or raise it"
    )


def read_curves(reply: Message, clients: list[int], points: int) -> tuple[EvaluateReport, Curves]:
    """Return the report, and client -> metric -> personalization curve [points], of a reply.

    Raises
    ------
    MalformedMessage
        If it speaks of other clients than were asked, has too few or too many values, or metrics
        that no run has.
    """
    report = decode(EvaluateReport, reply)
    _require_metrics(report.metrics)
    _require_asked([*report.clients, *report.failed], clients)
    shape = (len(report.metrics), len(report.clients), points)
    values = np.asarray(report.curves, np.float64)
    if values.size != np.prod(shape):
        raise MalformedMessage(
            f"{values.size} values for {shape[0]} metrics x {shape[1]} clients x {points}"
        )
    by_client = values.reshape(shape).swapaxes(0, 1)
    return report, {
        client: dict(zip(report.metrics, by_client[i], strict=True))
        for i, client in enumerate(report.clients)
    }


def _require_metrics(names: list[str]) -> None:
    """Raise unless these are metrics as a run's own configuration may name them."""
    if len(names) > MOST_METRICS:
        raise MalformedMessage(f"{len(names)} metrics; at most {MOST_METRICS}")
    for name in names:
        if len(name) > LONGEST_NAME:
            raise MalformedMessage(
                f"metric {name[:20]}… has {len(name)} characters; at most {LONGEST_NAME}"
            )
        if name in TAKEN or name.endswith(STATISTICS):
            raise MalformedMessage(f"metric {name}: the name is taken by figures of the run's own")


def note_undefined(known: dict[str, list[str]], lines: Iterable[str]) -> None:
    """Add why metrics do not exist for clients, ``metric: reason``, to a few reasons a metric."""
    for line in lines:
        metric, _, why = line.partition(": ")
        reasons = known.setdefault(metric, [])
        if len(reasons) < REASONS and short(why) not in reasons:
            reasons.append(short(why))


def read_probe(reply: Message, clients: list[int]) -> ProbeReport:
    """Return the report of a reply.

    Raises
    ------
    MalformedMessage
        If it speaks of other clients than were asked.
    """
    report = decode(ProbeReport, reply)
    _require_asked([*report.clients, *report.failed], clients)
    return report


def read_alone(reply: Message, clients: list[int]) -> AloneReport:
    """Return the report of a reply; errors as of `read_probe`."""
    report = decode(AloneReport, reply)
    _require_asked(report.clients, clients)
    return report


def _require_asked(named: list[int], asked: list[int]) -> None:
    if len(set(named)) != len(named) or not set(named) <= set(asked):
        raise MalformedMessage(f"reply names clients {named}, asked were {asked}")
