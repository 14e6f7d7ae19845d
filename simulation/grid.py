"""LocalGrid: Flower's Grid in one process, so that the same apps run with no network and no Ray."""

from collections.abc import Iterable
from typing import Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from nufed.conf.errors import NuFedError
from nufed.conf.targets import EVERYTHING
from nufed.simulation.flower_host import SERVER_NODE_ID, open_run, stamp

FIRST_NODE_ID = 1000
TYPED: dict[str, bool | float | int | str] = {"trust": EVERYTHING}
"""Of every node config here: whoever makes this grid has typed the run's configuration."""
CLIENT_APP_RAISED = 2  # Flower's ErrorCode for it


class LocalGrid(Grid):
    """Deliver messages by calling the ClientApp; one SuperNode hosts every client by default.

    Parameters
    ----------
    client_app
        Answers the messages.
    run_config
        The run's configuration, as every context carries it.
    num_supernodes
        SuperNodes to share the clients out among.
    """

    def __init__(
        self, client_app: ClientApp, run_config: dict[str, Any], num_supernodes: int = 1
    ) -> None:
        self.client_app = client_app
        self._run = open_run()
        self.nodes = {
            FIRST_NODE_ID + i: Context(
                run_id=self._run.run_id,
                node_id=FIRST_NODE_ID + i,
                node_config={"partition-id": i, "num-partitions": num_supernodes} | TYPED,
                state=RecordDict(),
                run_config=dict(run_config),
            )
            for i in range(num_supernodes)
        }
        self._waiting: dict[str, Message] = {}

    @property
    def run(self) -> Any:
        """The run that this grid serves."""
        return self._run

    def set_run(self, run: Any) -> None:
        """Serve another run."""
        self._run = run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Create a message, as Flower's older API does it."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        """Return the SuperNodes' ids."""
        return list(self.nodes)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Take messages; their ClientApps run when the replies are pulled."""
        ids = []
        for message in messages:
            ids.append(stamp(message))
            self._waiting[ids[-1]] = message
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Answer the first message waiting, so that one reply exists at a time."""
        wanted = set(message_ids)  # in the order in which they were sent: sums depend on it
        message_id = next((waiting for waiting in self._waiting if waiting in wanted), None)
        return [] if message_id is None else [self._answer(self._waiting.pop(message_id))]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Answer all messages."""
        return [self._answer(self._waiting.pop(i)) for i in self.push_messages(messages)]

    def _answer(self, message: Message) -> Message:
        """Run the ClientApp; what it raises becomes an error reply, as on a real SuperNode."""
        try:
            reply = self.client_app(message, self.nodes[message.metadata.dst_node_id])
        except NuFedError:
            raise  # a person's mistake, which server and clients share in one process
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            reply = Message(Error(CLIENT_APP_RAISED, reason), reply_to=message)
        stamp(reply)
        return reply


def run_in_process(
    server_app: ServerApp,
    client_app: ClientApp,
    run_config: dict[str, Any],
    num_supernodes: int = 1,
) -> None:
    """Run a ServerApp against ClientApps in this process, to its end."""
    grid = LocalGrid(client_app, run_config, num_supernodes)
    context = Context(
        run_id=grid.run.run_id,
        node_id=SERVER_NODE_ID,
        node_config=dict(TYPED),
        state=RecordDict(),
        run_config=dict(run_config),
    )
    server_app(grid=grid, context=context)
