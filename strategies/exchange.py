"""Send a round's messages and take the replies one by one, as they come."""

import time
from collections.abc import Iterator, Sequence

from flwr.app import Message
from flwr.serverapp import Grid


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
