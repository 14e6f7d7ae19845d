"""Send a round's messages and take the replies one by one, as they come."""

import copy
import time
from collections.abc import Container, Iterable, Iterator, Sequence

from flwr.app import Error, Message, RecordDict
from flwr.serverapp import Grid

from nufed.client_app.wire import EVALUATION, asks_for_evaluation
from nufed.conf.errors import NuFedError, reason

UNDECODABLE = 0  # an error code; Flower's own begin at 1 or say "unknown" by it


def exchange(
    grid: Grid, messages: Sequence[Message], timeout: float, pause: float = 0.1
) -> Iterator[Message]:
    """Push `messages` at once; return an iterator over the replies, each given on as it comes.

    It ends when all replies have come or `timeout` seconds are over. Flower's
    `Grid.send_and_receive` collects a whole round first; here no reply is held back, so that memory
    does not grow with the number of clients.
    """
    # None for an id: the SuperLink refused the message.
    sent = zip(grid.push_messages(messages), messages, strict=False)
    return collect(grid, {i: message for i, message in sent if i}, timeout, pause)


def collect(
    grid: Grid, waiting: dict[str, Message], timeout: float, pause: float = 0.1
) -> Iterator[Message]:
    """Yield the replies to the messages `waiting`, by id, until `timeout` seconds are over.

    They are pulled one by one: Flower decodes what it pulls, and where that fails it loses the
    whole lot, so that one client could silence the others.
    """
    until = time.monotonic() + timeout
    while waiting:
        came = False
        for asked in list(waiting):
            for reply in _pull(grid, asked, waiting[asked]):
                # A node that died is answered for by the SuperLink: the sender's id says nothing.
                if waiting.pop(reply.metadata.reply_to_message_id, None) is not None:
                    came = True
                    yield reply
        if time.monotonic() > until:
            return
        if waiting and not came:
            time.sleep(pause)


def _pull(grid: Grid, asked: str, message: Message) -> Iterable[Message]:
    """Return the reply to a message, if it is there; an error reply if it cannot be decoded."""
    try:
        return list(grid.pull_messages([asked]))
    except NuFedError:
        raise  # a person's mistake, in an engine of one process
    except Exception as error:
        grid.get_node_ids()  # raises too where it is not the reply that is broken
        what = f"its reply cannot be decoded: {type(error).__name__}: {reason(error)}"
        return [Message(Error(UNDECODABLE, what), reply_to=message)]


def apart(
    replies: Iterable[Message],
    trained: Container[str],
    measured: Container[str],
    aside: list[Message],
) -> Iterator[Message]:
    """Yield the replies of those that trained; put what others, or they too, measured aside.

    Parameters
    ----------
    replies
        To one round's messages of both kinds.
    trained, measured
        The ids of the messages that ask for an update, and for personalization curves.
    aside
        Takes the replies to `measured`, each without the update that it may bring as well.
    """
    for reply in replies:
        asked = reply.metadata.reply_to_message_id
        if asked in measured:
            aside.append(reply if reply.has_error() else _without_update(reply))
        if asked in trained:
            yield reply


def _without_update(reply: Message) -> Message:
    """Return a reply's personalization curves alone; an update would keep its memory."""
    bare = copy.copy(reply)
    records = [EVALUATION] if asks_for_evaluation(reply) else []
    bare.content = RecordDict({name: reply.content[name] for name in records})
    return bare
