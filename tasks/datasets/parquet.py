"""The user's own data: a Parquet file, or a folder of them, a row a line."""

from pathlib import Path
from typing import Any

from nufed.conf.errors import InputError
from nufed.conf.memory import limited
from nufed.conf.words import path_of
from nufed.tasks.datasets.sources import opened, readable, require_regular_files
from nufed.tasks.rows import Rows


def read(
    path: str | None,
    features: str | list[str],
    target: str,
    client: str,
    test: str | None = None,
    one_class: str = "refuse",
) -> Rows:
    """Read and check the columns of a Parquet file, or of all in a folder.

    Parameters
    ----------
    path
        The file; or a folder, whose sub-folders ``name=value`` are columns too.
    features
        The columns of x: one whose entries are lists, or several of numbers.
    target
        The column of y; text is taken for the names of classes.
    client
        The column that says whose a row is, by number or name.
    test
        The column of booleans that says which rows are for testing; None draws them.
    one_class
        ``refuse`` or ``keep`` clients whose rows are all of one class.

    Raises
    ------
    InputError
        For a file that cannot be read, a missing column, or what `checks.checked` refuses.
    """
    from nufed.tasks.datasets.columns import chosen, rows_of

    if not path:
        raise InputError("dataset.path: has no value; name your Parquet file, or a folder of them")
    where, given = f"dataset.path={path}", path_of(path)
    if not given.exists():
        raise InputError(f"{where}: no such file; name your Parquet file, or a folder of them")
    if given.is_dir() and not any(given.rglob("*.parquet")):
        raise InputError(f"{where}: holds no .parquet file; name the folder that does")
    if given.is_dir():
        require_regular_files(given, where)
    else:
        opened(given, where).close()
    columns = [name for name in (*chosen(features), target, client, test) if name is not None]
    table = readable(lambda: _table(given, columns, where), where, "is no readable Parquet")
    return rows_of(
        table,
        features=features,
        target=target,
        client=client,
        test=test,
        one_class=one_class,
        where=where,
    )


def _table(given: Path, columns: list[str], where: str) -> Any:
    """Read the columns that are there, of one file or of all in a folder, once their size is known.

    Text stays as its dictionary, where it has one.
    """
    import pyarrow as pa
    from pyarrow import parquet

    from nufed.tasks.datasets.arrow import require_room_for_parquet
    from nufed.tasks.datasets.columns import require_columns

    whole = parquet.ParquetDataset(given)
    require_columns(columns, whole.schema.names, where)
    text = [f.name for f in whole.schema if pa.types.is_string(f.type) and f.name in columns]
    require_room_for_parquet(whole.files, len(columns), where)
    some = [name for name in whole.schema.names if name in columns]
    with limited():
        return parquet.read_table(given, columns=some, read_dictionary=text)
