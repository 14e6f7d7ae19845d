"""`nufed.prepare`: what `nufed-data prepare` makes of a table, as rows."""

import logging
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

from nufed.conf.errors import InputError
from nufed.tasks.rows import Rows, is_frame

log = logging.getLogger("nufed")
OF_FRAMES = "table"
"""What names columns that are in no file."""


def prepare(
    table: Any,
    *,
    client: str | None = None,
    target: str | None = None,
    test: str | None = None,
    drop: Collection[str] = (),
    task: Literal["classes", "real"] | None = None,
    like: str | os.PathLike[str] | Rows | None = None,
) -> Rows:
    """Make rows of a table with text, gaps and columns of different scales.

    The rows are those of ``nufed-data prepare``, and say how they were made: a run that is trained
    on them (``nufed.train(data=rows)``) takes such tables, and what is exported names its features.

    Parameters
    ----------
    table
        A CSV or Parquet file; or a `pandas.DataFrame`, `pyarrow.Table` or other columns by name, of
        the types that they have.
    client, target, test
        Columns: whose a row is, what is to be found, which rows are for testing.
    drop
        Columns of which no feature is to be made.
    task
        Whether a target of whole numbers is classes, or real; else the target itself tells.
    like
        Rows that were prepared, or the .json file beside such, by which others become features in
        the same way; in place of all other keywords.

    Returns
    -------
    Rows
        x [N, features], y [N], client [N] and test [N] where there is such a column. A real target
        is (y − mean) / scale, as `table` says in JSON.

    Raises
    ------
    InputError
        If the table cannot be read or used.
    """
    # Imported here: they take a fifth of a second.
    from nufed.tasks.table_files import table_from
    from nufed.tasks.table_fit import CLASSES, REAL, fit
    from nufed.tasks.table_transform import apply
    from nufed.tasks.table_words import unusual

    path = isinstance(table, str | os.PathLike)
    if not path and not is_frame(table):
        raise InputError(
            f"{OF_FRAMES}: is a {type(table).__name__}; give a CSV or Parquet file, or a "
            "pandas.DataFrame"
        )
    given = {"client": client, "target": target, "test": test, "drop": drop, "task": task}
    _require_one_way(given, like)
    where = os.fspath(table) if path else OF_FRAMES
    found = table_from(Path(table) if path else table, where)
    source = "like" if isinstance(like, Rows) else str(like or "it")
    if like is not None:
        of = _known(like)
    else:
        if task not in (None, CLASSES, REAL):
            raise InputError(f"task={task}: must be {CLASSES} | {REAL}")
        assert client is not None
        assert target is not None
        names = dict.fromkeys([drop] if isinstance(drop, str) else drop)
        of = fit(found, client=client, target=target, test=test, drop=[*names], task=task)
        for each in of.left_out:
            if each.name not in names:
                log.warning("%s: column %r is left out: %s", where, each.name, each.why)
    prepared = apply(of, found, source)
    for line in unusual(of, prepared, found, source):
        log.warning("%s: %s", where, line)
    return prepared.rows


def _require_one_way(given: dict[str, Any], like: object) -> None:
    """Raise an `InputError` unless columns are named, or `like` says it all."""
    for key, value in given.items():
        if like is not None and value not in (None, ()):
            raise InputError(f"{key}={value}: like says it already; leave it out")
    for key in ("client", "target"):
        if like is None and given[key] is None:
            raise InputError(f"{key}: has no value; name its column as {key}=…")


def _known(like: str | os.PathLike[str] | Rows) -> Any:
    """Return the description that rows have with them, or that a file is."""
    from nufed.tasks.table_transform import described, read_description

    if not isinstance(like, Rows):
        return read_description(os.fspath(like))
    if like.table is None:
        raise InputError("like: were not made of a table; give rows of nufed.prepare")
    return described(str(like.table[0]), "like")
