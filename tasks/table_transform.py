"""What was made of a table's columns, as plain data: enough to make the same of new rows.

Features stand in this order: numbers, booleans, whether an entry was missing, categories.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nufed.conf.errors import InputError
from nufed.conf.files import read_text
from nufed.conf.typed import Mistyped, made, parsed
from nufed.conf.words import path_of
from nufed.tasks.datasets.checks import checked
from nufed.tasks.ids import as_ids
from nufed.tasks.rows import Rows
from nufed.tasks.table_columns import BOOLEAN, NUMBER, TEXT, Column, of_kind, whole
from nufed.tasks.table_files import Table

FORMAT = 1
LARGEST = 1 << 28  # bytes of a description
KINDS = (NUMBER, BOOLEAN, TEXT)


@dataclass(frozen=True)
class Number:
    """A column of numbers: (x − mean) / scale, with `fill` for what is missing."""

    name: str
    fill: float
    mean: float
    scale: float
    indicator: bool
    """Whether a feature says where it was missing."""

    def __post_init__(self) -> None:
        _require_scale(self.name, self.scale)


@dataclass(frozen=True)
class Boolean:
    """A column of 0 and 1."""

    name: str
    fill: float
    indicator: bool


@dataclass(frozen=True)
class Text:
    """A column of text: a feature for each of its categories, and none of them is `other`."""

    name: str
    categories: tuple[str | None, ...]
    """null is what is missing."""
    other: bool
    """Whether a last feature is for all other texts; else these are 0 in all of them."""


@dataclass(frozen=True)
class LeftOut:
    """A column of which no feature was made."""

    name: str
    why: str


@dataclass(frozen=True)
class Target:
    """What is to be found: one of some classes, or (y − mean) / scale."""

    name: str
    holds: str
    """number, boolean or text: of what kind its column is."""
    classes: tuple[str, ...] | None = None
    mean: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        _require_scale(self.name, self.scale)
        if self.holds not in KINDS or (self.classes is None and self.holds != NUMBER):
            raise Mistyped(f"the target holds {self.holds!r:.40}")


@dataclass(frozen=True)
class Counts:
    """How many rows the description was made of."""

    rows: int
    fitted: int
    """Rows that statistics are of: those for training."""
    clients: int
    without_target: int
    """Rows that were left out."""


@dataclass(frozen=True)
class Description:
    """All that was made of a table."""

    format: int
    client: str
    target: Target
    test: str | None
    numbers: tuple[Number, ...]
    booleans: tuple[Boolean, ...]
    texts: tuple[Text, ...]
    left_out: tuple[LeftOut, ...]
    features: tuple[str, ...]
    counts: Counts

    @property
    def plain(self) -> list[Number | Boolean]:
        """The columns of numbers, then those of booleans."""
        return [*self.numbers, *self.booleans]

    @property
    def indicated(self) -> list[str]:
        """The columns that a feature says of where they were missing."""
        return [each.name for each in self.plain if each.indicator]

    def text(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self), indent=1) + "\n"


@dataclass(frozen=True)
class Prepared:
    """Rows as features, and what was met with on the way; counts by name of a column."""

    rows: Rows
    missing: Mapping[str, int]
    unknown: Mapping[str, int]
    """Entries of text that are no category."""
    without_target: int
    ignored: tuple[str, ...]
    """Columns that the description does not know."""


def feature_names(
    numbers: tuple[Number, ...], booleans: tuple[Boolean, ...], texts: tuple[Text, ...]
) -> tuple[str, ...]:
    """Return what each feature is called, in their order."""
    plain: list[Number | Boolean] = [*numbers, *booleans]
    named = [each.name for each in plain]
    named += [f"{each.name} missing" for each in plain if each.indicator]
    for each in texts:
        named += [
            f"{each.name} missing" if c is None else f"{each.name}={c}" for c in each.categories
        ]
        named += [f"{each.name} other"] * each.other
    return tuple(named)


def read_description(file: str) -> Description:
    """Read a description as `Description.text` wrote it.

    Raises
    ------
    InputError
        If it cannot be read, or is none.
    """
    return described(read_text(path_of(file), links=True, largest=LARGEST), file)


def described(text: str, source: str) -> Description:
    """Return the description that a text is.

    Parameters
    ----------
    source
        What names it to a person.

    Raises
    ------
    InputError
        If it is none.
    """
    try:
        found = made(Description, parsed(text))
        if found.format != FORMAT:
            raise Mistyped(f"format is {found.format}, and {FORMAT} is known here")
        named = feature_names(found.numbers, found.booleans, found.texts)
        if not named or named != found.features:
            raise Mistyped("features are not those of its columns")
    except ValueError as error:
        raise InputError(
            f"{source}: is no description of a table ({error}); take the one that nufed-data "
            "prepare wrote"
        ) from error
    return found


def apply(of: Description, table: Table, source: str) -> Prepared:
    """Make of a table's rows what a description says.

    Parameters
    ----------
    source
        What names the description to a person.

    Raises
    ------
    InputError
        If a column is missing or holds something else, or a row's class is unknown.
    """
    used = [each.name for each in (*of.plain, *of.texts)]
    _require_columns(table, (*used, of.target.name), source)
    y, there = _targets(of.target, table, source)
    if not there.any():
        raise InputError(f"{table.where}: column {of.target.name!r} is empty in every row")
    columns = {n: Column(c.kind, c.values[there]) for n, c in _used(of, table).items()}
    unknown = {each.name: _unknown(each, columns[each.name]) for each in of.texts}
    known = {*used, of.client, of.test, of.target.name, *(each.name for each in of.left_out)}
    client = clients(table, of.client)[there] if of.client in table.columns else None
    rows = checked(
        _features(of, columns),
        y[there],
        None,  # told by name elsewhere, and checked above
        split(table, of.test)[there] if of.test is not None and of.test in table.columns else None,
        one_class="keep",
        where=table.where,
    )
    return Prepared(
        rows._replace(client=client, table=np.array([of.text()])),
        {name: int(each.missing.sum()) for name, each in columns.items()},
        unknown,
        int((~there).sum()),
        tuple(name for name in table.columns if name not in known),
    )


def features(of: Description, table: Table, source: str) -> NDArray[np.float32]:
    """Return x [N, features] of all of a table's rows, which need no target.

    Parameters
    ----------
    source
        What names the description to a person.

    Raises
    ------
    InputError
        If a column is missing or holds something else.
    """
    _require_columns(table, [each.name for each in (*of.plain, *of.texts)], source)
    x = _features(of, _used(of, table))
    none = np.zeros(len(x), np.int64)
    checked(x, none, None, None, one_class="keep", where=table.where)
    return x


def clients(table: Table, name: str) -> NDArray[Any]:
    """Return whose each row is, [N].

    Raises
    ------
    InputError
        If a row does not say.
    """
    entries = table.ids(name)
    for row, entry in enumerate(entries):
        if entry is None or entry != entry:
            raise InputError(
                f"{table.where}: column {name!r} does not say whose row {row} is; fill it in, or "
                "drop the row"
            )
    return as_ids(np.array(entries, object), f"{table.where}: column {name!r}")


def split(table: Table, name: str) -> NDArray[Any]:
    """Return which rows are for testing, [N].

    Raises
    ------
    InputError
        If a row does not say.
    """
    from nufed.tasks.datasets.splits import held_out
    from nufed.tasks.table_columns import told

    found = told(table, name)
    if found.kind not in KINDS:
        raise InputError(f"{table.where}: column {name!r} is {found.kind}; give booleans for test")
    if found.missing.any():
        row = int(np.argmax(found.missing))
        raise InputError(
            f"{table.where}: column {name!r} does not say whether row {row} is for testing"
        )
    values = found.values.astype(str) if found.kind == TEXT else found.values
    return held_out(values, f"{table.where}: column {name!r}")


def class_names(column: Column) -> NDArray[Any]:
    """Return the class of each row by name, [N]; None where it is missing."""
    if column.kind == TEXT:
        return column.values
    words = {0.0: "false", 1.0: "true"} if column.kind == BOOLEAN else {}
    named = {value: words.get(value, whole(value)) for value in np.unique(column.values).tolist()}
    return np.array([None if v != v else named[v] for v in column.values.tolist()], object)


def _require_columns(table: Table, names: Iterable[str], source: str) -> None:
    for name in names:
        if name not in table.columns:
            raise InputError(f"{table.where}: has no column {name!r}, which {source} takes")


def _used(of: Description, table: Table) -> dict[str, Column]:
    """Return the columns that features are made of."""
    columns = {each.name: of_kind(table, each.name, NUMBER) for each in of.numbers}
    columns |= {each.name: of_kind(table, each.name, BOOLEAN) for each in of.booleans}
    return columns | {each.name: of_kind(table, each.name, TEXT) for each in of.texts}


def _targets(of: Target, table: Table, source: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return y [N], and where it is there."""
    column = of_kind(table, of.name, of.holds)
    there = ~column.missing
    if of.classes is None:
        return ((column.values - of.mean) / of.scale).astype(np.float32), there
    number = {name: i for i, name in enumerate(of.classes)}
    names = class_names(column)
    y = np.array([number.get(name, -1) for name in names], np.int64)
    strange = np.flatnonzero(there & (y < 0))
    if len(strange):
        row = int(strange[0])
        raise InputError(
            f"{table.where}: column {of.name!r} holds {names[row]!r:.60} in row {row}, which is no "
            f"class of {source} ({', '.join(of.classes[:5])}{', …' * (len(of.classes) > 5)})"
        )
    return y, there


