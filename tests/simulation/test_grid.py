"""LocalGrid keeps Flower's contract."""

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from nufed.conf.errors import InputError
from nufed.simulation.grid import LocalGrid


def counting_app() -> tuple[ClientApp, list[int]]:
    """A ClientApp that notes the node of each message, and fails on node 1001."""
    app, calls = ClientApp(), list[int]()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        calls.append(context.node_id)
        if context.node_id == 1001:
            raise RuntimeError("broken client")
        if context.node_id == 1002:
            raise InputError("bad input")
        return Message(message.content, reply_to=message)

    return app, calls


def test_replies_come_one_at_a_time_and_only_when_they_are_pulled() -> None:
    app, calls = counting_app()
    grid = LocalGrid(app, {}, num_supernodes=5)
    messages = [Message(RecordDict(), node, "train") for node in (1000, 1003, 1004)]
    ids = grid.push_messages(messages)
    assert len(set(ids)) == 3
    assert calls == []
    (first,) = grid.pull_messages(ids)
    assert calls == [1000]
    assert first.metadata.reply_to_message_id == ids[0]
    assert [len(grid.pull_messages(ids)) for _ in range(3)] == [1, 1, 0]


def test_a_client_that_raises_becomes_an_error_reply() -> None:
    app, _ = counting_app()
    grid = LocalGrid(app, {}, num_supernodes=2)
    good, bad = (Message(RecordDict(), node, "train") for node in (1000, 1001))
    replies = grid.send_and_receive([good, bad])
    assert replies[0].has_content()
    assert replies[1].error.reason == "RuntimeError: broken client"
    assert replies[1].metadata.reply_to_message_id == bad.metadata.message_id


def test_a_persons_mistake_is_not_turned_into_a_lost_client() -> None:
    app, _ = counting_app()
    grid = LocalGrid(app, {}, num_supernodes=3)
    with pytest.raises(InputError, match="bad input"):
        grid.send_and_receive([Message(RecordDict(), 1002, "train")])
