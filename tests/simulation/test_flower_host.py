"""What we use of Flower's non-public API is still there, and means what we take it to mean."""

from flwr.app import Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from nufed.simulation.flower_host import SERVER_NODE_ID, open_run, stamp


def test_a_process_becomes_a_server_that_can_write_messages() -> None:
    run = open_run()
    assert TaskIdentity.run_id == run.run_id
    message = Message(RecordDict(), 7, "query")
    assert message.metadata.run_id == run.run_id
    assert message.metadata.src_node_id == SERVER_NODE_ID
    assert message.metadata.dst_node_id == 7


def test_a_stamped_message_is_named_by_its_reply() -> None:
    open_run()
    first, second = (Message(RecordDict(), 7, "query") for _ in range(2))
    assert stamp(first) != stamp(second)
    reply = Message(RecordDict(), reply_to=first)
    assert reply.metadata.reply_to_message_id == first.metadata.message_id
    assert reply.metadata.dst_node_id == SERVER_NODE_ID


def test_two_runs_are_two() -> None:
    assert open_run().run_id != open_run().run_id
