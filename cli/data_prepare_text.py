"""What `nufed-data prepare` shows: what became of each column."""

from collections.abc import Iterator

import numpy as np
from rich.table import Table as Shown

from nufed.tasks.table_files import Table
from nufed.tasks.table_fit import FREQUENT
from nufed.tasks.table_transform import Description, Prepared, Target

NAMED = 5


def outline(of: Description, prepared: Prepared, table: Table, like: str | None) -> Iterator[str]:
    """Yield what a table is, a line each, and what of it is not used."""
    rows = prepared.rows
    n = 1 if rows.client is None else len(np.unique(rows.client))
    yield (
        f"{table.where}: {len(rows.x):,} rows of {n:,} client{'s' * (n != 1)}, "
        f"{len(of.features):,} feature{'s' * (len(of.features) != 1)}"
        + (f", as {like} has them" if like else "")
    )
    if table.separator not in (None, ","):
        yield f"! columns are taken to be separated by {table.separator!r}"
    if table.nameless:
        several = "s without a name are" if table.nameless > 1 else " without a name is"
        yield f"! {table.nameless} column{several} left out"
    if lost := prepared.without_target:
        several = (
            f"s without {of.target.name!r} are" if lost > 1 else f" without {of.target.name!r} is"
        )
        yield f"! {lost:,} row{several} left out"
    if rows.client is None:
        yield f"! there is no column {of.client!r}: the rows are taken for one client's"
    if of.test is not None and rows.test is None:
        yield f"! there is no column {of.test!r}: no row is marked for testing"
    if prepared.ignored:
        names = ", ".join(map(repr, prepared.ignored[:NAMED]))
        more = ", …" * (len(prepared.ignored) > NAMED)
        yield f"! columns that {like} does not have are left out: {names}{more}"
    for name, count in prepared.unknown.items():
        (text,) = (each for each in of.texts if each.name == name)
        if count and not text.other:
            those = f"{count:,} row{'s have' if count > 1 else ' has'}"
            yield f"! {those} a {name!r} that is no category: 0 in all of its features"


def columns_table(of: Description, prepared: Prepared) -> Shown:
    """Return what became of each column."""
    table = Shown()
    table.add_column("column", overflow="fold")
    table.add_column("missing", justify="right")
    table.add_column("became", overflow="fold")
    indicated = set(of.indicated)
    for name, became in _became(of, prepared):
        missing = prepared.missing.get(name)
        also = " and whether it was missing" if name in indicated else ""
        table.add_row(name, "" if missing is None else f"{missing:,}", became + also)
    return table


def _became(of: Description, prepared: Prepared) -> Iterator[tuple[str, str]]:
    for number in of.numbers:
        gaps = f", {number.fill:.4g} where missing" * _has_gaps(number.name, of, prepared)
        yield number.name, f"(x − {number.mean:.4g}) / {number.scale:.4g}{gaps}"
    for boolean in of.booleans:
        gaps = f", {boolean.fill:g} where missing" * _has_gaps(boolean.name, of, prepared)
        yield boolean.name, f"0 or 1{gaps}"
    for text in of.texts:
        others = prepared.unknown[text.name]
        rest = f", and one for others ({others:,} rows)" if text.other else ""
        n = len(text.categories)
        of_rows = f" of {FREQUENT} rows or more" * bool(text.other)
        yield text.name, f"{n} categor{'y' if n == 1 else 'ies'}{of_rows}{rest}"
    yield of.target.name, f"the target: {_target(of.target)}"
    if prepared.rows.client is not None:
        yield of.client, "whose a row is"
    if prepared.rows.test is not None:
        yield str(of.test), f"{prepared.rows.test.sum():,} rows for testing"
    for left in of.left_out:
        yield left.name, f"left out: {left.why}"


def _has_gaps(name: str, of: Description, prepared: Prepared) -> bool:
    return prepared.missing[name] > 0 or name in of.indicated


def _target(of: Target) -> str:
    if of.classes is None:
        return f"(y − {of.mean:.4g}) / {of.scale:.4g}"
    some = ", ".join(f"{name} = {i}" for i, name in enumerate(of.classes[:NAMED]))
    return f"{len(of.classes)} classes, {some}{', …' * (len(of.classes) > NAMED)}"
