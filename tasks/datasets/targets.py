"""What y may be: classes, one a row or one at each of several places; or real targets."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nufed.conf.errors import InputError

MOST = 1_000_000
"""Classes that a y which uses a tenth of them may have: a model has an output for each."""
UNIQUE = "numpy.unique(y, return_inverse=True)[1]"


def classes(y: NDArray[Any], where: str) -> NDArray[np.int64]:
    """Return classes, [N] from 0 on; or [N, …], one at each place, −1 where none counts.

    Parameters
    ----------
    y
        Integers or booleans.
    where
        What names the data to a person.

    Raises
    ------
    InputError
        If they are one-hot, below what they may be, none at all in a row, or absurdly large.
    """
    one_a_row = y.ndim == 1
    if not one_a_row and y[0].size == 1:
        raise InputError(f"{where}: y is {list(y.shape)}; give [N] integers, y.ravel()")
    if one_hot(y):
        raise InputError(
            f"{where}: y is one-hot {list(y.shape)}; give [N] integers, y.argmax({y.ndim - 1})"
        )
    least, most = int(y.min()), int(y.max())
    if one_a_row and least < 0:
        raise InputError(
            f"{where}: y holds classes, which are integers from 0, and has {least}; drop such rows "
            f"if they have no class, else number classes from 0, as {UNIQUE}"
        )
    if least < -1:
        raise InputError(
            f"{where}: y holds a class at each place, integers from 0, or −1 where none counts; "
            f"it has {least}"
        )
    empty = np.flatnonzero((y.reshape(len(y), -1) < 0).all(1))
    if len(empty):
        raise InputError(
            f"{where}: y has no class at any place of row {empty[0]}; drop it ({len(empty)} rows)"
        )
    used = len(np.unique(y)) - (least < 0)
    if most >= MOST and 10 * used < most:
        raise InputError(
            f"{where}: y {_goes_up(most, used)}, and a model needs an output for each number; "
            f"number them without gaps, as {UNIQUE}"
        )
    return y.astype(np.int64)


def one_hot(y: NDArray[Any]) -> bool:
    """Tell whether y [N, …, C] is 1 for one class of each row, or place, and 0 for the others."""
    if y.ndim < 2 or y.shape[-1] < 2:
        return False
    return bool(((y == 0) | (y == 1)).all() and (y.sum(-1) == 1).all())


def gaps(y: NDArray[Any], num_outputs: int) -> str | None:
    """Return what to say of classes [N, …] of which fewer than half occur; None if more do."""
    used = int(np.count_nonzero(np.bincount(y[y >= 0])))
    if 2 * used >= num_outputs:
        return None
    return (
        f"y {_goes_up(num_outputs - 1, used)}: the model has {num_outputs:,} outputs; number "
        f"classes without gaps, as {UNIQUE}"
    )


def _goes_up(most: int, used: int) -> str:
    return f"goes up to class {most:,} but holds {used:,} class{'es' * (used != 1)}"
