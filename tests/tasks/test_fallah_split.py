"""Fallah et al.'s split: how many images of which class a user has, and that none has another's."""

import numpy as np
import pytest

from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from nufed.tasks.datasets import digits, fallah_split
from nufed.tasks.task import build

DIGITS = "nufed.tasks.datasets.digits.read"


def test_half_of_the_users_are_alike_and_the_others_hold_two_classes() -> None:
    """a = 196 of each of the first five classes; or 98 of one of these and 392 of another."""
    counts = fallah_split.held(50, 10, 196)
    assert (counts[:25] == [196] * 5 + [0] * 5).all()
    for few, many in zip(counts[25:, :5], counts[25:, 5:], strict=True):
        assert np.sort(few).tolist() == [0, 0, 0, 0, 98]
        assert np.sort(many).tolist() == [0, 0, 0, 0, 392]
    assert len({tuple(user) for user in counts[25:]}) == 25, "each pair of classes once"
    assert counts.sum(0).tolist() == [25 * 196 + 5 * 98] * 5 + [5 * 392] * 5


def test_each_row_is_dealt_out_once_with_its_own_label() -> None:
    source = digits.read()
    label = {image.tobytes(): y for image, y in zip(source.x, source.y, strict=True)}
    rows = fallah_split.read(DIGITS, num_clients=10, images=12, test_images=4, seed=1)
    assert rows.client is not None
    assert rows.test is not None
    assert len({image.tobytes() for image in rows.x}) == len(rows.x)
    assert [label[image.tobytes()] for image in rows.x] == rows.y.tolist()
    for test, a in ((False, 12), (True, 4)):
        found = [
            np.bincount(rows.y[(rows.client == client) & (rows.test == test)], minlength=10)
            for client in range(10)
        ]
        assert np.array_equal(found, fallah_split.held(10, 10, a))


def test_the_seed_draws_it() -> None:
    a, b, c = (fallah_split.read(DIGITS, 10, 12, 4, seed) for seed in (0, 0, 1))
    assert (a.x == b.x).all()
    assert not (a.x == c.x).all()


@pytest.mark.parametrize(
    ("override", "remedy"),
    [
        ("dataset.num_clients=9", "must be even"),
        ("dataset.images=11", "must be even"),
        ("dataset.test_images=0", "between 2 and 1797"),
        ("dataset.images=60", "take 640 rows of class 5, which has 182; ask for fewer"),
    ],
)
def test_what_cannot_be_dealt_out_is_named(override: str, remedy: str) -> None:
    small = ["dataset.num_clients=10", "dataset.images=12", "dataset.test_images=4"]
    chosen = ["dataset=fallah_split", f"dataset.source={DIGITS}", *small, override]
    with pytest.raises(InputError, match=remedy) as error:
        build(compose_config(chosen))
    assert override.split("=")[0] in str(error.value)
