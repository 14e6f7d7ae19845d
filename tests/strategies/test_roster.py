"""Who is who, through a real grid whose nodes come and go."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any, ClassVar

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from nufed.client_app.app import app as client_app
from nufed.client_app.messages import Census
from nufed.client_app.wire import REPORT, encode
from nufed.conf.compose import compose_config
from nufed.conf.convert import to_json
from nufed.conf.errors import InputError, RunStopped
from nufed.simulation.grid import LocalGrid
from nufed.strategies import left_out
from nufed.strategies.replies import LONGEST
from nufed.strategies.roster import Roster, choose_new_clients
from nufed.strategies.samplers.uniform import Uniform
from nufed.tasks.ids import ClientIds
from nufed.tasks.partitions import Partition
from nufed.tasks.task import build


def grid(num_supernodes: int, clients: int = 12, app: ClientApp = client_app) -> LocalGrid:
    config = compose_config([f"partition.num_clients={clients}"])
    return LocalGrid(app, {"config": to_json(config)}, num_supernodes)


@cache
def shared(clients: int = 12) -> Partition:
    """What the server has of the data of such a grid."""
    return build(compose_config([f"partition.num_clients={clients}"])).data.partition


@pytest.mark.parametrize("num_supernodes", [1, 5, 12, 20])
def test_every_client_has_one_home_whatever_the_number_of_nodes(num_supernodes: int) -> None:
    roster = Roster(0, 0.25, shared())
    roster.wait(grid(num_supernodes), timeout=0)
    homes = roster.nodes_of(range(12))
    assert sorted(client for hosted in homes.values() for client in hosted) == list(range(12))
    assert len(homes) == min(num_supernodes, 12)
    assert sorted(roster.participating + roster.new) == list(range(12))
    assert len(roster.new) == 3


def test_a_sample_follows_from_seed_and_round_and_not_from_node_ids() -> None:
    few, many = Roster(3, 0.25, shared()), Roster(3, 0.25, shared())
    few.wait(grid(2), timeout=0)
    many.wait(grid(12), timeout=0)
    samples = [Uniform().sample(few, round, 4) for round in range(1, 40)]
    assert samples == [Uniform().sample(many, round, 4) for round in range(1, 40)]
    assert all(len(set(sample)) == 4 for sample in samples)
    assert set().union(*samples) == set(few.participating)
    other = Roster(4, 0.25, shared())
    other.wait(grid(2), timeout=0)
    assert samples != [Uniform().sample(other, round, 4) for round in range(1, 40)]


def test_nodes_may_leave_and_come_back_under_another_id() -> None:
    federation = grid(12)
    roster = Roster(0, [3], shared())
    roster.wait(federation, timeout=0)
    before = {client: node for node, (client,) in roster.nodes_of(range(12)).items()}

    context = federation.nodes.pop(before[7])
    roster.refresh(federation)
    assert 7 not in roster.participating
    assert all(7 not in Uniform().sample(roster, round, 11) for round in range(1, 10))

    federation.nodes[4242] = context
    roster.refresh(federation)
    assert 7 in roster.participating
    assert roster.nodes_of([7]) == {4242: [7]}
    assert roster.new == [3]


def test_a_federation_without_clients_to_train_is_an_error() -> None:
    federation = grid(2)
    federation.nodes.clear()
    with pytest.raises(RunStopped, match="no client to train with came"):
        Roster(0, 0.2, shared()).wait(federation, timeout=0)


def test_new_clients() -> None:
    ids = ClientIds(50)
    assert len(choose_new_clients(ids, 0.2, seed=0)) == 10
    assert choose_new_clients(ids, 0.2, seed=0) == choose_new_clients(ids, 0.2, seed=0)
    assert choose_new_clients(ids, 0.2, seed=0) != choose_new_clients(ids, 0.2, seed=1)
    assert choose_new_clients(ids, [4, "9"], seed=0) == {4, 9}
    assert choose_new_clients(ids, 0.0, seed=0) == set()
    for absent in (50, -1, "amy"):
        with pytest.raises(InputError, match=f"client {absent} is not among 0 … 49$"):
            choose_new_clients(ids, [absent], seed=0)
    with pytest.raises(InputError, match="leaves none of 2 clients"):
        choose_new_clients(ClientIds(2), [0, 1], seed=0)


def test_listed_new_clients_are_ids_and_never_places() -> None:
    """Of ids with gaps 5 is the fourth client; a number typed for text is that text."""
    ids = ClientIds(5, np.array([1, 2, 3, 5, 8]))
    assert choose_new_clients(ids, [5, 8], seed=0) == {3, 4}
    with pytest.raises(InputError, match=r"=\[0\]: client 0 is not among 1, 2, 3, 5, 8$"):
        choose_new_clients(ids, [0], seed=0)
    names = ClientIds(7, np.array(["5", "ann", "bob", "cy", "di", "ed", "flo"]))
    assert choose_new_clients(names, [5, "bob"], seed=0) == {0, 2}
    with pytest.raises(InputError) as refused:
        choose_new_clients(names, ["ann", "bobb", 3], seed=0)
    assert str(refused.value) == (
        "evaluation.new_clients=['ann', 'bobb', 3]: client bobb is not among 5, ann, bob, cy, di, "
        "… flo; did you mean bob?"
    )


def test_a_node_that_cannot_say_who_it_hosts_is_left_out_and_not_asked_each_time() -> None:
    config = compose_config(["partition.num_clients=12"])
    asked: list[int] = []
    app = ClientApp()

    @app.query()
    def query(message: Message, context: Context) -> Message:
        asked.append(context.node_id)
        if context.node_id == 1001:
            raise RuntimeError("no data here")
        if context.node_id == 1002:
            return Message(encode(Census([99], [5], 12)), reply_to=message)
        return client_app(message, context)

    federation = LocalGrid(app, {"config": to_json(config)}, 4)
    roster = Roster(0, 0.0, shared())
    for _ in range(3):
        roster.refresh(federation)
    assert roster.participating == [0, 3, 4, 7, 8, 11]
    assert sorted(asked) == [1000, 1001, 1002, 1003]


def test_a_node_of_another_federation_changes_nobodys_role() -> None:
    """Its data has 12 clients, theirs 10: were it believed, other clients would be new."""
    ours, theirs = grid(10, clients=10), grid(12, clients=12)
    roster = Roster(0, 0.3, shared(10))
    roster.wait(ours, timeout=0)
    before = (roster.participating, roster.new)
    ours.nodes[4242] = next(iter(theirs.nodes.values()))
    roster.refresh(ours)
    assert (roster.participating, roster.new) == before
    assert roster.num_clients == 10


def test_a_node_that_answers_late_is_entered_when_it_does() -> None:
    class SlowGrid(LocalGrid):
        """Withholds every reply until it is told to let them go."""

        open = False

        def pull_messages(self, message_ids):
            return super().pull_messages(message_ids) if self.open else []

    config = compose_config(["partition.num_clients=12"])
    federation = SlowGrid(client_app, {"config": to_json(config)}, 1)
    roster = Roster(0, 0.25, shared())
    roster.refresh(federation, timeout=0.2)
    assert roster.participating == []
    federation.open = True
    roster.refresh(federation, timeout=0.2)
    assert len(roster.participating) == 9


def test_a_question_that_was_refused_is_asked_again() -> None:
    """Flower's grid returns None for a message that the SuperLink did not take."""

    class RefusingGrid(LocalGrid):
        refuse = True

        def push_messages(self, messages):
            ids = super().push_messages(messages)
            return [None, *ids[1:]] if self.refuse and ids else ids

        def pull_messages(self, message_ids):
            assert None not in message_ids
            return super().pull_messages(message_ids)

    config = compose_config(["partition.num_clients=12"])
    federation = RefusingGrid(client_app, {"config": to_json(config)}, 4)
    roster = Roster(0, 0.0, shared())
    roster.refresh(federation, timeout=0.2)
    assert len(roster.participating) == 9
    federation.refuse = False
    roster.refresh(federation, timeout=0.2)
    assert roster.participating == list(range(12))


