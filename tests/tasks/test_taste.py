"""People who like different kinds: each row once, and y says whether its kind is liked."""

import numpy as np
import pytest

from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from nufed.tasks.datasets import digits, fashion_mnist, taste
from nufed.tasks.rows import Rows
from nufed.tasks.task import build
from tests.helpers import require_data

DIGITS = "nufed.tasks.datasets.digits.read"


def kinds_of(x: np.ndarray) -> np.ndarray:
    """Return which digit each image is, looked up in the source."""
    source = digits.read()
    label = {image.tobytes(): y for image, y in zip(source.x, source.y, strict=True)}
    return np.array([label[image.tobytes()] for image in x])


def test_a_person_likes_three_kinds_and_all_images_of_them() -> None:
    rows = taste.read(DIGITS, num_clients=30, rows=50, likes=3, seed=1)
    assert rows.client is not None
    assert np.bincount(rows.client).tolist() == [50] * 30
    assert len({image.tobytes() for image in rows.x}) == len(rows.x) == 1500
    kinds = kinds_of(rows.x)
    everyone = set()
    for person in range(30):
        own = rows.client == person
        likes, dislikes = (set(kinds[own & (rows.y == y)]) for y in (1, 0))
        assert len(likes) == 3
        assert likes.isdisjoint(dislikes)
        everyone.add(frozenset(likes))
    assert len(everyone) > 25


def test_train_rows_do_not_tell_how_many_of_the_test_rows_are_liked() -> None:
    """If a person had as many of each y, they would: correlation −1."""
    source = "tests.tasks.test_taste.many"
    task = build(compose_config(["dataset=taste", f"dataset.source={source}", "seed=2"]))
    part, y = task.data.partition, np.asarray(task.data.y)
    shares = [
        [y[of(person)].mean() for of in (part.train_rows, part.test_rows)] for person in range(200)
    ]
    train, test = np.array(shares).T
    assert abs(np.corrcoef(train, test)[0, 1]) < 4 / np.sqrt(200)
    assert y.mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(4000))


def many() -> Rows:
    """Return 4,000 rows of ten kinds, as many of each."""
    return Rows(np.arange(4000.0)[:, None], np.arange(4000) % 10)


def test_every_kind_is_liked_as_often_as_chance_has_it() -> None:
    """By half of 170 people, to three standard errors of a fair coin; and no two kinds go along."""
    rows = taste.read(f"{__name__}.all_kinds_to_everyone", 170, rows=200, likes=5, seed=0)
    liked = np.zeros((170, 10))
    assert rows.client is not None
    liked[rows.client, rows.x[:, 0]] = rows.y
    assert (liked.sum(1) == 5).all()
    assert abs(liked.mean(0) - 0.5).max() < 3 * 0.5 / np.sqrt(170)
    # Of 5 of 10, drawn without replacement: −1 / 9.
    between = np.corrcoef(liked.T)[np.triu_indices(10, 1)]
    assert between.mean() == pytest.approx(-1 / 9, abs=0.01)
    assert abs(between + 1 / 9).max() < 0.3


def all_kinds_to_everyone() -> Rows:
    """Return 34,000 rows that are their kind: who gets 200 at random has all ten."""
    kinds = np.arange(34_000) % 10
    return Rows(kinds[:, None], kinds)


def test_the_seed_draws_it() -> None:
    a, b, c = (taste.read(DIGITS, 5, 20, 5, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(a.x, b.x)
    np.testing.assert_array_equal(a.y, b.y)
    assert (a.x != c.x).any()
    assert (a.y != c.y).any()


def test_of_fashion_mnist_are_200_people_with_20_images() -> None:
    require_data(fashion_mnist.DEBIAN_PACKAGE)
    data = build(compose_config(["dataset=taste"])).data
    assert (data.num_clients, data.x.shape, data.num_outputs) == (200, (4000, 28, 28), 2)
    assert data.y.mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(4000))


@pytest.mark.parametrize(
    ("override", "remedy"),
    [
        ("dataset.num_clients=0", "between 1 and 898"),
        ("dataset.num_clients=899", "between 1 and 898"),
        ("dataset.rows=1", "between 2 and 59"),
        ("dataset.rows=60", "between 2 and 59, for 30 clients share 1797 rows"),
        ("dataset.likes=0", "between 1 and 9"),
        ("dataset.likes=10", "between 1 and 9"),
        ("dataset.source=nufed.tasks.datasets.absent.read", "absent"),
        ("dataset.source=tests.tasks.test_taste.of_reals", "no classes"),
    ],
)
def test_what_cannot_be_dealt_out_is_named(override: str, remedy: str) -> None:
    chosen = ["dataset=taste", f"dataset.source={DIGITS}", "dataset.num_clients=30", override]
    with pytest.raises(InputError, match=remedy) as error:
        build(compose_config(chosen))
    assert override in str(error.value)


def of_reals() -> Rows:
    return Rows(np.zeros((100, 2)), np.linspace(0, 1, 100))
