"""Partitions: every row has one owner, and the named kinds of heterogeneity are what they say."""

import re
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from nufed.conf.schema import PartitionConfig
from nufed.tasks.datasets import digits
from nufed.tasks.partitions import Partition, partition
from nufed.tasks.rows import Rows
from nufed.tasks.task import build

DIGITS = digits.read()
KINDS = ["iid", "shards", "dirichlet"]


def divide(kind: str, *overrides: str, rows: Rows = DIGITS) -> Partition:
    """Divide rows as the option `kind` of the group `partition` does."""
    return partition(rows, config(kind, *overrides))


def config(kind: str, *overrides: str) -> PartitionConfig:
    words = [f"partition.{override}" for override in overrides]
    return compose_config([f"partition={kind}", *words]).partition


def clients(part: Partition) -> list[NDArray[np.int64]]:
    """Return all rows of each client."""
    ids = range(len(part.train))
    return [np.concatenate([part.train_rows(i), part.test_rows(i)]) for i in ids]


def heterogeneity(part: Partition) -> float:
    """Return the mean distance (total variation) of clients' class shares from everyone's."""

    def shares(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.bincount(DIGITS.y[rows], minlength=10) / len(rows)

    overall = shares(np.arange(len(DIGITS.y)))
    return float(np.mean([abs(shares(rows) - overall).sum() / 2 for rows in clients(part)]))


def natural_rows(client: list[int], test: list[bool] | None = None) -> Rows:
    """Return rows that bring their clients."""
    n = len(client)
    mask = None if test is None else np.array(test)
    return Rows(np.zeros((n, 1)), np.arange(n) % 2, np.array(client), mask)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.6])
def test_every_row_has_one_owner_and_one_split(kind: str, fraction: float) -> None:
    """Disjoint and complete; each client's test part is the fraction, to the row."""
    part = divide(kind, "num_clients=20", f"test_fraction={fraction}")
    assert len(part.train) == 20
    assert sorted(np.concatenate(clients(part))) == list(range(1797))
    for i in range(20):
        train, test = part.train_rows(i), part.test_rows(i)
        assert len(train) >= 1
        assert len(test) >= 1
        assert abs(len(test) - fraction * (len(train) + len(test))) <= 0.5 or len(test) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_partition_follows_from_the_seed(kind: str) -> None:
    """Every engine and every SuperNode must come to the same one; another seed to another."""
    one, same, other = (divide(kind, "num_clients=10", f"seed={seed}") for seed in (1, 1, 2))
    for a, b in zip(vars(one).values(), vars(same).values(), strict=True):
        np.testing.assert_array_equal(a, b)
    different = [set(a) != set(b) for a, b in zip(clients(one), clients(other), strict=True)]
    assert np.mean(different) > 0.9


def test_the_split_is_drawn_and_not_cut() -> None:
    """Rows that lie in order (of time, of class) must not put their end into the test split."""
    part = divide("natural", rows=natural_rows([0] * 400))
    assert np.mean(part.test_rows(0)) == pytest.approx(199.5, abs=30)
    assert len(part.test_rows(0)) == 100


UNEQUAL = Rows(
    np.zeros((1797, 1)),
    np.repeat(np.arange(6), [900, 600, 200, 80, 12, 5]),
    np.random.default_rng(3).integers(0, 40, 1797) // np.array(3),
)
"""Rows of classes of very unequal size, of 14 clients."""


