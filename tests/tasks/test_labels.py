"""What a constant gets, and how far clients are apart: by hand, and against chance itself."""

import math
from math import comb

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score

from nufed.conf.compose import compose_config
from nufed.tasks.labels import (
    Counts,
    constant,
    counts,
    intraclass,
    of_rare,
    one_class,
    total_variation,
)
from nufed.tasks.measures import make_objective
from nufed.tasks.objective import Objective
from nufed.tasks.partitions import Partition


def part(sizes: list[int], train: list[int]) -> Partition:
    """Return clients of consecutive rows, train rows before test rows."""
    offset = np.concatenate([[0], np.cumsum(sizes)])
    return Partition(np.arange(sum(sizes)), offset, np.array(train))


def of_clients(*labels: list[int], classes: int = 3) -> tuple[Counts, np.ndarray]:
    sizes = [len(each) for each in labels]
    found = counts(np.concatenate(labels), part(sizes, sizes), classes)
    return found, np.array(sizes)


def test_rows_are_counted_by_client_class_and_split() -> None:
    y = np.array([2, 2, 0, 1, 0, 0, 2])
    whole = part([4, 3], [3, 1])
    train, test = counts(y, whole, 3, test=False), counts(y, whole, 3, train=False)
    assert [train.client.tolist(), train.label.tolist(), train.rows.tolist()] == [
        [0, 0, 1],
        [0, 2, 0],
        [1, 2, 1],
    ]
    assert test.total.tolist() == [1, 2]
    assert test.of(np.array([0, 0, 1, 1]), np.array([1, 2, 2, 1])).tolist() == [1, 0, 1, 0]
    assert counts(y, whole, 3).pooled.tolist() == [3, 1, 3]
    places = np.array([[1, -1], [0, 1], [-1, -1]])
    found = counts(places, part([2, 1], [1, 1]), 2)
    assert [found.total.tolist(), found.pooled.tolist()] == [[3, 0], [1, 2]]


def test_a_constant_is_chosen_on_train_rows_and_right_on_test_rows() -> None:
    """Client 0 has 2 twice: right in 1 of 4. Client 1 has a tie: right in 2 of 4, or in 0."""
    y = np.array([2, 2, 0, 2, 1, 1, 0, 0, 1, 0, 2, 2, 0])
    whole = part([7, 6], [3, 2])
    train, test = counts(y, whole, 3, test=False), counts(y, whole, 3, train=False)
    found = constant(train, test)
    assert found.right.tolist() == [0.25, (0.25 * 2 + 0) / 2]
    assert dict(zip(found.each.tolist(), found.client.tolist(), strict=True)) == {
        0.25: 0,
        0.5: 1,
        0.0: 1,
    }
    alone = part([3, 2], [3, 1])
    train, test = (counts(y[:5], alone, 3, **{kind: False}) for kind in ("test", "train"))
    assert math.isnan(constant(train, test).right[0]), "no test row, no accuracy"


def test_one_class_for_all_is_found_by_what_it_is_right_in() -> None:
    test, _ = of_clients([0, 0, 1, 1], [0, 1, 1, 2], [1, 1, 0, 0])
    assert one_class(test, np.array([0.5, 0.5, 0.5])).tolist() == [1]
    assert one_class(test, np.array([0.5, 0.25, 0.5])).tolist() == [0]
    assert one_class(test, np.array([0.0, 0.25, np.nan])).tolist() == [2], "0 where it is not"
    assert one_class(test, np.array([0.5, 0.75, 0.5])).tolist() == []
    assert one_class(test, np.full(3, np.nan)).tolist() == []


def test_known_distances_between_labels() -> None:
    """Of two classes at two clients, each its own: half of each would have to change."""
    assert total_variation(*of_clients([0] * 8, [1] * 8))[0] == pytest.approx(0.5)
    assert total_variation(*of_clients([0, 1, 2] * 4, [2, 1, 0] * 5))[0] == pytest.approx(0)
    apart = [[k] * 6 for k in range(3)]
    assert total_variation(*of_clients(*apart))[0] == pytest.approx(2 / 3)
    assert total_variation(*of_clients([0, 0, 0, 1], [1] * 4))[0] == pytest.approx(0.375)


