"""Weights by train rows that only the SuperNodes know: what one claims is believed in part."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord
from flwr.clientapp import ClientApp

from nufed.client_app.algorithm import algorithm_of
from nufed.client_app.app import app as one_by_one
from nufed.client_app.app import make_app
from nufed.client_app.client import train as train_client
from nufed.client_app.messages import TrainInstruction
from nufed.client_app.states import Held
from nufed.client_app.wire import ARRAYS, METRICS, REPORT, decode, to_params
from nufed.conf.compose import compose_config
from nufed.conf.convert import to_json
from nufed.simulation.batched import Batched
from nufed.simulation.grid import LocalGrid
from nufed.strategies.exchange import exchange
from nufed.strategies.meta_fedavg import MetaFedAvg
from nufed.strategies.roster import Roster
from nufed.strategies.weights import most_rows
from nufed.tasks.partitions import Partition
from nufed.tasks.task import build

N = 10
OVERRIDES = [
    *("partition=dirichlet", f"partition.num_clients={N}", "engine.precision=float64"),
    *("model=logistic", "algorithm.nu=1", "algorithm.tau=3", "algorithm.alpha=0.03"),
    *("algorithm.beta=0.3", "strategy.weighting=examples"),
]
FIRST = 1000  # LocalGrid's first node: it hosts client 0


class Federation:
    """Ten clients of whose rows the server has none; node 1000 may claim what it likes."""

    def __init__(
        self,
        app: ClientApp = one_by_one,
        num_supernodes: int = N,
        most_rows: int | None = None,
        **options: Any,
    ) -> None:
        self.config = compose_config(OVERRIDES)
        self.grid = LocalGrid(app, {"config": to_json(self.config)}, num_supernodes)
        self.task = build(self.config)
        self.rows = self.task.data.partition.train
        self.roster = Roster(0, 0.0, Partition.elsewhere(N), most_rows)
        self.roster.wait(self.grid, timeout=0)
        self.strategy = MetaFedAvg(
            *(algorithm_of(self.config.algorithm), self.config.evaluation, self.roster),
            **{"seed": 0, "clients_per_round": N, "weighting": "examples"} | options,
        )
        self.arrays = ArrayRecord(self.task.initial_params())

    def round(self, k: int = 1) -> None:
        """Run a round; keep the messages that asked for it."""
        self.before = self.arrays
        sent = list(self.strategy.configure_train(k, self.arrays, ConfigRecord(), self.grid))
        a = self.strategy.algorithm
        self.asked = [decode(TrainInstruction, each).of(a, Held()) for each in sent]
        arrays, _ = self.strategy.aggregate_train(k, exchange(self.grid, sent, timeout=60))
        assert arrays is not None
        assert self.strategy.failures == []
        self.arrays = arrays

    def mean(self, weights: np.ndarray, flipped: bool = False) -> dict[str, np.ndarray]:
        """Return w − Σ weight · update / Σ weight of the last round, as computed here."""
        params = to_params(self.before)
        updates = {
            client: train_client(self.task, params, job, client).update
            for job in self.asked
            for client in job.clients
        }
        if flipped:
            updates[0] = {name: -p for name, p in updates[0].items()}
        share = weights / weights.sum()
        return {
            name: w.numpy() - sum(share[i] * updates[i][name].numpy() for i in range(N))
            for name, w in self.before.items()
        }

    def accuracy(self) -> float:
        """Return that of the global model on everybody's test rows."""
        part = self.task.data.partition
        rows = np.concatenate([part.test_rows(client) for client in range(N)])
        x, y = self.task.batch(rows)
        outputs = self.task.predict(to_params(self.arrays), x)
        return float((outputs.argmax(-1) == y).double().mean())


def assert_is(arrays: ArrayRecord, wanted: dict[str, np.ndarray]) -> None:
    for name, array in arrays.items():
        assert np.abs(array.numpy() - wanted[name]).max() < 1e-12