def _features(of: Description, columns: Mapping[str, Column]) -> NDArray[np.float32]:
    """Return x, [N, features]."""
    n = len(next(iter(columns.values())).values)
    x = np.empty((n, len(of.features)), np.float32)
    with np.errstate(over="ignore"):  # infinity is refused where rows are checked
        for place, values in enumerate(_each_feature(of, columns)):
            x[:, place] = values
    return x


def _each_feature(of: Description, columns: Mapping[str, Column]) -> Iterator[NDArray[Any]]:
    for number in of.numbers:
        column = columns[number.name]
        filled = np.where(column.missing, number.fill, column.values)
        yield (filled - number.mean) / number.scale
    for boolean in of.booleans:
        column = columns[boolean.name]
        yield np.where(column.missing, boolean.fill, column.values)
    for name in of.indicated:
        yield columns[name].missing
    for text in of.texts:
        places = {category: i for i, category in enumerate(text.categories)}
        last = len(text.categories)
        at = np.array([places.get(each, last) for each in columns[text.name].values])
        for i in range(last + text.other):
            yield at == i


def _unknown(of: Text, column: Column) -> int:
    known = set(of.categories)
    return sum(each not in known for each in column.values)


def _require_scale(name: str, scale: float) -> None:
    if scale <= 0:
        raise Mistyped(f"the scale of {name!r:.40} is {scale}")
