"""Which rows are for testing, as people write it."""

import numpy as np
import pytest
from numpy.typing import ArrayLike

from nufed.conf.errors import InputError
from nufed.tasks.datasets.splits import are_splits, held_out


@pytest.mark.parametrize(
    "test",
    [
        [True, False, False, True],
        [1, 0, 0, 1],
        np.array([1, 0, 0, 1], np.uint8),
        [1.0, 0.0, 0.0, 1.0],
        ["test", "train", "train", "test"],
        ["Test", "TRAIN", "training", "testing"],
    ],
)
def test_rows_for_testing_can_be_written_in_several_ways(test: ArrayLike) -> None:
    found = held_out(np.asarray(test), "it")
    assert found.dtype == np.bool_
    assert found.tolist() == [True, False, False, True]


@pytest.mark.parametrize(
    ("test", "words"),
    [
        ([0, 1, 2], "it: test is int64 [3] and has 2; give [N] booleans, or 1 where"),
        ([-1, 1, 1], "it: test is int64 [3] and has -1"),
        ([0.25, 1.0, 0.0], "has 0.25"),
        (["train", "val", "test"], "it: test has 'val'; give booleans, or train and test"),
        (["yes", "no", "no"], "it: test has 'yes'"),
        (np.zeros((3, 2), bool), "it: test is bool [3, 2]; give [N] booleans"),
        (np.zeros(3, complex), "it: test is complex128 [3]"),
    ],
)
def test_what_says_no_split_is_refused(test: ArrayLike, words: str) -> None:
    with pytest.raises(InputError) as caught:
        held_out(np.asarray(test), "it")
    assert words in str(caught.value)


def test_names_of_splits_are_known_in_any_case() -> None:
    assert are_splits(["train", "Test", "VAL", "validation", "dev"])
    assert not are_splits(["train", "amy"])
