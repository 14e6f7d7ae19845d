"""Which rows are for testing, as people write it: booleans, 0 and 1, or names of splits."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nufed.conf.errors import InputError

TRAIN, TEST = ("train", "training"), ("test", "testing")
OTHERS = ("val", "valid", "validation", "dev", "eval", "holdout")
"""Rows for neither: NuFed takes its validation rows from the train rows, where it needs some."""


def are_splits(names: Iterable[str]) -> bool:
    """Tell whether all names are those of splits, in whatever case."""
    return {name.lower() for name in names} <= {*TRAIN, *TEST, *OTHERS}


def held_out(test: NDArray[Any], where: str) -> NDArray[np.bool_]:
    """Return which rows are for testing, [N].

    Parameters
    ----------
    test
        [N] booleans, or 0 and 1, or ``train`` and ``test``.
    where
        What names the data to a person.

    Raises
    ------
    InputError
        If it is something else.
    """
    kind = f"{test.dtype} {list(test.shape)}"
    if test.ndim != 1 or test.dtype.kind not in "biufU":
        raise InputError(f"{where}: test is {kind}; give [N] booleans, true where for testing")
    if test.dtype.kind == "U":
        return _by_name(test, where)
    unclear = (test != 0) & (test != 1)
    if unclear.any():
        raise InputError(
            f"{where}: test is {kind} and has {test[unclear][0]}; give [N] booleans, or 1 where a "
            "row is for testing and 0 elsewhere"
        )
    return test.astype(np.bool_)


def _by_name(names: NDArray[np.str_], where: str) -> NDArray[np.bool_]:
    lower = np.char.lower(names)
    unclear = ~np.isin(lower, [*TRAIN, *TEST])
    if unclear.any():
        raise InputError(
            f"{where}: test has {str(names[unclear][0])!r}; give booleans, or train and test, in "
            "which validation rows are train rows"
        )
    return np.isin(lower, TEST)
