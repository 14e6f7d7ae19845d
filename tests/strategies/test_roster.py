"""Who is who, through a real grid whose nodes come and go."""

import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client_app.app import app as client_app
from client_app.messages import Census, encode
from conf.compose import compose_config
from conf.errors import InputError, RunStopped
from conf.schema import to_json
from simulation.grid import LocalGrid
from strategies.roster import Roster, choose_new_clients


def grid(num_supernodes: int, clients: int = 12) -> LocalGrid:
    config = compose_config([f"partition.num_clients={clients}"])
    return LocalGrid(client_app, {"config": to_json(config)}, num_supernodes)


@pytest.mark.parametrize("num_supernodes", [1, 5, 12, 20])
def test_every_client_has_one_home_whatever_the_number_of_nodes(num_supernodes: int) -> None:
    roster = Roster(seed=0, new_clients=0.25)
    roster.wait(grid(num_supernodes), timeout=0)
    homes = roster.nodes_of(range(12))
    assert sorted(client for hosted in homes.values() for client in hosted) == list(range(12))
    assert len(homes) == min(num_supernodes, 12)
    assert sorted(roster.participating + roster.new) == list(range(12))
    assert len(roster.new) == 3


def test_a_sample_follows_from_seed_and_round_and_not_from_node_ids() -> None:
    few, many = Roster(3, 0.25), Roster(3, 0.25)
    few.wait(grid(2), timeout=0)
    many.wait(grid(12), timeout=0)
    samples = [few.sample(round, 4) for round in range(1, 40)]
    assert samples == [many.sample(round, 4) for round in range(1, 40)]
    assert all(len(set(sample)) == 4 for sample in samples)
    assert set().union(*samples) == set(few.participating)
    other = Roster(4, 0.25)
    other.wait(grid(2), timeout=0)
    assert samples != [other.sample(round, 4) for round in range(1, 40)]


def test_nodes_may_leave_and_come_back_under_another_id() -> None:
    federation = grid(12)
    roster = Roster(0, [3])
    roster.wait(federation, timeout=0)
    before = {client: node for node, (client,) in roster.nodes_of(range(12)).items()}

    context = federation.nodes.pop(before[7])
    roster.refresh(federation)
    assert 7 not in roster.participating
    assert all(7 not in roster.sample(round, 11) for round in range(1, 10))

    federation.nodes[4242] = context
    roster.refresh(federation)
    assert 7 in roster.participating
    assert roster.nodes_of([7]) == {4242: [7]}
    assert roster.new == [3]


def test_a_federation_without_clients_to_train_is_an_error() -> None:
    federation = grid(2)
    federation.nodes.clear()
    with pytest.raises(RunStopped, match="no client to train with came"):
        Roster(0, 0.2).wait(federation, timeout=0)


def test_new_clients() -> None:
    assert len(choose_new_clients(50, 0.2, seed=0)) == 10
    assert choose_new_clients(50, 0.2, seed=0) == choose_new_clients(50, 0.2, seed=0)
    assert choose_new_clients(50, 0.2, seed=0) != choose_new_clients(50, 0.2, seed=1)
    assert choose_new_clients(50, [4, 9], seed=0) == {4, 9}
    assert choose_new_clients(50, 0.0, seed=0) == set()
    with pytest.raises(InputError, match="client 50 is not among 0 … 49"):
        choose_new_clients(50, [50], seed=0)
    with pytest.raises(InputError, match="leaves none of 2 clients"):
        choose_new_clients(2, [0, 1], seed=0)


def test_a_node_that_cannot_say_who_it_hosts_is_left_out_and_asked_once() -> None:
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
    roster = Roster(0, 0.0)
    for _ in range(3):
        roster.refresh(federation)
    assert roster.participating == [0, 3, 4, 7, 8, 11]
    assert sorted(asked) == [1000, 1001, 1002, 1003]


def test_a_node_of_another_federation_changes_nobodys_role() -> None:
    """Its data has 12 clients, theirs 10: were it believed, other clients would be new."""
    ours, theirs = grid(10, clients=10), grid(12, clients=12)
    roster = Roster(0, 0.3)
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
    roster = Roster(0, 0.25)
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
    roster = Roster(0, 0.0)
    roster.refresh(federation, timeout=0.2)
    assert len(roster.participating) == 9
    federation.refuse = False
    roster.refresh(federation, timeout=0.2)
    assert roster.participating == list(range(12))
