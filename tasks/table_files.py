"""Tables that people have, as columns: a CSV, whose entries are text, or a Parquet file."""

import csv
import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from nufed.conf.errors import InputError
from nufed.conf.files import read_bytes
from nufed.conf.memory import limited, require_room
from nufed.conf.words import path_of
from nufed.tasks.datasets.arrow import require_room_for_parquet
from nufed.tasks.datasets.sources import opened, readable
from nufed.tasks.ids import WHOLE

TEXTS, PARQUET = (".csv", ".tsv", ".txt"), ".parquet"
SEPARATORS = ",;\t|"
MISSING = (
    *("", "?", "NA", "N/A", "n/a", "#N/A", "#NA", "<NA>", "NaN", "nan", "-NaN", "-nan"),
    *("NULL", "Null", "null", "None", "none"),
)
"""Entries of a CSV that stand for none."""
IN_MEMORY = 5  # bytes for each of a CSV


@dataclass(frozen=True)
class Table:
    """Columns by name, in their order; of a column without a name, nothing is here."""

    columns: dict[str, Any]
    """`pyarrow.Array` or `ChunkedArray`, [N] each; of a CSV all of them text, as it stands there.
    """
    where: str
    """What names the table to a person."""
    written: bool
    """Whether entries are text as somebody wrote it."""
    separator: str | None
    nameless: int
    """How many columns had no name."""

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(next(iter(self.columns.values())))

    def __getitem__(self, name: str) -> Any:
        """Return a column with nulls for what is missing; of a CSV without blanks around."""
        column = self.columns[name]
        if not self.written:
            return column
        column = pc.utf8_trim_whitespace(column)
        none = pc.is_in(column, value_set=pa.array(MISSING))
        return pc.if_else(none, pa.scalar(None, pa.string()), column)

    def ids(self, name: str) -> list[Any]:
        """Return a column of ids, [N], as they are; None where there is none."""
        entries = self.columns[name].to_pylist()
        return [_id(entry) for entry in entries] if self.written else entries


def read_table(file: str | Path) -> Table:
    """Read a table.

    Raises
    ------
    InputError
        If it cannot be read, has no rows, or two columns of one name.
    """
    path, where = path_of(file), str(file)
    kind = path.suffix.lower()
    if kind not in (*TEXTS, PARQUET):
        raise InputError(f"{where}: is no .csv, .tsv or .parquet; name a table")
    if kind == PARQUET:
        opened(path, where).close()
        table = readable(lambda: _parquet(path, where), where, "is no readable Parquet")
        return _named(table.column_names, table.columns, where, None)
    content = read_bytes(path, links=True)
    require_room(IN_MEMORY * len(content), where, "it takes about")
    header, separator = _header(content, where)
    if not separator:
        raise InputError(f"{where}: has one column; separate columns by a comma, ; a tab or |")
    with limited():
        table = readable(lambda: _csv(content, separator, len(header)), where, "is no readable CSV")
    return _named(header, [column[1:] for column in table.columns], where, separator)


def table_of(data: Any, where: str) -> Table:
    """Return columns by name that are here already, with types of their own, as a table.

    Parameters
    ----------
    data
        A `pandas.DataFrame`, a `pyarrow.Table`, or what Arrow takes for one.
    where
        What names it to a person.

    Raises
    ------
    InputError
        If it is none of these, has no rows, two columns of one name, or one of no single type.
    """
    table = readable(lambda: _arrow(data), where, "is no table of columns of one type each")
    return _named(table.column_names, table.columns, where, None)


def table_from(data: Any, where: str) -> Table:
    """Return a table that a file has, or that is here; arguments and errors as of both."""
    if isinstance(data, str | Path):
        return replace(read_table(data), where=where)
    return table_of(data, where)


def _arrow(data: Any) -> Any:
    if isinstance(data, pa.Table):
        return data
    if hasattr(data, "dtypes") and hasattr(data, "index"):  # of pandas
        return pa.Table.from_pandas(data.rename(columns=str), preserve_index=False)
    return pa.table(data)


def _named(names: list[str], columns: list[Any], where: str, separator: str | None) -> Table:
    """Return columns as a table, but for those without a name, as an index that was written too."""
    named = [name for name in names if name]
    for name in named:
        if named.count(name) > 1:
            raise InputError(f"{where}: has two columns {name!r}; rename one")
    found = {name: column for name, column in zip(names, columns, strict=True) if name}
    if not found or not len(next(iter(found.values()))):
        raise InputError(f"{where}: holds no rows")
    return Table(found, where, separator is not None, separator, len(names) - len(named))


def _header(content: bytes, where: str) -> tuple[list[str], str]:
    """Return the names in the first line, and what separates them; nothing where there is one."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{where}: is no text in UTF-8 (byte {error.start}); save it as CSV in UTF-8"
        ) from error
    if "\0" in text:
        raise InputError(f"{where}: is no text (it holds null characters); save it as CSV in UTF-8")
    names, separator = list[str](), ""
    for each in SEPARATORS:
        try:
            found = next(csv.reader(io.StringIO(text, newline=""), delimiter=each), [])
        except csv.Error as error:
            raise InputError(f"{where}: is no readable CSV ({error})") from error
        if len(found) > max(len(names), 1):
            names, separator = [name.strip() for name in found], each
    return names, separator


def _csv(content: bytes, separator: str, width: int) -> Any:
    """Return all entries as text, the header among them."""
    from pyarrow import csv

    text = {f"f{i}": pa.string() for i in range(width)}
    return csv.read_csv(
        _of_arrow(content),
        read_options=csv.ReadOptions(autogenerate_column_names=True),
        parse_options=csv.ParseOptions(delimiter=separator, newlines_in_values=True),
        convert_options=csv.ConvertOptions(column_types=text, strings_can_be_null=False),
    )


def _of_arrow(content: bytes) -> Any:
    """Return bytes as a file of Arrow's own, a copy.

    Its threads read on beside ours, and may be the last to let go of the file: of one of Python's,
    or of Python's bytes, while Python ends, that aborts the process.
    """
    copy = pa.BufferOutputStream()
    copy.write(content)
    return pa.BufferReader(copy.getvalue())


def _parquet(path: Path, where: str) -> Any:
    """Return all columns; text stays as its dictionary, as it may stand there for very much."""
    from pyarrow import parquet

    whole = parquet.ParquetFile(path)
    schema = whole.schema_arrow
    require_room_for_parquet([path], len(schema.names), where)
    with limited():
        text = [each.name for each in schema if pa.types.is_string(each.type)]
        table = parquet.ParquetFile(path, read_dictionary=text).read()
        table.validate(full=True)
    index = [name for name in table.column_names if name.startswith("__index_level_")]
    return table.drop_columns(index)


def _id(entry: str) -> str | None:
    """Return an id as it stands in a CSV; blanks beside a number are not of it."""
    bare = entry.strip()
    return (bare if WHOLE.fullmatch(bare) else entry) if bare else None