def test_by_chance_is_the_mean_over_all_ways_to_deal_the_rows() -> None:
    """Ten rows, four of class 1: a client of three has i of them in C(4, i) C(6, 3 − i) of C(10, 3)
    ways."""

    def by_hand(size: int) -> float:
        ways = [comb(4, i) * comb(6, size - i) for i in range(min(4, size) + 1)]
        apart = [abs(i / size - 0.4) for i in range(len(ways))]
        return float(np.dot(ways, apart)) / comb(10, size)

    _, chance = total_variation(*of_clients([0, 0, 1], [1, 1, 1, 0, 0, 0, 0], classes=2))
    assert chance == pytest.approx((by_hand(3) + by_hand(7)) / 2)
    assert total_variation(*of_clients([0, 0, 1], classes=2)) == pytest.approx((0, 0))


def test_what_is_dealt_by_chance_reads_as_that() -> None:
    random = np.random.default_rng(0)
    y = random.integers(10, size=6000)
    whole = part([30] * 200, [20] * 200)
    distance, chance = total_variation(counts(y, whole, 10), np.full(200, 30))
    assert distance == pytest.approx(chance, rel=0.03)
    twice = np.stack([y, y], 1)  # of two places that are the same, one says nothing new
    found = total_variation(counts(twice, whole, 10), np.full(200, 30))
    assert found == pytest.approx((distance, chance))


def test_the_share_of_the_variance_between_clients_is_that_of_an_analysis_of_variance() -> None:
    """1, 3 | 5, 7: mean squares 16 between and 2 within, so (16 − 2)/(16 + 2), and F(1, 2) = 8."""
    share, p, within = intraclass(np.array([1.0, 3, 5, 7]), np.array([4, 4, 9, 9]))
    assert share == pytest.approx(14 / 18)
    assert p == pytest.approx(1 - math.sqrt(8 / 10))  # Student's t of two degrees, squared
    assert within == pytest.approx(math.sqrt(2 / 5)), "in units of the standard deviation √5"
    two = np.array([[1.0, 10], [3, 30], [5, 50], [7, 70]])
    assert intraclass(two, np.array([0, 0, 1, 1]))[0] == pytest.approx(14 / 18)
    owner = np.repeat(np.arange(100), 20)
    noise = np.random.default_rng(0).normal(size=2000)
    share, p, _ = intraclass(noise, owner)
    assert share < 0.02
    assert p > 0.01
    assert intraclass(noise + owner, owner)[0] > 0.99
    assert intraclass(np.ones(4), np.array([0, 0, 1, 1])) == (0, 1, 1)


def test_rare_classes_are_named_with_a_metric_that_sees_them() -> None:
    """Who says 0 always is right in 18 of 20 rows, and finds half of the classes."""
    y = np.array([0] * 18 + [3, 1])
    line = of_rare(y)
    assert line is not None
    assert line.startswith("to say class 0 always is right in 90% of the rows")
    assert line.endswith("an accuracy says little of the rare classes (1: 5.0%, 3: 5.0%)")
    assert of_rare(np.array([0, 0, 0, 0, 1])) is None, "four fifths"
    assert of_rare(np.array([[0, 0, 0], [0, 0, 1]])) is not None
    assert of_rare(np.zeros(4, np.int64)) is None
    assert of_rare(np.array([-1, -1])) is None
    objective = make_objective(
        compose_config(["task.metrics=balanced_accuracy"]).task,
        classes=True,
        width=2,
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    always = torch.tensor([[1.0, 0.0]]).expand(20, 2)
    scores = objective.scores(always, torch.tensor([0] * 18 + [1] * 2))
    assert float(scores["balanced_accuracy"]) == pytest.approx(0.5)


def test_balanced_accuracy_is_scikit_learns_of_the_rows_that_count() -> None:
    """Of classes that rows lack, whatever the model says; a stack's padding counts nothing."""
    torch.manual_seed(1)
    objective = Objective(classes=True, rare=True)
    y, outputs = torch.randint(0, 3, (2, 9)), torch.randn(2, 9, 5, dtype=torch.float64)
    weight = torch.ones(2, 9, dtype=torch.bool)
    weight[1, 6:] = False
    found = torch.vmap(objective.scores)(outputs, y, weight)
    assert (found["balanced_accuracy"] - found["accuracy"]).abs().max() > 0.01
    for i, there in enumerate(weight):
        said, own = outputs[i, there], y[i, there]
        wanted = balanced_accuracy_score(own, said.argmax(1))
        assert float(found["balanced_accuracy"][i]) == pytest.approx(wanted, abs=1e-12)
        assert float(objective.row_scores(said, own)["balanced_accuracy"].mean()) == (
            pytest.approx(wanted, abs=1e-12)
        )
