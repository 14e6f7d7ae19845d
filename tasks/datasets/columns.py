"""Columns of an Arrow table, as Parquet files and `datasets` have them, as rows."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nufed.conf.errors import InputError
from nufed.conf.schema import require
from nufed.tasks.datasets.arrow import require_room_for_text
from nufed.tasks.datasets.checks import checked, say_numbers
from nufed.tasks.datasets.images import decode
from nufed.tasks.datasets.sources import readable
from nufed.tasks.ids import numbered
from nufed.tasks.rows import Rows

PREPARE = "nufed-data prepare; from Python, nufed.prepare"
TEXT = (pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary())
"""What an id may be stored as, beside numbers."""


def rows_of(
    table: Any,
    *,
    features: object,
    target: str,
    client: str | None,
    test: str | None,
    size: object = None,
    one_class: str,
    where: str,
) -> Rows:
    """Return the rows of a `pyarrow.Table`.

    Parameters
    ----------
    features
        The columns of x: one of lists or images, or several of numbers (or of lists).
    target
        That of y: numbers or lists of numbers; text is taken for names of classes.
    client, test
        Those of the client and of the split, if any.
    size
        As of `nufed.tasks.datasets.images.decode`.
    one_class, where
        As of `nufed.tasks.datasets.checks.checked`.

    Raises
    ------
    InputError
        If there is no such column, or what it holds cannot be used.
    """
    names = chosen(features)
    require_columns((*names, target, client, test), table.column_names, where)
    _require_apart(names, {"target": target, "client": client, "test": test}, where)
    readable(lambda: table.validate(full=True), where, "is damaged")
    x = _features([_array(table[name], name, where, size) for name in names], names, where)
    y = _array(table[target], target, where)
    if y.dtype.kind == "U":
        classes, number = numbered(y.ravel())
        y = number.reshape(y.shape)
        say_numbers("classes", classes.tolist(), where)
    owner = None if client is None else _ids(table[client], client, where)
    held_out = None if test is None else _array(table[test], test, where)
    return checked(x, y, owner, held_out, one_class=one_class, where=where)


def require_columns(names: Iterable[str | None], found: Sequence[str], where: str) -> None:
    """Raise an `InputError` unless the columns that are named are among those found."""
    for name in names:
        if name is not None and name not in found:
            raise InputError(
                f"{where}: has no column {name!r} (found: {', '.join(found)}); name yours with "
                "dataset.features, dataset.target, dataset.client; a table as it is, with text and "
                f"gaps too, is for {PREPARE}"
            )


def _require_apart(features: list[str], others: dict[str, str | None], where: str) -> None:
    """Raise an `InputError` if a column is asked for twice: above all, the target as a feature."""
    keys = dict[str, str]()
    given = [*((name, "features") for name in features), *((n, key) for key, n in others.items())]
    for name, key in given:
        if name in keys:
            told = ", which tells the model what it is to find" if key == "target" else ""
            raise InputError(
                f"{where}: column {name!r} is in dataset.{keys[name]} and in dataset.{key}{told}; "
                "name it once"
            )
        if name is not None:
            keys[name] = key


def chosen(features: object) -> list[str]:
    """Return the names of the feature columns that a person gave: one, or a list of them."""
    names = [features] if isinstance(features, str) else features
    valid = isinstance(names, list) and len(names) > 0 and all(isinstance(n, str) for n in names)
    require(valid, "dataset.features", features, "a column, or several, such as [age,weight]")
    assert isinstance(names, list)
    return names


def _features(columns: Sequence[NDArray[Any]], names: Sequence[str], where: str) -> NDArray[Any]:
    """Return columns side by side; one by itself as it is, if it holds more than a number a row."""
    for name, column in zip(names, columns, strict=True):
        if column.dtype.kind == "U":
            raise InputError(
                f"{where}: column {name!r} holds text; give numbers: of categories 0 or 1 for each "
                f"({PREPARE}), of prose tokens"
            )
    if len(columns) == 1 and columns[0].ndim > 1:
        return columns[0]
    for name, column in zip(names, columns, strict=True):
        if column.ndim > 2:
            raise InputError(
                f"{where}: column {name!r} has rows of shape {column.shape[1:]}; "
                "give it alone, or columns of numbers"
            )
    flat = [column.reshape(len(column), -1) for column in columns]
    return np.concatenate(flat, axis=1)


def _array(column: Any, name: str, where: str, size: object = None) -> NDArray[Any]:
    """Return a column as an array: [N] numbers or text, [N, …] lists or images."""
    column = _whole(column, name, where)
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return np.array(column.to_pylist(), dtype=str)
    if pa.types.is_struct(kind) and {f.name for f in kind} >= {"bytes", "path"}:
        return decode([_image(entry) for entry in column.to_pylist()], size, where)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _lists(column, name, where)
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise InputError(f"{where}: column {name!r} is of type {kind}; give numbers")
    array: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return array


def _ids(column: Any, name: str, where: str) -> NDArray[Any]:
    """Return the column of the clients, [N], for `nufed.tasks.ids.as_ids`."""
    column = _whole(column, name, where)
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        array: NDArray[Any] = column.to_numpy(zero_copy_only=False)
        return array
    whole = pa.types.is_decimal(kind) and kind.scale == 0
    if not (whole or kind in TEXT):
        raise InputError(f"{where}: column {name!r} is of type {kind}; give integers or text")
    entries = column.to_pylist()
    return np.array(list(map(int, entries)) if whole else entries, dtype=object)


def _whole(column: Any, name: str, where: str) -> Any:
    """Return a column as one Arrow array, of values without a gap."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    column = pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    require_room_for_text(column, name, where)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.null_count:
        first = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
        raise InputError(
            f"{where}: column {name!r} has {column.null_count} empty entries, first in row "
            f"{first}; drop or fill them ({PREPARE})"
        )
    return column


def _lists(column: Any, name: str, where: str) -> NDArray[Any]:
    """Return a column of lists of one length, of any depth."""
    import pyarrow.compute

    if len(column) == 0:
        raise InputError(f"{where}: holds no rows")
    lengths = pyarrow.compute.list_value_length(column).to_numpy(zero_copy_only=False)
    if len(lengths) and lengths.min() != lengths.max():
        raise InputError(
            f"{where}: column {name!r} has rows of {lengths.min()} to {lengths.max()} entries; "
            "pad them to one length"
        )
    inner = _array(column.flatten(), name, where)
    return inner.reshape(len(column), -1, *inner.shape[1:])


def _image(entry: dict[str, Any]) -> Any:
    from pathlib import Path

    return entry["bytes"] if entry["bytes"] is not None else Path(entry["path"])
