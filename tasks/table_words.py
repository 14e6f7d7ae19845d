"""What a person should know of rows that were made of a table."""

from collections.abc import Iterator

from nufed.tasks.table_files import Table
from nufed.tasks.table_transform import Description, Prepared, described

NAMED = 5  # columns of which something is said


def unusual(of: Description, prepared: Prepared, table: Table, source: str) -> Iterator[str]:
    """Yield what of a table is not used, or not as one may expect, a line each.

    Parameters
    ----------
    source
        What names the description to a person.
    """
    rows = prepared.rows
    if table.separator not in (None, ","):
        yield f"columns are taken to be separated by {table.separator!r}"
    if table.nameless:
        several = "s without a name are" if table.nameless > 1 else " without a name is"
        yield f"{table.nameless} column{several} left out"
    if lost := prepared.without_target:
        several = (
            f"s without {of.target.name!r} are" if lost > 1 else f" without {of.target.name!r} is"
        )
        yield f"{lost:,} row{several} left out"
    if rows.client is None:
        yield f"there is no column {of.client!r}: the rows are taken for one client's"
    if of.test is not None and rows.test is None:
        yield f"there is no column {of.test!r}: no row is marked for testing"
    if prepared.ignored:
        names = ", ".join(map(repr, prepared.ignored[:NAMED]))
        more = ", …" * (len(prepared.ignored) > NAMED)
        yield f"columns that {source} does not have are left out: {names}{more}"
    for name, count in prepared.unknown.items():
        (text,) = (each for each in of.texts if each.name == name)
        if count and not text.other:
            those = f"{count:,} row{'s have' if count > 1 else ' has'}"
            yield f"{those} a {name!r} that is no category: 0 in all of its features"


def in_units(table: str) -> str | None:
    """Say in a line what a real target is scaled by; None of classes.

    Parameters
    ----------
    table
        A description, as JSON.
    """
    of = described(table, "table").target
    if of.classes is not None:
        return None
    return (
        f"y is {of.name} as (y − {of.mean:.4g}) / {of.scale:.4g}: an error of 0.1 is "
        f"{0.1 * of.scale:.3g} of it"
    )