def held(of: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the classes of some of these rows."""
    return np.bincount(UNEQUAL.y[of], minlength=6)


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.6])
def test_of_each_class_its_share_is_held_out(fraction: float) -> None:
    """To the row: c h / n of a client's c rows of a class, up or down; of all as many."""
    words = f"test_fraction={fraction}", "seed=5"
    whole = divide("natural", *words, rows=UNEQUAL)
    plain = divide("natural", *words, "stratified=false", rows=UNEQUAL)
    assert whole.train.tolist() == plain.train.tolist()
    apart = whole.validation(fraction, UNEQUAL.y, config("natural", *words))
    for part in (whole, apart):
        for i in range(14):
            train, test = held(part.train_rows(i)), held(part.test_rows(i))
            share = (train + test) * test.sum() / (train + test).sum()
            assert (np.floor(share) <= test).all()
            assert (test <= np.ceil(share)).all()
    for i in range(14):
        assert set(whole.train_rows(i)) | set(whole.test_rows(i)) == {
            *plain.train_rows(i),
            *plain.test_rows(i),
        }
        kept = {*apart.train_rows(i), *apart.test_rows(i)}
        assert kept == {*whole.train_rows(i)}

    def off(part: Partition, i: int) -> float:
        return float(abs(held(part.test_rows(i)) - fraction * held(clients(part)[i])).sum())

    means = [np.mean([off(part, i) for i in range(14)]) for part in (whole, plain)]
    assert means[0] < 0.7 * means[1], "chance alone does as well"


def test_each_row_is_held_out_as_often_as_any_other() -> None:
    """With chance h / n, the rarest class's too; and what is held out comes in no order."""
    rows = Rows(np.zeros((41, 1)), np.repeat([0, 1, 2], [30, 10, 1]), np.zeros(41, np.int64))
    n, count, order = 2000, np.zeros(41), list[int]()
    natural = config("natural")
    for seed in range(n):
        part = partition(rows, replace(natural, seed=seed))
        test = part.test_rows(0)
        assert len(test) == 10
        count[test] += 1
        order.append(int(test[0]))
    chance = 10 / 41
    assert abs(count / n - chance).max() < 4.5 * np.sqrt(chance * (1 - chance) / n)
    assert np.mean(order) == pytest.approx(20, abs=4.5 * 12 / np.sqrt(n))


def test_what_is_no_class_and_what_is_split_already_stays_as_it_is() -> None:
    real = natural_rows([0, 1] * 50)._replace(y=np.arange(100) / 7)
    places = real._replace(y=np.zeros((100, 3), np.int64))
    split = natural_rows([0, 1] * 50, [True, False, False, False] * 25)
    parts = [divide("natural", f"stratified={each}", rows=split) for each in ("true", "false")]
    assert parts[0].index.tolist() == parts[1].index.tolist()
    for rows in (real, places):
        drawn = divide("natural", rows=rows)
        assert (np.diff(drawn.offset).tolist(), drawn.train.tolist()) == ([50, 50], [38, 38])
        assert abs(np.mean(drawn.test_rows(1)) - 50) < 30, "at random"


def test_a_clients_split_is_its_own_in_whatever_file_its_rows_are() -> None:
    """A newcomer's model is measured on the same rows, alone or among others, first or last."""
    real = UNEQUAL._replace(y=np.arange(1797) / 7)
    for rows in (UNEQUAL, real):
        whole = divide("natural", rows=rows)
        assert rows.client is not None
        for client in (0, 7, 13):
            own = np.flatnonzero(rows.client == client)
            alone = divide("natural", rows=Rows(rows.x[own], rows.y[own], np.zeros(len(own), int)))
            assert own[alone.train_rows(0)].tolist() == whole.train_rows(client).tolist()
            assert own[alone.test_rows(0)].tolist() == whole.test_rows(client).tolist()


def test_shards_give_two_classes_to_every_client() -> None:
    """Both in its train rows too, where there is more than a handful of them."""
    part = divide("shards")
    assert {len(np.unique(DIGITS.y[rows])) for rows in clients(part)} == {2}
    assert len({tuple(np.unique(DIGITS.y[rows])) for rows in clients(part)}) >= 5


def test_iid_is_balanced_in_rows_and_classes() -> None:
    part = divide("iid")
    sizes = [len(rows) for rows in clients(part)]
    assert len(sizes) == 50
    assert max(sizes) - min(sizes) <= 1
    # About 36 rows over ten classes: a draw alone is off by about 0.2.
    assert heterogeneity(part) < 0.25


def test_a_smaller_dirichlet_alpha_is_more_heterogeneous() -> None:
    """From nearly one class a client to nearly the same classes for all."""

    def spread(alpha: float) -> float:
        return heterogeneity(divide("dirichlet", "num_clients=10", f"partitioner.alpha={alpha}"))

    assert spread(0.05) > spread(0.5) + 0.1 > spread(1000) + 0.3
    assert spread(0.05) > 0.65
    assert spread(1000) < 0.05


@pytest.mark.parametrize("seed", range(3))
def test_the_default_dirichlet_can_be_had_of_the_default_data_set(seed: int) -> None:
    """`nufed partition=dirichlet` with nothing else said must run, whatever the seed."""
    assert len(divide("dirichlet", f"seed={seed}").train) == 50


def test_clients_of_one_two_and_three_rows() -> None:
    """A client of one row trains on it and has no test row; with two there is one of each."""
    part = divide("natural", rows=natural_rows([5, 6, 6, 7, 7, 7]))
    assert part.train_rows(0).tolist() == [0]
    assert part.test_rows(0).tolist() == []
    assert [part.train.tolist(), np.diff(part.offset).tolist()] == [[1, 1, 2], [1, 2, 3]]


def test_a_test_mask_of_the_data_set_is_the_split() -> None:
    mask = [False, True, True, False, True, False]
    part = divide("natural", "test_fraction=0.9", rows=natural_rows([3, 3, 3, 1, 1, 1], mask))
    assert [set(part.train_rows(i)) for i in range(2)] == [{3, 5}, {0}]
    assert [set(part.test_rows(i)) for i in range(2)] == [{4}, {1, 2}]


def refusal(kind: str, *overrides: str, rows: Rows = DIGITS) -> str:
    """Return the one line with which a division is refused."""
    with pytest.raises(InputError) as caught:
        divide(kind, *overrides, rows=rows)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_more_clients_than_rows_are_refused(kind: str) -> None:
    line = refusal(kind, "num_clients=1798")
    assert line.startswith("partition.num_clients=1798: there are 1797 rows")


def test_as_many_clients_as_rows_have_one_each() -> None:
    part = divide("iid", "num_clients=1797")
    assert part.train.tolist() == [1] * 1797
    assert sorted(part.index) == list(range(1797))


def test_natural_without_clients_is_refused() -> None:
    assert refusal("natural").startswith("partition=natural: the data set brings no clients")


def test_an_unsatisfiable_dirichlet_is_refused() -> None:
    """50 clients of at least 1000 rows each, out of 1797."""
    line = refusal("dirichlet", "partitioner.min_partition_size=1000")
    assert line.startswith("partition=dirichlet: ")
    assert "partition.num_clients=50" in line


def test_more_classes_a_client_than_there_are_is_refused() -> None:
    line = refusal("shards", "partitioner.num_classes_per_partition=11")
    assert line.startswith("partition=shards: ")
    assert "`num_classes_per_partition`=11" in line


def test_clients_left_without_rows_are_refused() -> None:
    """A class in no more than a client or two, and 300 clients: most get nothing."""
    settings = ["num_clients=300", "partitioner.alpha=1e-4", "partitioner.min_partition_size=0"]
    line = refusal("dirichlet", *settings, "partitioner.self_balancing=false")
    found = re.match(r"partition=dirichlet: left (\d+) of 300 clients without rows", line)
    assert found is not None, line
    assert 250 < int(found.group(1)) < 300


def test_rows_that_no_client_gets_are_left_out_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Three clients of one class each: the other seven classes are nobody's, and that is said."""
    part = divide("shards", "num_clients=3", "partitioner.num_classes_per_partition=1")
    owned = clients(part)
    labels = [set(DIGITS.y[rows].tolist()) for rows in owned]
    assert labels == [{0}, {1}, {2}]
    assert [len(rows) for rows in owned] == [178, 182, 177]
    assert len(set(np.concatenate(owned).tolist())) == 537
    assert "1260 of 1797 rows" in caplog.text


@pytest.mark.parametrize(
    ("partitioner", "expected"),
    [
        ("SizePartitioner, partition_sizes: [1000, 500, 297]", [297, 500, 1000]),
        (
            "InnerDirichletPartitioner, partition_sizes: [1000, 500, 297], partition_by: label, "
            "alpha: [1, 1, 1, 1, 1, 2, 2, 2, 2, 2]",
            [297, 500, 1000],
        ),
        (
            "InnerDirichletPartitioner, partition_sizes: [897, 900], partition_by: label, alpha: 1",
            [897, 900],
        ),
        (
            "DirichletPartitioner, num_partitions: 2, partition_by: label, alpha: [1, 5]",
            None,
        ),
        ("ShardPartitioner, num_partitions: 3, partition_by: label, shard_size: 100", None),
        ("SquarePartitioner, num_partitions: 3", None),
    ],
)
def test_a_partitioner_takes_lists(partitioner: str, expected: list[int] | None) -> None:
    """As Python's own: flwr-datasets refuses, or cannot index, those of OmegaConf."""
    given = f"partitioner={{_target_: flwr_datasets.partitioner.{partitioner}}}"
    part = divide("natural", given)
    owned = np.concatenate(clients(part))
    assert len(set(owned.tolist())) == len(owned)
    assert expected is None or sorted(map(len, clients(part))) == expected


@pytest.mark.parametrize("alpha", ["0", "-1"])
def test_an_impossible_dirichlet_alpha_is_named(alpha: str) -> None:
    """The line must say what is wrong, not only that Hydra's call of the partitioner failed."""
    line = refusal("dirichlet", f"partitioner.alpha={alpha}")
    assert "alpha values should be strictly greater than zero" in line.lower()


@pytest.mark.parametrize("kind", KINDS)
def test_validation_rows_are_train_rows_and_no_test_row_is_left(kind: str) -> None:
    whole = divide(kind)
    apart = whole.validation(0.25, DIGITS.y, config(kind))
    for client in range(len(whole.train)):
        kept, measured = apart.train_rows(client), apart.test_rows(client)
        train = whole.train_rows(client)
        assert np.concatenate([kept, measured]).tolist() == train.tolist()
        assert len(measured) == max(round(0.25 * len(train)), 1)
        assert len(kept) >= 1


def test_step_sizes_can_be_chosen_without_a_look_at_a_test_row() -> None:
    """What a run with evaluation.split=validation maps of each client is its train rows."""
    test, validation = (
        build(compose_config([f"evaluation.split={split}"])).data.partition
        for split in ("test", "validation")
    )
    assert (
        validation.index.tolist()
        == np.concatenate([test.train_rows(i) for i in range(len(test.train))]).tolist()
    )
    assert (validation.train < test.train).all()


def test_clients_that_are_elsewhere_stay_so_in_validation() -> None:
    """Of private data, a SuperNode has rows of its own clients alone."""
    here = Partition(np.arange(10), np.array([0, 0, 6, 6, 10]), np.array([0, 4, 0, 3]))
    apart = here.validation(0.25, np.arange(10) % 2, config("natural"))
    assert apart.train.tolist() == [0, 3, 0, 2]
    assert np.diff(apart.offset).tolist() == [0, 4, 0, 3]


def test_clients_of_the_data_that_are_not_kept_are_said() -> None:
    """And so is a split of their own; not of rows that bring neither."""
    rows = natural_rows([3, 8, 11, 3, 8, 11] * 4, [False, False, False, True, True, True] * 4)
    part = divide("iid", "num_clients=4", rows=rows)
    assert part.ids.given is None
    assert part.not_kept("iid") == [
        "partition=iid: the 3 clients of the data set are not used; 4 new ones are made "
        "(partition=natural keeps them)",
        "partition=iid: the test rows of the data set are not used as such; each client's are "
        "drawn anew (partition=natural keeps them)",
    ]
    assert divide("natural", rows=rows).not_kept("natural") == []
    assert divide("iid", "num_clients=4").not_kept("iid") == []


def test_clients_that_a_partitioner_keeps_have_their_ids() -> None:
    """In its order, which is that of the rows: the number of a client goes with its rows."""
    rows = natural_rows([89, 2, 55, 2, 89, 55] * 4)
    kept = "partitioner={_target_: flwr_datasets.partitioner.NaturalIdPartitioner"
    part = divide("natural", f"{kept}, partition_by: client}}", rows=rows)
    assert part.not_kept("natural") == []
    assert sorted(part.ids[i] for i in range(3)) == [2, 55, 89]  # type: ignore[type-var]
    for number, mine in enumerate(clients(part)):
        assert rows.client is not None
        assert set(rows.client[mine]) == {part.ids[number]}
        assert part.ids.number(part.ids[number]) == number
