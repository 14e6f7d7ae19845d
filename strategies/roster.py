"""The roster: which SuperNode hosts which client, and which clients are new.

Flower's node ids are random and change when a node comes back without a key of its own, so nothing
is drawn over them: each node is asked once which clients it hosts, and clients are known by their
partition ids.

How many clients there are, and what the server's own data say of their rows, is never a node's to
say. A node whose answer cannot be used is left out, and asked again after a while. Of a client, the
node that was there first is believed as long as it is there; one that comes back under its old id,
which its key alone can give it, has its clients back.
"""

import logging
import reprlib
import time
from collections import Counter
from collections.abc import Iterable

from flwr.app import Message, MessageType, RecordDict
from flwr.serverapp import Grid

from nufed.client_app.messages import Census, MalformedMessage
from nufed.client_app.wire import decode
from nufed.conf.errors import InputError, RunStopped, TooFewReplies, reason
from nufed.strategies.exchange import collect
from nufed.strategies.left_out import LeftOut
from nufed.strategies.replies import short
from nufed.tasks.ids import ClientIds, Id
from nufed.tasks.partitions import Partition
from nufed.tasks.streams import Purpose, stream

CENSUS_TIMEOUT_S = 60.0

log = logging.getLogger("nufed")


def per_round(clients_per_round: int, fraction: float | None, clients: int) -> int:
    """Return m, how many clients a round draws if there are so many: a fraction, or a number."""
    return clients_per_round if fraction is None else max(1, round(fraction * clients))