def hostile(claim: int) -> ClientApp:
    """Return the app of clients of which node 1000's claims so many rows, and turns back."""
    app = ClientApp()

    @app.query()
    def query(message: Message, context: Context) -> Message:
        reply = one_by_one(message, context)
        if context.node_id == FIRST:
            reply.content[REPORT]["rows"] = [claim]
        return reply

    @app.train()
    def train(message: Message, context: Context) -> Message:
        reply = one_by_one(message, context)
        if context.node_id == FIRST:
            flipped = {n: -torch.from_numpy(a.numpy()) for n, a in reply.content[ARRAYS].items()}
            reply.content[ARRAYS] = ArrayRecord(flipped)
            reply.content[METRICS] = MetricRecord({"num-examples": claim})
        return reply

    return app


def test_most_rows_are_three_times_what_a_minority_cannot_move() -> None:
    assert most_rows([7], None) == 21
    assert most_rows([100, 10**9], None) == 300
    assert most_rows([50, 60, 10**9], None) == 180
    assert most_rows([50, 60, 10**9, 10**9], None) == 180
    assert most_rows([50, 60, 10**9], 70) == 70


@pytest.mark.parametrize("claim", [10**9, 10**6])
def test_a_claim_moves_the_mean_by_its_capped_share(
    claim: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Ten clients, one of which says it has a thousand million rows, and goes backwards."""
    federation = Federation(hostile(claim))
    federation.round()
    rows = federation.rows.astype(float)
    most = 3 * np.sort(np.append(rows[1:], claim))[4]
    assert_is(federation.arrays, federation.mean(np.append(most, rows[1:]), flipped=True))
    federation.round(2)
    (line,) = caplog.messages
    assert line == (
        f"strategy.weighting=examples: more train rows than the {most:.0f} that count (3 times the "
        f"median) are claimed by client 0 ({claim}); if they have them, say dataset.max_rows="
        f"{claim}"
    )


def test_a_run_learns_whatever_one_of_ten_claims() -> None:
    """Not so if it were believed."""
    honest, attacked, believed = (
        Federation(),
        Federation(hostile(10**9)),
        Federation(hostile(10**9), most_rows=10**9),
    )
    for federation in (honest, attacked, believed):
        for k in range(1, 17):
            federation.round(k)
    # 28 % of the weight go backwards: progress is about half as fast.
    assert honest.accuracy() > 0.8
    assert attacked.accuracy() > 0.6
    assert believed.accuracy() < 0.2


@pytest.mark.parametrize("num_supernodes", [1, 3, N])
@pytest.mark.parametrize("app", [one_by_one, make_app(Batched)], ids=["one by one", "batched"])
def test_what_counts_of_each_client_counts_within_a_node_too(
    app: ClientApp, num_supernodes: int
) -> None:
    """A node's reply is a mean: it has to weigh its clients as the server weighs them."""
    federation = Federation(app, num_supernodes, most_rows=120)
    federation.round()
    assert 0 < (federation.rows > 120).sum() < N
    assert_is(federation.arrays, federation.mean(np.minimum(federation.rows, 120).astype(float)))


def test_claims_that_are_within_reason_weigh_as_the_servers_own_count(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Bit for bit; and uniform weights do not look at them."""
    plain = Federation(most_rows=10**9)
    mostly = Federation(most_rows=int(plain.rows.max()))
    uniform = Federation(weighting="uniform", most_rows=1)
    known = Federation(most_rows=1)
    known.roster._known_rows = known.rows
    for federation in (plain, mostly, uniform, known):
        federation.round()
    for other in (mostly, known):
        assert all(
            np.array_equal(a.numpy(), other.arrays[n].numpy()) for n, a in plain.arrays.items()
        )
    assert_is(uniform.arrays, uniform.mean(np.ones(N)))
    assert caplog.messages == []


def test_a_reply_cannot_claim_other_rows_than_its_census() -> None:
    federation = Federation()
    inner: Callable[..., Message] = federation.grid.client_app

    def claiming(message: Message, context: Context) -> Message:
        reply = inner(message, context)
        if context.node_id == FIRST:
            reply.content[METRICS] = MetricRecord({"num-examples": 10**9})
        return reply

    federation.grid.client_app = claiming
    with pytest.raises(AssertionError):
        federation.round()
    (failure,) = federation.strategy.failures
    assert failure.reason == f"num-examples is 1000000000, the clients have {federation.rows[0]}"
