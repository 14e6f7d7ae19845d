"""What `nufed-data prepare` shows: what became of each column."""

from collections.abc import Iterator

import numpy as np
from rich.table import Table as Shown

from nufed.tasks.table_files import Table
from nufed.tasks.table_fit import FREQUENT
from nufed.tasks.table_transform import Description, Prepared, Target
from nufed.tasks.table_words import NAMED, unusual


def outline(of: Description, prepared: Prepared, table: Table, like: str | None) -> Iterator[str]:
    """Yield what a table is, a line each, and what of it is not used."""
    rows = prepared.rows
    n = 1 if rows.client is None else len(np.unique(rows.client))
    yield (
        f"{table.where}: {len(rows.x):,} rows of {n:,} client{'s' * (n != 1)}, "
        f"{len(of.features):,} feature{'s' * (len(of.features) != 1)}"
        + (f", as {like} has them" if like else "")
    )
    for line in unusual(of, prepared, table, str(like)):
        yield f"! {line}"


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
