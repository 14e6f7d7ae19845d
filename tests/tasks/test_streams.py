"""No two streams of random numbers are one, and all that is drawn is as likely as it should be."""

import random as python_random
from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import chi2, norm

from nufed.conf.compose import compose_config
from nufed.simulation.stacked_clients import draw_train
from nufed.strategies.roster import Roster, choose_new_clients, some
from nufed.strategies.samplers.uniform import Uniform
from nufed.tasks.ids import ClientIds
from nufed.tasks.partitions import Partition, partition
from nufed.tasks.rows import Rows
from nufed.tasks.store import FederatedData
from nufed.tasks.streams import Purpose, key, model_randomness, seeded, stream, torch_stream
from nufed.tasks.task import Task, build
from tests.helpers import changed, training

WORD = 2**32
VALUES = (0, 1, 2, 3, WORD - 1, WORD, WORD + 1, 2 * WORD, 2**63, 2**64 - 1)
UNLIKELY = 1e-6


def first(random: np.random.Generator) -> int:
    return int(random.integers(2**63))


def test_no_two_streams_coincide() -> None:
    """Also where NumPy would pad a key, or split a large number, into that of another stream."""
    keys = [*product(Purpose, VALUES, VALUES, VALUES)]
    words = {key(*each).tobytes() for each in keys}
    assert {len(each) for each in words} == {32}
    assert len(words) == len(keys)
    draws = {first(stream(*each)) for each in keys}
    assert len(draws) == len(keys)
    few = [each for n in range(1, 5) for each in product(VALUES[:4], repeat=n)]
    others = {first(np.random.default_rng(each)) for each in few}
    assert not draws & others, "nor that of somebody who seeds NumPy with a few numbers"


def test_a_number_that_no_key_can_hold_is_refused() -> None:
    for value in (-1, 2**64):
        with pytest.raises(ValueError, match=f"^seed={value}, client=0, round=0: must be from 0 "):
            stream(Purpose.TRAIN, value)


def test_every_seed_has_its_own_first_model() -> None:
    """torch.manual_seed takes 2^32 for 0 on the CPU."""
    config, data = compose_config(["model=linear"]), TASK.data
    models = [build(replace(config, seed=s), data=data).initial_params() for s in VALUES]
    for one, other in combinations(models, 2):
        assert not any(torch.equal(one[name], other[name]) for name in one)


def test_what_others_code_draws_follows_and_is_put_back() -> None:
    def draws() -> list[float]:
        return [float(torch.rand(())), float(np.random.random()), python_random.random()]

    torch.manual_seed(1)
    np.random.seed(1)
    python_random.seed(1)
    expected = draws()
    torch.manual_seed(1)
    np.random.seed(1)
    python_random.seed(1)
    with seeded(stream(Purpose.MODEL, 5)):
        inside = draws()
    assert draws() == expected
    with seeded(stream(Purpose.MODEL, 5)):
        assert draws() == inside
    with seeded(stream(Purpose.MODEL, 6)):
        assert not set(draws()) & set(inside)
    with model_randomness(stream(Purpose.TRAIN, 5)):
        dropped = float(torch.rand(()))
    with model_randomness(stream(Purpose.TRAIN, 5)):
        assert float(torch.rand(())) == dropped
    start = torch.rand((), generator=torch_stream(stream(Purpose.LANCZOS, 5)))
    assert float(start) != dropped


def everyone(seed: int, clients: int) -> Roster:
    roster = Roster(seed, 0.0, Partition.elsewhere(2 * clients))
    roster.participating = [*range(clients)]
    roster.new = [*range(clients, 2 * clients)]
    return roster


def equal_clients(n: int, rows: int) -> Task:
    """Return a task whose clients have so many train rows each, numbered client by client."""
    x, y = np.zeros((n * rows, 2), np.float32), np.arange(n * rows) % 2
    owned = Rows(x, y, np.repeat(np.arange(n), rows), np.zeros(n * rows, np.bool_))
    natural = compose_config(["partition=natural"]).partition
    data = FederatedData(x, y, partition(owned, natural))
    return build(compose_config(["model=linear"]), data=data)


