"""What a column of a table holds: numbers, yes or no, text, or what is none of these."""

import re
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from nufed.conf.errors import InputError
from nufed.tasks.table_files import Table

NUMBER, BOOLEAN, TEXT = "number", "boolean", "text"
DATE, EMPTY, OTHER = "date", "empty", "other"
DATES = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d")
"""How dates are written, beside ISO 8601."""
LIKE_A_DATE = r"^[0-9]{1,4}[-./][0-9]{1,2}[-./][0-9]{1,4}"
PADDED = r"^[+-]?0[0-9]"
"""Begins what is a code, such as a postal one, and no number."""
WITH_COMMA = r"^[+-]?[0-9]*,[0-9]+$"
LONGEST = 40  # characters of an entry that are shown


class Column(NamedTuple):
    """A column of one kind."""

    kind: str
    values: NDArray[Any]
    """[N] float64 with NaN where missing, of numbers and booleans; objects, text or None, of text;
    empty of any other kind.
    """
    type: str = ""
    """Of another kind: as Arrow calls its type."""

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Where there is no value, [N]."""
        if self.kind == TEXT:
            return np.fromiter((each is None for each in self.values), np.bool_, len(self.values))
        found: NDArray[np.bool_] = np.isnan(self.values)
        return found


def told(table: Table, name: str) -> Column:
    """Return a column as what it is seen to hold.

    Raises
    ------
    InputError
        For numbers that are not finite, or have a comma.
    """
    column = _plain(table[name])
    if column.null_count == len(column):
        return Column(EMPTY, np.empty(0))
    if table.written:
        return _of_written(column, name, table.where)
    kind = column.type
    if pa.types.is_boolean(kind):
        return Column(BOOLEAN, _numbers(column, name, table.where))
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        values = _numbers(column, name, table.where)
        return Column(EMPTY if np.isnan(values).all() else NUMBER, values)
    if _is_text(kind):
        return Column(TEXT, _texts(column))
    return Column(DATE if pa.types.is_temporal(kind) else OTHER, np.empty(0), str(kind))


def of_kind(table: Table, name: str, kind: str) -> Column:
    """Return a column as what it has to hold: numbers, booleans or text.

    Raises
    ------
    InputError
        If it holds something else, or numbers that are not finite.
    """
    column = _plain(table[name])
    if kind == TEXT and table.written:
        return Column(kind, _texts(column))
    found = told(table, name)
    if found.kind == EMPTY:
        none = [None] * len(column)
        return Column(kind, np.array(none, object if kind == TEXT else np.float64))
    as_numbers = kind == BOOLEAN and found.kind == NUMBER and _are_bits(found.values)
    if found.kind != kind and not as_numbers:
        raise InputError(
            f"{table.where}: column {name!r} holds {_shown(column, found, kind)}, and should hold "
            f"{kind}s"
        )
    return Column(kind, found.values)


def _are_bits(values: NDArray[Any]) -> bool:
    return bool(np.isin(values[~np.isnan(values)], (0, 1)).all())


def _shown(column: Any, found: Column, kind: str) -> str:
    """Return the first entry that is not of a kind, and where it is; else what the column is."""
    if found.kind != TEXT or kind != NUMBER:
        return f"{found.kind}s" if found.kind in (NUMBER, BOOLEAN, TEXT, DATE) else found.type
    for row, entry in enumerate(column.to_pylist()):
        try:
            float(entry or 0)
        except ValueError:
            return f"{entry[:LONGEST]!r} in row {row}"
    return "text"


def _plain(column: Any) -> Any:
    """Return a column as one array of storage types."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    column = pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column
    column = column.storage if isinstance(column, pa.ExtensionArray) else column
    coded = pa.types.is_dictionary(column.type) and not _is_text(column.type)
    return column.dictionary_decode() if coded else column


def _is_text(kind: Any) -> bool:
    """Tell whether a type is one of text, be it as numbers of a dictionary."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return kind in (pa.string(), pa.large_string(), pa.string_view())


def _of_written(column: Any, name: str, where: str) -> Column:
    """Return text as what it is text of."""
    there = column.drop_null()
    if not pc.any(pc.match_substring_regex(there, PADDED)).as_py():
        if _cast(there, pa.float64()) is not None:
            return Column(NUMBER, _numbers(pc.cast(column, pa.float64()), name, where))
        if _cast(there, pa.bool_()) is not None:
            return Column(BOOLEAN, _numbers(pc.cast(column, pa.bool_()), name, where))
    if _are_dates(there):
        return Column(DATE, np.empty(0), "date")
    if pc.all(pc.match_substring_regex(there, r"^[+-]?[0-9,.]+$")).as_py():
        with_comma = there.filter(pc.match_substring_regex(there, WITH_COMMA))
        if len(with_comma):
            raise InputError(
                f"{where}: column {name!r} has numbers with a comma, such as "
                f"{with_comma[0].as_py()[:LONGEST]!r}; write them with a point"
            )
    return Column(TEXT, _texts(column))


def _are_dates(there: Any) -> bool:
    if not pc.all(pc.match_substring_regex(there, LIKE_A_DATE)).as_py():
        return False
    iso = (pa.timestamp("us"), pa.timestamp("us", "UTC"))
    if any(_cast(there, each) is not None for each in iso):
        return True
    return any(
        pc.strptime(there, format=each, unit="s", error_is_null=True).null_count == 0
        for each in DATES
    )


def _cast(column: Any, kind: Any) -> Any:
    """Return text as another type, None where an entry is none of it."""
    try:
        return pc.cast(column, kind)
    except pa.ArrowInvalid:
        return None


def _numbers(column: Any, name: str, where: str) -> NDArray[np.float64]:
    """Return numbers or booleans, [N] with NaN for nulls."""
    column = pc.cast(column, pa.float64(), safe=False)
    values: NDArray[np.float64] = column.to_numpy(zero_copy_only=False).astype(np.float64)
    if np.isinf(values).any():
        row = int(np.argmax(np.isinf(values)))
        raise InputError(
            f"{where}: column {name!r} is {values[row]} in row {row}; drop the row, or leave the "
            "entry empty"
        )
    return values


def _texts(column: Any) -> NDArray[Any]:
    """Return text as objects, [N], of which each is made once; None for nulls."""
    coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    some = np.array([*coded.dictionary.to_pylist(), None], object)
    index = pc.fill_null(pc.cast(coded.indices, pa.int64()), len(some) - 1)
    found: NDArray[Any] = some[index.to_numpy(zero_copy_only=False)]
    return found


def whole(number: float) -> str:
    """Return a number as one writes it, without a point where it is whole."""
    return re.sub(r"\.0$", "", repr(float(number)))