# What a hostile or mistaken node may say.


def claiming(
    claims: dict[int, dict[str, Any]], asked: list[int] | None = None
) -> Callable[..., LocalGrid]:
    """Return `grid`, whose nodes of these ids say this in place of the truth."""
    app = ClientApp()

    @app.query()
    def query(message: Message, context: Context) -> Message:
        if asked is not None:
            asked.append(context.node_id)
        if context.node_id not in claims:
            return client_app(message, context)
        return Message(
            RecordDict({REPORT: ConfigRecord(claims[context.node_id])}), reply_to=message
        )

    return partial(grid, app=app)


def under(context: Context, node: int) -> Context:
    """Return a node's context under another id."""
    return replace(context, node_id=node)


ALL = {"clients": list(range(12)), "rows": shared().train.tolist(), "num_clients": 12}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"num_clients": 2**63 - 1},
            "its data are of 9223372036854775807 clients, the run's of 12",
        ),
        ({"num_clients": 11, "clients": [0], "rows": [5]}, "are of 11 clients, the run's of 12"),
        ({"num_clients": 0}, "num_clients is 0"),
        ({"num_clients": -(2**63)}, "num_clients is -9223372036854775808"),
        ({"clients": [12], "rows": [5]}, "clients are not all among 0 … 11"),
        ({"clients": [-1], "rows": [5]}, "clients are not all among 0 … 11"),
        ({"clients": [2**63 - 1], "rows": [5]}, "clients are not all among 0 … 11"),
        ({"clients": [3] * 12}, "a client is there twice"),
        ({"clients": list(range(11))}, "columns of different length: [11, 12]"),
        ({"clients": [0.0] * 12}, "clients is [0.0, "),
        ({"clients": 12, "rows": 12}, "clients is 12, not list[int]"),
        ({"rows": [0] * 12}, "train rows are not all among 1 … 1000000000"),
        ({"rows": [-5] * 12}, "train rows are not all among 1 … 1000000000"),
        ({"rows": [2**63 - 1] * 12}, "train rows are not all among 1 … 1000000000"),
        ({"rows": [10**9] * 12}, "client 0 has 1000000000 train rows there, "),
        ({"clients": [0] * 200_000, "rows": [1] * 200_000}, "a client is there twice"),
        ({"rows": ["x" * 100_000] * 12}, "rows is ['xxx"),
    ],
)
def test_a_census_that_cannot_be_true_is_named_and_leaves_the_others_theirs(
    change: dict[str, Any], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Though it comes first: the federation is as large as the run's configuration has it."""
    federation = claiming({1000: ALL | change})(3)
    roster = Roster(0, 0.25, shared())
    roster.refresh(federation)
    (line,) = caplog.messages
    assert line.startswith("SuperNode 1000 is left out: ")
    assert words in line
    assert len(line) < 500
    theirs = [client for client in range(12) if client % 3]  # of nodes 1001 and 1002
    assert sorted(roster.participating + roster.new) == theirs
    assert roster.num_clients == 12
    assert roster.set_aside == choose_new_clients(ClientIds(12), 0.25, 0)
    assert 1000 not in roster.nodes_of(theirs)


class Clock:
    """Takes the place of the time module where pauses are measured."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(left_out, "time", clock)
    return clock


def test_a_node_that_is_left_out_is_asked_again_after_longer_and_longer_pauses(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said why, once as long as that stays so; and that it is in after all."""
    asked = list[int]()
    claims = {1000: ALL | {"num_clients": 11}}
    federation = claiming(claims, asked)(3)
    roster = Roster(0, 0.25, shared())
    times = list[float]()
    for second in range(2000):
        clock.now = float(second)
        before = asked.count(1000)
        roster.refresh(federation)
        times += [clock.now] * (asked.count(1000) - before)
    assert times == [0, 5, 15, 35, 75, 155, 315, 615, 915, 1215, 1515, 1815]
    assert [asked.count(node) for node in (1001, 1002)] == [1, 1]
    assert len(caplog.messages) == 1

    claims[1000] |= {"num_clients": 13}
    clock.now = 2200
    roster.refresh(federation)
    assert caplog.messages[1:] == [
        "SuperNode 1000 is left out: its data are of 13 clients, the run's of 12"
    ]
    del claims[1000]
    roster.refresh(federation)
    assert 0 not in roster.rows
    clock.now = 2600
    roster.refresh(federation)
    assert caplog.messages[2:] == ["SuperNode 1000 is no longer left out"]
    assert sorted(roster.rows) == list(range(12))
    assert roster.nodes_of([0, 3]) == {1000: [0, 3]}
    for _ in range(3):
        clock.now += 1000
        roster.refresh(federation)
    assert asked.count(1000) == len(times) + 2


def test_nobody_waits_for_a_node_that_is_asked_again_or_never_answers(clock: Clock) -> None:
    """Where one is new, those that are not are looked for, and not waited for."""

    class SlowGrid(LocalGrid):
        """Withholds the replies to some questions, and counts how often each was looked for."""

        held: ClassVar[frozenset[int]] = frozenset()
        looks: ClassVar[Counter[int]] = Counter()

        def pull_messages(self, message_ids):
            (asked,) = message_ids
            node = self._waiting[asked].metadata.dst_node_id if asked in self._waiting else 0
            self.looks[node] += 1
            return [] if node in self.held else super().pull_messages(message_ids)

    config = {"config": to_json(compose_config(["partition.num_clients=12"]))}
    app = claiming({1000: ALL | {"num_clients": 11}})(1).client_app
    federation = SlowGrid(app, config, 4)
    late = federation.nodes.pop(1003)
    federation.held = frozenset([1001])
    roster = Roster(0, 0.25, shared())
    roster.refresh(federation, timeout=0.2)  # 1001 never answers, 1000 wrongly
    assert sorted(roster.rows) == [2, 6, 10]
    federation.held = frozenset([1000, 1001])
    clock.now = 10.0
    federation.looks.clear()
    roster.refresh(federation, timeout=1e9)
    assert federation.looks == {1000: 1, 1001: 1}
    federation.nodes[1003] = late
    roster.refresh(federation, timeout=1e9)
    assert sorted(roster.rows) == [2, 3, 6, 7, 10, 11]


def test_what_a_node_wrote_in_place_of_its_census_is_one_short_printable_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = ClientApp()
    text = '\x1b[2J\r\n@@nufed@@ {"n": 0}\n\u202e' + "x" * 60_000

    @app.query()
    def query(message: Message, context: Context) -> Message:
        if context.node_id == 1000:
            return Message(Error(7, text), reply_to=message)
        if context.node_id == 1001:
            return Message(Error(7), reply_to=message)
        record = ConfigRecord(ALL | {text: 1})
        return Message(RecordDict({REPORT: record}), reply_to=message)

    roster = Roster(0, 0.25, shared())
    roster.refresh(grid(3, app=app))
    lines = [line.partition(" is left out: ") for line in caplog.messages]
    assert [line[0] for line in lines] == ["SuperNode 1000", "SuperNode 1001", "SuperNode 1002"]
    assert lines[0][2].startswith(r'\x1b[2J @@nufed@@ {"n": 0} \u202exxx')
    assert lines[1][2] == "error 7"
    assert lines[2][2].startswith(r"unknown field '\x1b[2J")
    for _, _, why in lines:
        assert why.isprintable()
        assert len(why) <= LONGEST


def test_a_client_stays_with_its_node_whoever_claims_it_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    federation = claiming({4242: ALL})(3)
    roster = Roster(0, 0.25, shared())
    roster.wait(federation, timeout=0)
    before, rows = roster.nodes_of(range(12)), dict(roster.rows)
    context = next(iter(federation.nodes.values()))
    federation.nodes[4242] = under(context, 4242)
    for _ in range(3):
        roster.refresh(federation)
    assert roster.nodes_of(range(12)) == before
    assert roster.rows == rows
    late = "SuperNode 4242 claims client 0 and 11 more, which an earlier one has and keeps as long"
    assert [line for line in caplog.messages if line.startswith(late)] == caplog.messages
    assert len(caplog.messages) == 1

    del federation.nodes[1001]
    roster.refresh(federation)
    assert roster.nodes_of([1, 4, 7, 10]) == {4242: [1, 4, 7, 10]}
    assert roster.nodes_of([0, 3, 6, 9]) == {1000: [0, 3, 6, 9]}
    assert caplog.messages[1:] == ["SuperNode 4242 now has client 1 and 3 more"]


def test_a_node_that_is_back_under_its_id_has_its_clients_back() -> None:
    """Flower gives that id to none but the holder of its key."""
    federation = claiming({4242: ALL})(3)
    roster = Roster(0, 0.25, shared())
    roster.wait(federation, timeout=0)
    own = federation.nodes[1001]
    federation.nodes[4242] = under(own, 4242)
    roster.refresh(federation)
    del federation.nodes[1001]
    roster.refresh(federation)
    assert roster.nodes_of([1]) == {4242: [1]}
    federation.nodes[1001] = own
    roster.refresh(federation)
    assert roster.nodes_of([1]) == {1001: [1]}


def test_a_node_that_is_back_before_its_old_self_was_missed_takes_over_once_it_is() -> None:
    """Without a key it has a new id, and Flower takes the dead one for online for a minute."""
    federation = grid(3)
    roster = Roster(0, 0.25, shared())
    roster.wait(federation, timeout=0)
    federation.nodes[4242] = under(federation.nodes[1001], 4242)
    roster.refresh(federation)
    assert roster.nodes_of([1, 4]) == {1001: [1, 4]}
    del federation.nodes[1001]
    roster.refresh(federation)
    assert roster.nodes_of([1, 4]) == {4242: [1, 4]}
    assert sorted(roster.participating + roster.new) == list(range(12))


def test_nobody_waits_for_a_node_that_no_client_is_missing_from() -> None:
    """One that says nothing, and comes again and again, would hold up every round."""

    class PartlyMute(LocalGrid):
        def push_messages(self, messages):
            ids = super().push_messages(messages)
            for message_id in ids:
                if self._waiting[message_id].metadata.dst_node_id >= 4242:
                    del self._waiting[message_id]
            return ids

    config = compose_config(["partition.num_clients=12"])
    federation = PartlyMute(client_app, {"config": to_json(config)}, 3)
    roster = Roster(0, 0.25, shared())
    federation.nodes[4242] = under(federation.nodes[1000], 4242)
    roster.wait(federation, timeout=float("inf"))
    for i in range(1, 3):
        federation.nodes[4242 + i] = under(federation.nodes[1000], 4242 + i)
        roster.refresh(federation, timeout=float("inf"))
    assert len(roster.participating) == 9


def test_rows_that_the_server_cannot_see_are_as_the_node_says_within_reason() -> None:
    says = {"clients": [0, 2], "rows": [7, 9], "num_clients": 3}
    federation = claiming(
        {1000: says, 1001: {"clients": [1], "rows": [10**9 + 1], "num_clients": 3}}
    )(2)
    roster = Roster(0, 0.0, Partition.elsewhere(3))
    roster.refresh(federation)
    assert roster.rows == {0: 7, 2: 9}
