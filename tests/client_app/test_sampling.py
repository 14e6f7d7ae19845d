"""Batches are uniform subsets, independent of each other, and follow from (seed, client, round)."""

from itertools import combinations

import numpy as np
import pytest

from nufed.client_app import sampling
from nufed.client_app.client import draw_batches
from nufed.conf.compose import compose_config
from nufed.tasks.streams import Purpose, stream
from nufed.tasks.task import build
from tests.helpers import training

ASK = training(compose_config([]), [0], nu=3, tau=4, support=8, query=8, hessian=8)


def random(client: int = 0, round: int = 1) -> np.random.Generator:
    return stream(Purpose.TRAIN, 0, client, round)


@pytest.mark.parametrize(("size", "rows"), [(1, 1), (3, 5), (5, 5), (10, 1000), (40, 50)])
def test_no_row_twice_in_a_batch(size: int, rows: int) -> None:
    batches = sampling.draw(random(), (50, 3), size, rows)
    assert batches.shape == (50, 3, size)
    assert batches.min() >= 0
    assert batches.max() < rows
    assert (np.diff(np.sort(batches)) > 0).all()


def test_every_subset_is_equally_likely() -> None:
    """All C(5, 3) = 10 subsets within 5 standard errors of a tenth."""
    n = 20_000
    drawn = np.sort(sampling.draw(random(), (n,), 3, 5))
    codes = (drawn * [25, 5, 1]).sum(1)
    counts = [int((codes == 25 * a + 5 * b + c).sum()) for a, b, c in combinations(range(5), 3)]
    assert sum(counts) == n
    assert np.abs(np.array(counts) / n - 0.1).max() < 5 * np.sqrt(0.1 * 0.9 / n)


def test_a_client_with_fewer_rows_than_a_batch_is_drawn_with_replacement() -> None:
    batches = sampling.draw(random(), (400,), 8, 3)
    assert np.bincount(batches.flatten(), minlength=3) / batches.size == pytest.approx(
        [1 / 3] * 3, abs=0.04
    )


def test_null_takes_all_rows() -> None:
    assert sampling.draw(random(), (2,), None, 4).tolist() == [[0, 1, 2, 3]] * 2


@pytest.mark.parametrize("size", [1, 5, 8])
def test_a_stack_draws_what_each_of_its_clients_draws_alone(size: int) -> None:
    """Also a client with fewer rows than a batch, beside others that have more."""
    rows = np.array([30, 3, 8, 5])
    stack = sampling.draw_stack([random(client) for client in range(4)], (3, 2), size, rows)
    assert stack.counts is None
    for client in range(4):
        alone = sampling.draw(random(client), (3, 2), size, int(rows[client]))
        assert (stack.rows[:, :, client] == alone).all()
    some = stack.of([2, 0])
    assert (some.rows == stack.rows[:, :, [2, 0]]).all()


def test_a_stack_of_all_rows_counts_each_once() -> None:
    rows = np.array([4, 1, 3])
    stack = sampling.draw_stack([random()] * 3, (2,), None, rows)
    assert stack.rows.shape == (2, 3, 4)
    assert stack.counts is not None
    for client in range(3):
        counted = stack.rows[:, client][stack.counts[:, client]].reshape(2, -1)
        assert counted.tolist() == [list(range(rows[client]))] * 2
        assert stack.rows[:, client].max() < rows[client], "what fills up is one of its own"
    assert sampling.draw_stack([random()] * 2, (2,), None, np.array([3, 3])).counts is None


def test_stacks_of_any_of_the_clients_have_one_shape() -> None:
    """That of the longest there is, whoever is in it; each counts its own rows alone."""
    among = np.array([4, 1, 3, 4])
    for clients in ([0, 3], [1], [2, 1], [0, 1, 2, 3]):
        rows = among[clients]
        stack = sampling.draw_stack([random()] * len(rows), (2,), None, rows, among)
        assert stack.rows.shape == (2, len(rows), 4)
        assert stack.counts is not None
        assert (stack.counts.sum(-1) == rows).all()
        assert (stack.rows < rows[:, None]).all()
    equal = np.array([3, 3, 3])
    assert sampling.draw_stack([random()], (2,), None, equal[:1], equal).counts is None


def test_support_query_and_hessian_batches_are_drawn_independently() -> None:
    """Two batches overlap, on average, as independent ones do: in D D′ / rows of their rows."""
    task = build(compose_config([]))
    overlaps: dict[str, list[float]] = {"query": [], "hessian": [], "next": []}
    for client in range(40):
        rows = len(task.data.partition.train_rows(client))
        for drawn in draw_batches(task, ASK, client, random(client)):
            support, query, hessian = (batch[0].flatten(-2) for batch in drawn.values())
            pairs = {
                "query": (support[0], query),
                "hessian": (support[0], hessian[0]),
                "next": (support[0], support[1]),
            }
            for name, (a, b) in pairs.items():
                common = (a[:, None] == b[None]).all(-1).any(1).sum()
                overlaps[name].append(float(common) * rows / 8**2)
    for name, values in overlaps.items():
        error = np.std(values) / np.sqrt(len(values))
        assert np.mean(values) == pytest.approx(1.0, abs=4 * error + 0.02), name
        assert error < 0.05


def test_batches_follow_from_seed_client_and_round_alone() -> None:
    same = sampling.draw(random(2, 7), (3, 2), 5, 30)
    assert (sampling.draw(random(2, 7), (3, 2), 5, 30) == same).all()
    assert (sampling.draw(random(3, 7), (3, 2), 5, 30) != same).any()
    assert (sampling.draw(random(2, 8), (3, 2), 5, 30) != same).any()
