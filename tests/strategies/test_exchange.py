"""Replies that cannot even be decoded, which Flower meets while it pulls them."""

from collections.abc import Iterable

import pytest
from flwr.app import ConfigRecord, Message

from nufed.strategies.exchange import exchange
from tests.strategies.helpers import Federation, assert_arrays, expected


class Undecodable:
    """A grid that raises, as Flower's does, for one message, or for all once the link is down."""

    def __init__(self, grid, broken: set[str], *, down: bool = False) -> None:
        self._grid, self.broken, self.down = grid, broken, down

    def __getattr__(self, name: str):
        return getattr(self._grid, name)

    def get_node_ids(self) -> list[int]:
        if self.down:
            raise ConnectionError("no SuperLink")
        return self._grid.get_node_ids()

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        ids = list(message_ids)
        if self.down or self.broken & set(ids):
            self._grid.pull_messages(ids)  # they are gone: Flower has confirmed them by then
            raise ValueError("Error parsing message")
        return self._grid.pull_messages(ids)


def test_one_that_cannot_be_decoded_costs_nobody_else_their_reply() -> None:
    federation = Federation()
    strategy, grid = federation.strategy, Undecodable(federation.grid, set())
    sent = list(strategy.configure_train(1, federation.arrays, ConfigRecord(), grid))
    federation.sent = sent
    replies = exchange(grid, sent, timeout=60)
    first = next(replies)
    third = sent[2].metadata.message_id
    grid.broken.add(third)
    arrays, metrics = strategy.aggregate_train(1, [first, *replies])
    assert metrics is not None
    assert metrics["clients"] == 5
    (failure,) = strategy.failures
    assert failure.reason == "its reply cannot be decoded: ValueError: Error parsing message"
    assert failure.lost
    good = dict.fromkeys(set(federation.updates()) - {failure.client}, 1.0)
    assert_arrays(arrays, expected(federation, good))


def test_a_link_that_is_down_is_no_clients_fault() -> None:
    federation = Federation()
    grid = Undecodable(federation.grid, set())
    sent = list(federation.strategy.configure_train(1, federation.arrays, ConfigRecord(), grid))
    replies = exchange(grid, sent, timeout=60)
    next(replies)
    grid.down = True
    with pytest.raises(ConnectionError, match="no SuperLink"):
        list(replies)
