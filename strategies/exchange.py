"""Send a round's messages and take the replies one by one, as they come."""

import copy
import time
from collections.abc import Container, Iterable, Iterator, Sequence

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from client_app.messages import EVALUATION, asks_for_evaluation


def exchange(
    grid: Grid, messages: Sequence[Message], timeout: float, pause: float = 0.1
) -> Iterator[Message]:
    """Push `messages` at once; return an iterator over the replies, each given on as it comes.

    It ends when all replies have come or `timeout` seconds are over. Flower's
    `Grid.send_and_receive` collects a whole round first; here no reply is held back, so that memory
    does not grow with the number of clients.
    """
    sent = {i for i in grid.push_messages(messages) if i}  # None: the SuperLink refused the message
    return collect(grid, sent, timeout, pause)


def collect(grid: Grid, waiting: set[str], timeout: float, pause: float = 0.1) -> Iterator[Message]:
    """Yield the replies to the messages `waiting`, by id, until `timeout` seconds are over."""
    until = time.monotonic() + timeout
    while waiting:
        replies = list(grid.pull_messages(list(waiting)))
        for reply in replies:
            # A node that died is answered for by the SuperLink: the sender's id says nothing.
            if reply.metadata.reply_to_message_id in waiting:
                waiting.remove(reply.metadata.reply_to_message_id)
                yield reply
        if time.monotonic() > until:
            return
        if waiting and not replies:
            time.sleep(pause)


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
