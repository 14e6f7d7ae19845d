"""What hosting Flower apps in our own process needs of Flower's non-public API. Nowhere else.

Flower 1.41 has no public way to create a run, or to give a message its id, outside a SuperLink.
`tests/simulation/test_flower_host.py` fails when a new version of Flower changes any of it.
"""

import uuid

from flwr.app import Message
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

SERVER_NODE_ID = 1


def open_run() -> Run:
    """Return a new run, and make this process its ServerApp's: `Message(…)` asks for that."""
    run = Run.create_empty(run_id=uuid.uuid4().int >> 65)
    TaskIdentity.run_id = run.run_id
    TaskIdentity.node_id = SERVER_NODE_ID
    TaskIdentity.task_id = 1
    return run


def stamp(message: Message) -> str:
    """Give a message the id that a SuperLink would give it, and return it."""
    message_id = str(uuid.uuid4())
    message.metadata.__dict__["_message_id"] = message_id
    return message_id
