"""What y may be, and what is said of what it may not be."""

import numpy as np
import pytest
from numpy.typing import ArrayLike

from nufed.conf.errors import InputError
from nufed.tasks.datasets.targets import MOST, classes, gaps

REFUSED: dict[str, tuple[ArrayLike, list[str]]] = {
    "one-hot": (np.eye(6, dtype=int), ["y is one-hot [6, 6]; give [N] integers, y.argmax(1)"]),
    "one-hot of two": (np.eye(2, dtype=int)[[0, 1, 1]], ["y is one-hot [3, 2]", "y.argmax(1)"]),
    "one-hot booleans": (np.eye(3, dtype=bool), ["one-hot", "y.argmax(1)"]),
    "one-hot bytes": (np.eye(3, dtype=np.uint8), ["one-hot", "y.argmax(1)"]),
    "one-hot places": (np.eye(4, dtype=int)[[[0, 1], [3, 3]]], ["[2, 2, 4]", "y.argmax(2)"]),
    "a column": ([[0], [1]], ["y is [2, 1]", "y.ravel()"]),
    "-1 and 1": ([-1, 1, 1], ["has -1", "drop such rows", "numpy.unique(y, return_inverse=True)"]),
    "below -1": ([[0, -2]] * 6, ["−1 where none counts", "has -2"]),
    "none at all": (
        [[0, 1], [-1, -1], [1, 1], [-1, -1]],
        ["no class at any place of row 1", "2 rows"],
    ),
    "absurd": ([3, 10**12], ["goes up to class 1,000,000,000,000 but holds 2 classes", "gaps"]),
    "beyond int64": (np.array([0, 2**63 + 1], np.uint64), ["class 9,223,372,036,854,775,809 but"]),
}


@pytest.mark.parametrize(("y", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_are_no_classes_is_refused(y: ArrayLike, words: list[str]) -> None:
    """The line names the value, and what to write instead."""
    with pytest.raises(InputError) as caught:
        classes(np.asarray(y), "it")
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize(
    "y",
    [
        [0, 2, 1],
        [[0, 1, 1], [1, 1, 0], [0, 0, 0]],  # labels, of which a row may have several, or none
        [[1, 0], [0, 1], [1, 1]],
        [[0, 1], [1, -1]],
        [[0, 5], [7, 2]],
    ],
)
def test_classes_are_kept_as_they_are(y: list[list[int]]) -> None:
    found = classes(np.array(y, np.int16), "it")
    assert found.dtype == np.int64
    assert found.tolist() == y


def test_a_vocabulary_of_which_much_is_unused_is_kept() -> None:
    """Tokens of a pretrained model go up to 250,000, and a small text holds a few of them."""
    y = np.array([[5, 250_000], [7, 9]])
    assert classes(y, "it").max() == 250_000
    assert classes(np.array([0, MOST - 1]), "it").max() == MOST - 1


def test_gaps_are_said_where_fewer_than_half_of_the_classes_occur() -> None:
    assert gaps(np.array([0, 1, 2]), 3) is None
    assert gaps(np.array([0, 2]), 3) is None
    assert gaps(np.array([0, 4]), 5) == (
        "y goes up to class 4 but holds 2 classes: the model has 5 outputs; number classes without "
        "gaps, as numpy.unique(y, return_inverse=True)[1]"
    )
    line = gaps(np.array([[3, -1], [90_000, 3]]), 90_001)
    assert line is not None
    assert line.startswith("y goes up to class 90,000 but holds 2 classes: the model has 90,001 ")
