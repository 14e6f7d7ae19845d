"""What clients sent back, checked: a reply that cannot be used never stops a round."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from flwr.app import Message
from numpy.typing import NDArray
from torch import Tensor

from client_app.messages import (
    EvaluateReport,
    MalformedMessage,
    TrainReport,
    arrays_of,
    decode,
    to_params,
)
from client_app.meta_gradient import Params
from conf.errors import reason

T = TypeVar("T")
Curves = dict[int, dict[str, NDArray[np.float64]]]


@dataclass(frozen=True)
class Failure:
    """A client whose reply was not used, and why."""

    client: int
    reason: str
    diverged_at: int | None = None
    """The local step at which it stopped being finite, if that is why."""


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
    for reply in replies:
        clients = unanswered.pop(reply.metadata.reply_to_message_id)
        try:
            if reply.has_error():
                raise MalformedMessage(reply.error.reason)
            content = read(reply, clients)
        except ValueError as error:
            failures += [Failure(client, reason(error)) for client in clients]
        else:
            yield content
    for clients in unanswered.values():
        failures += [Failure(client, "no reply in time") for client in clients]


def read_update(
    reply: Message, clients: list[int], like: Mapping[str, Tensor]
) -> tuple[TrainReport, Params]:
    """Return the report and the mean update of a train reply.

    Raises
    ------
    MalformedMessage
        If it speaks of other clients than were asked, or its arrays are not finite or not shaped
        and typed like the global model `like`.
    """
    report = decode(TrainReport, reply)
    _require_asked(named := [*report.clients, *report.diverged, *report.failed], clients)
    if len(named) < len(clients):
        raise MalformedMessage(f"reply names clients {named}, asked were {clients}")
    arrays = arrays_of(reply)
    if not report.clients:
        return report, {}
    given = {name: (tuple(array.shape), array.dtype) for name, array in arrays.items()}
    wanted = {
        name: (tuple(p.shape), str(p.dtype).removeprefix("torch.")) for name, p in like.items()
    }
    if given != wanted:
        raise MalformedMessage(f"update has {given}, the global model {wanted}")
    update = to_params(arrays)
    # What the record says of an array and what its bytes hold may differ.
    if any(
        update[name].shape != p.shape or update[name].dtype != p.dtype for name, p in like.items()
    ):
        raise MalformedMessage("update holds arrays other than it declares")
    if not all(bool(torch.isfinite(tensor).all()) for tensor in update.values()):
        raise MalformedMessage("update is not finite")
    return report, update


def read_curves(reply: Message, clients: list[int], points: int) -> tuple[EvaluateReport, Curves]:
    """Return the report, and client -> metric -> personalization curve [points], of a reply.

    Raises
    ------
    MalformedMessage
        If it speaks of other clients than were asked, or has too few or too many values.
    """
    report = decode(EvaluateReport, reply)
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


def _require_asked(named: list[int], asked: list[int]) -> None:
    if len(set(named)) != len(named) or not set(named) <= set(asked):
        raise MalformedMessage(f"reply names clients {named}, asked were {asked}")
