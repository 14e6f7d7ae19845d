"""The user's own data: a Parquet file, or a folder of them, a row a line."""

from pathlib import Path

from conf.errors import InputError, reason
from tasks.rows import Rows


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
    import pyarrow as pa
    from pyarrow import parquet

    from tasks.datasets.columns import rows_of

    if not path:
        raise InputError("dataset.path: has no value; name your Parquet file, or a folder of them")
    where, given = f"dataset.path={path}", Path(path).expanduser()
    if not given.exists():
        raise InputError(f"{where}: no such file; name your Parquet file, or a folder of them")
    if given.is_dir() and not any(given.rglob("*.parquet")):
        raise InputError(f"{where}: holds no .parquet file; name the folder that does")
    try:
        table = parquet.read_table(given)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{where}: is no readable Parquet ({reason(error):.200})") from error
    return rows_of(
        table,
        features=features,
        target=target,
        client=client,
        test=test,
        one_class=one_class,
        where=where,
    )
