"""What every data set that a person brings is checked for, whatever file it came from."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nufed.conf.errors import InputError
from nufed.tasks.datasets.splits import held_out
from nufed.tasks.datasets.targets import classes
from nufed.tasks.ids import Ids, as_ids, numbered
from nufed.tasks.rows import Rows

REMEDIES = {
    "U": ", as numpy.unique({0}, return_inverse=True)[1]",
    "S": ", as numpy.unique({0}, return_inverse=True)[1]",
    "c": ", as numpy.stack([{0}.real, {0}.imag], -1)",
}
"""By kind of type, how numbers are made of what is none; of complex numbers, real ones."""

BLOCK = 4096  # rows that are looked at in one go

log = logging.getLogger("nufed")


def checked(
    x: NDArray[Any],
    y: NDArray[Any],
    client: NDArray[Any] | None,
    test: NDArray[Any] | None,
    *,
    one_class: str,
    where: str,
) -> Rows:
    """Return arrays as rows, if they can be used; types as torch knows them.

    Parameters
    ----------
    x, y, client, test
        As `Rows` has them.
    one_class
        ``refuse`` or ``keep`` clients whose rows are all of one class.
    where
        What names the data to a person, such as ``dataset.path=mine.npz``.

    Raises
    ------
    InputError
        For lengths that differ, no rows, NaN, an unusable type or client, a client of one class.
    """
    if one_class not in ("refuse", "keep"):
        raise InputError(f"dataset.one_class={one_class}: must be refuse | keep")
    _require_one_a_row(x, {"x": x, "y": y, "client": client, "test": test}, where)
    for name, array in (("x", x), ("y", y)):
        _require_numbers(name, array, where)
    if y.dtype.kind in "iub":
        y = classes(y, where)
    test = None if test is None else held_out(test, where)
    if client is not None:
        client = as_ids(client, where)
        if client.dtype.kind == "U":
            say_numbers("clients", numbered(client)[0].tolist(), where)
        if one_class == "refuse" and y.dtype == np.int64 and y.ndim == 1:
            _refuse_one_class(y, client, where)
    return Rows(_native(x), _native(y), client, test)


def say_numbers(what: str, names: Sequence[str], where: str) -> None:
    """Say which number each name has, of many the first few."""
    some = ", ".join(f"{name} = {i}" for i, name in enumerate(names[:5]))
    last = len(names) - 1
    more = f",{' …' * (last > 5)} {names[-1]} = {last}" if last >= 5 else ""
    log.info("%s: %s are numbered in sorted order: %s%s", where, what, some, more)


def _require_one_a_row(x: NDArray[Any], arrays: dict[str, NDArray[Any] | None], where: str) -> None:
    for name, array in arrays.items():
        if array is not None and (array.ndim == 0 or len(array) != len(x)):
            raise InputError(
                f"{where}: {name} has shape {array.shape}, x {x.shape}; give one entry a row"
            )
        if array is not None and array.size == 0 < len(array):
            raise InputError(f"{where}: {name} has shape {array.shape}: a row holds nothing")
    if len(x) == 0:
        raise InputError(f"{where}: holds no rows")


def _require_numbers(name: str, array: NDArray[Any], where: str) -> None:
    if array.dtype.kind not in "fiub":
        remedy = REMEDIES.get(array.dtype.kind, "").format(name)
        raise InputError(f"{where}: {name} is of type {array.dtype}; give numbers{remedy}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        row = int(np.argwhere(~np.isfinite(array))[0][0])
        raise InputError(
            f"{where}: {name} has NaN or infinity, first in row {row}; drop or fill it"
        )


def require_range(rows: Mapping[str, NDArray[Any]], type_: str, where: str) -> None:
    """Raise an `InputError` if a number is beyond a type of floating-point numbers.

    Parameters
    ----------
    rows
        x and y, by name; finite.
    type_
        What a run computes in, as numpy calls it.
    """
    most = float(np.finfo(type_).max)
    for name, array in rows.items():
        if array.dtype != np.float64 or most == np.finfo(np.float64).max:
            continue
        for start in range(0, len(array), BLOCK):
            block = array[start : start + BLOCK]
            if max(-float(block.min()), float(block.max())) > most:
                place = tuple(np.argwhere(abs(block) > most)[0])
                raise InputError(
                    f"{where}: {name} is {block[place]:g} in row {start + int(place[0])}, beyond "
                    f"{type_}; scale {name} down, or say engine.precision=float64"
                )


def _native(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array in a type that torch knows: this machine's byte order, 8 bytes at most."""
    native = array.dtype.newbyteorder("=")
    return array.astype(np.float64 if native == np.longdouble else native, copy=False)


def _refuse_one_class(y: NDArray[np.int64], client: Ids, where: str) -> None:
    """Raise if there is a client whose rows are all of one class."""
    ids, owner = numbered(client)
    pairs = np.unique(np.stack([owner, y]), axis=1)
    poor = ids[np.bincount(pairs[0]) == 1]
    if len(poor):
        raise InputError(
            f"{where}: client {poor[0]} has one class only ({len(poor)} of {len(ids)} clients do), "
            "which no accuracy can tell from a constant; drop it, or say dataset.one_class=keep"
        )