class Roster:
    """Who is who among the nodes of a federation that may come and go.

    Parameters
    ----------
    seed
        Draws the new clients, who is evaluated, and by samplers each round's clients.
    new_clients
        The clients that never train: a fraction of all clients, or a list of ids.
    partition
        The clients that there are, and their train rows, as the server's own data have them: 0 of
        those whose rows are with the SuperNodes alone.

    Raises
    ------
    InputError
        If the new clients are not among them, or none is left to train.
    """

    def __init__(
        self,
        seed: int,
        new_clients: float | list[Id],
        partition: Partition,
        most_rows: int | None = None,
    ) -> None:
        self.seed, self.most_rows = seed, most_rows
        self.ids = partition.ids
        """What clients are called, wherever a person reads of them; here they are numbers."""
        self.rows: dict[int, int] = {}
        """Train rows of each client present."""
        self.participating: list[int] = []
        """Clients present that train, in order."""
        self.new: list[int] = []
        """Clients present that never train, in order."""
        self.num_clients = self.ids.n
        """Clients of the whole federation, present or not."""
        self.set_aside = choose_new_clients(self.ids, new_clients, seed)
        """All clients that never train, present or not."""
        self._known_rows = partition.train
        self._census: dict[int, Census] = {}
        self._came: dict[int, int] = {}  # node -> when it first did, among all that ever did
        self._left_out = LeftOut()
        self._told: set[int] = set()  # nodes of which it was said that others have their clients
        self._asked: dict[str, Message] = {}  # questions without an answer yet, by their ids
        self._home: dict[int, int] = {}

    def wait(self, grid: Grid, timeout: float, enough: int | None = None) -> None:
        """Wait until every client is present, at most `timeout` seconds, then go on with those.

        Parameters
        ----------
        enough
            So many participating clients are enough; None waits for all there are.

        Raises
        ------
        TooFewReplies
            If no client that may train is there.
        """
        until = time.monotonic() + timeout
        while True:
            self.refresh(grid, max(timeout, CENSUS_TIMEOUT_S))
            complete = len(self._home) == self.num_clients
            reached = complete or (enough is not None and len(self.participating) >= enough)
            if reached or time.monotonic() > until:
                break
            time.sleep(0.5)
        if not self.participating:
            raise TooFewReplies(
                f"no client to train with came within {timeout:.0f} s; start SuperNodes first"
            )
        if not reached:
            log.warning("%d of %d clients are there; going on", len(self._home), self.num_clients)

    def refresh(self, grid: Grid, timeout: float = CENSUS_TIMEOUT_S) -> None:
        """Forget nodes that left; ask those that came which clients they host.

        Waits for answers only where a node is new and a client has none yet; one that answers late
        is entered when it does. One that is left out is asked again, after longer and longer
        pauses.
        """
        present = set(grid.get_node_ids())
        before = dict(self._census)
        self._census = {node: census for node, census in self._census.items() if node in present}
        self._left_out.keep(present)
        self._told &= present
        self._asked = {
            i: question
            for i, question in self._asked.items()
            if question.metadata.dst_node_id in present
        }
        asked = {question.metadata.dst_node_id for question in self._asked.values()}
        unknown = present - set(self._census) - asked - self._left_out.paused()
        questions = self._ask(grid, unknown)
        new = {
            i: question
            for i, question in questions.items()
            if question.metadata.dst_node_id not in self._left_out
        }
        old = {i: question for i, question in self._asked.items() if i not in new}
        self._take_answers(grid, old, 0.0)
        self._take_answers(grid, new, timeout)
        if self._census != before:  # each census is a node's for good: by identity, and quick
            self._recount()

    @property
    def claimed(self) -> dict[int, int]:
        """Train rows of the clients present of which there is only their node's word."""
        return {i: rows for i, rows in self.rows.items() if not self._known_rows[i]}

    def nodes_of(self, clients: Iterable[int]) -> dict[int, list[int]]:
        """Group clients by the node that hosts them."""
        groups: dict[int, list[int]] = {}
        for client in clients:
            groups.setdefault(self._home[client], []).append(client)
        return groups

    def require_each_once(self, clients: Iterable[int]) -> None:
        """Raise unless a round's sample holds each client once, as privacy's sensitivity asks for.

        Raises
        ------
        RunStopped
            If it does not.
        """
        (client, times), *_ = Counter(clients).most_common(1) or [(0, 0)]
        if times > 1:
            raise RunStopped(
                f"client {self.ids[client]} was drawn {times} times for a round; a sampler draws "
                "each client at most once a round"
            )

    def measured(self, limit: int | None) -> list[int]:
        """Return the clients to evaluate: all, or a drawn `limit` of each kind, always the same."""
        participating = some(self.participating, limit, self.seed, Purpose.MEASURED)
        return sorted(participating + some(self.new, limit, self.seed, Purpose.MEASURED_NEW))

    def _ask(self, grid: Grid, nodes: Iterable[int]) -> dict[str, Message]:
        """Ask nodes which clients they host; return the questions, by their ids."""
        messages = [Message(RecordDict(), node, MessageType.QUERY) for node in sorted(nodes)]
        # A refused message has None for its id, and its node is asked again the next time.
        sent = zip(grid.push_messages(messages), messages, strict=False)
        questions = {message_id: question for message_id, question in sent if message_id}
        self._asked |= questions
        return questions

    def _take_answers(self, grid: Grid, questions: dict[str, Message], timeout: float) -> None:
        """Enter nodes as they answer; do not wait for the rest, who may never, once all are here.

        All clients, that is: nobody is missed then.
        """
        hosted = {client for census in self._census.values() for client in census.clients}
        missing = len(hosted) < self.num_clients
        for reply in collect(grid, questions, timeout if missing else 0.0):
            node = self._asked.pop(reply.metadata.reply_to_message_id).metadata.dst_node_id
            self._enter(node, reply)
            if node in self._census:
                hosted.update(self._census[node].clients)
            if missing and len(hosted) == self.num_clients:
                break

    def _enter(self, node: int, reply: Message) -> None:
        """Write a node into the roster, or leave it out and say why."""
        try:
            if reply.has_error():
                raise MalformedMessage(reply.error.reason or f"error {reply.error.code}")
            census = decode(Census, reply)
            self._require_ours(census)
        except MalformedMessage as error:
            self._left_out.add(node, short(reason(error)))
            return
        self._left_out.remove(node)
        self._came.setdefault(node, len(self._came))
        self._census[node] = census

    def _require_ours(self, census: Census) -> None:
        """Raise unless a node's census is of this federation."""
        n = self.num_clients
        if census.num_clients != n:
            raise MalformedMessage(
                f"its data are of {census.num_clients} clients, the run's of {n}"
            )
        for client, rows in zip(census.clients, census.rows, strict=True):
            known = int(self._known_rows[client])
            if known not in (0, rows):
                raise MalformedMessage(
                    f"client {self.ids[client]} has {rows} train rows there, {known} in the run's "
                    "data"
                )

    def _recount(self) -> None:
        """Derive who is where from the census of the nodes present; say what is not as it was."""
        before, self._home, self.rows = self._home, {}, {}
        late = dict[int, list[int]]()
        for node in sorted(self._census, key=self._came.__getitem__):
            census = self._census[node]
            for client, rows in zip(census.clients, census.rows, strict=True):
                if self._home.setdefault(client, node) == node:
                    self.rows[client] = rows
                else:
                    late.setdefault(node, []).append(client)
        self.participating = sorted(client for client in self._home if client not in self.set_aside)
        self.new = sorted(client for client in self._home if client in self.set_aside)
        moved = [client for client, node in self._home.items() if before.get(client, node) != node]
        if moved:  # to who claimed it second: perhaps its own node, come back before it was missed
            log.warning("SuperNode %d now has %s", self._home[moved[0]], self._called(moved))
        for node in late.keys() - self._told:
            log.warning(
                "SuperNode %d claims %s, which an earlier one has and keeps as long as it is there",
                *(node, self._called(late[node])),
            )
        self._told |= late.keys()

    def _called(self, clients: list[int]) -> str:
        """Name clients in a few words."""
        more = f" and {len(clients) - 1} more" if len(clients) > 1 else ""
        return f"client {self.ids[clients[0]]}{more}"


def some(clients: list[int], limit: int | None, seed: int, purpose: Purpose) -> list[int]:
    """Return `clients`, or a drawn `limit` of them, always the same for a purpose."""
    if limit is None or limit >= len(clients):
        return clients
    random = stream(purpose, seed)
    return [clients[i] for i in random.choice(len(clients), limit, replace=False)]


def choose_new_clients(ids: ClientIds, wanted: float | list[Id], seed: int) -> set[int]:
    """Return the clients that never train, by number.

    Raises
    ------
    InputError
        If a listed client does not exist, or none would be left to train.
    """
    n, said = ids.n, f"evaluation.new_clients={reprlib.repr(wanted)}"
    if isinstance(wanted, list):
        found = {client: ids.number(client) for client in wanted}
        if absent := [client for client, number in found.items() if number is None]:
            raise InputError(
                f"{said}: client {absent[0]} is not among {ids.few}{ids.hint(absent[0])}"
            )
        new = {number for number in found.values() if number is not None}
    else:
        order = stream(Purpose.NEW_CLIENTS, seed).permutation(n)
        new = set(order[: round(wanted * n)].tolist())
    if len(new) >= n:
        raise InputError(f"{said}: leaves none of {n} clients to train; set fewer aside")
    return new