def test_rows_are_equally_likely_in_a_sampled_clients_first_batch() -> None:
    """Of 10 of 50 clients with 40 rows, batch 5: by a chi-square of each client's row counts.

    D of R rows are drawn without replacement: the counts of m batches have covariance
    m p (1 - p) R / (R - 1) (I - 1/R) with p = D/R, and the statistic R - 1 degrees of freedom.
    """
    clients, rows, size = (0, 1, 2), 40, 5
    task = equal_clients(50, rows)
    counts, batches = np.zeros((3, rows)), np.zeros(3)
    for seed, round in product(range(4000), range(1, 5)):
        sample = Uniform().sample(everyone(seed, 50), round, 10)
        if asked := [client for client in clients if client in sample]:
            job = changed(ASK, round=round, seed=seed, clients=asked, nu=1, support=size, query=5)
            drawn = draw_train(task, job, asked).kinds["support"].rows[0, 0]
            for client, batch in zip(asked, drawn, strict=True):
                counts[client][batch % rows] += 1
                batches[client] += 1
    p = size / rows
    spread = batches * p * (1 - p) * rows / (rows - 1)
    statistic = ((counts - batches[:, None] * p) ** 2).sum(1) / spread
    assert (batches > 3000).all()
    assert (statistic < chi2.isf(UNLIKELY, rows - 1)).all(), statistic


ASK = training(compose_config(["algorithm.tau=1"]))
N = 20  # clients of either kind, or rows; half of them are chosen


def held_out(seed: int) -> NDArray[np.int64]:
    """Return the test rows of a client of N rows."""
    rows = Rows(np.zeros((N, 1)), np.zeros(N, np.int64), np.zeros(N, np.int64))
    return partition(rows, replace(HALF, seed=seed)).test_rows(0)


def chosen(seed: int) -> dict[str, list[int]]:
    """Return the half of N that each draw of a run chooses."""
    roster = everyone(seed, N)
    measured = roster.measured(N // 2)
    job = changed(ASK, seed=seed, clients=[0, 1, 2], nu=0, support=None, query=N // 2)
    batches = draw_train(TASK, job, job.clients).kinds["query"].rows[0] % N
    return {
        "new clients": [*choose_new_clients(ClientIds(N), 0.5, seed)],
        "first round": Uniform().sample(roster, 1, N // 2),
        "second round": Uniform().sample(roster, 2, N // 2),
        "evaluated": [client for client in measured if client < N],
        "evaluated, new": [client - N for client in measured if client >= N],
        "probed": some([*range(N)], N // 2, seed, Purpose.PROBED),
        "to a partitioner": stream(Purpose.ROWS, seed).permutation(N)[: N // 2].tolist(),
        "test rows": held_out(seed).tolist(),
        **{f"batch of client {i}": batch.tolist() for i, batch in enumerate(batches)},
    }


TASK = equal_clients(3, N)
HALF = compose_config(["partition=natural", "partition.test_fraction=0.5"]).partition


def test_what_is_drawn_for_one_purpose_tells_nothing_of_another() -> None:
    """Every correlation of being chosen here and being chosen there is within that of chance."""
    seeds = 1500
    draws = [chosen(seed) for seed in range(seeds)]
    there = {
        name: np.array([np.isin(np.arange(N), each[name]) for each in draws]) - 0.5
        for name in draws[0]
    }
    pairs = [*combinations(there, 2)]
    limit = norm.isf(UNLIKELY / (len(pairs) * N * N) / 2) / np.sqrt(seeds)
    for one, other in pairs:
        correlation = there[one].T @ there[other] * 4 / seeds
        assert abs(correlation).max() < limit, (one, other)
    for name, each in there.items():
        assert abs(each.mean(0)).max() * 2 < limit, name
