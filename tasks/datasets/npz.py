"""The user's own data: one .npz file; `client` says of every row whose it is."""

import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from nufed.conf.errors import InputError
from nufed.conf.words import path_of
from nufed.tasks.datasets.checks import checked
from nufed.tasks.datasets.members import require_sound
from nufed.tasks.datasets.object_ids import Unreadable, read_objects
from nufed.tasks.datasets.sources import opened, readable
from nufed.tasks.rows import Rows

ARRAYS = ("x", "y", "client")
KNOWN = (*ARRAYS, "test", "table")
TABLES = (".csv", ".tsv", ".txt", ".parquet")
NO_NPZ = "not a readable .npz"


def read(path: str | None, one_class: str = "refuse") -> Rows:
    """Read and check x [N, …], y [N, …], client [N] ids and optionally test [N] booleans.

    Parameters
    ----------
    path
        The file, as `numpy.savez` writes it.
    one_class
        ``refuse`` or ``keep`` clients whose rows are all of one class.

    Raises
    ------
    InputError
        For a file that cannot be read, a missing array, lengths that differ, NaN, an unusable type
        or client.
    """
    if not path:
        raise InputError("dataset.path: has no value; name your .npz file")
    where = f"dataset.path={path}"
    arrays = _arrays(path_of(path), ARRAYS, where)
    return _rows(arrays, one_class, where)


def read_own(path: str, one_class: str = "refuse", key: str = "data-path") -> Rows:
    """Read and check a file of who holds it: as `read`, but one without `client` is one client's.

    Parameters
    ----------
    path, one_class
        As of `read`.
    key
        By what the file was named, for errors; a SuperNode's node config says ``data-path``.

    Raises
    ------
    InputError
        As `read`.
    """
    where = f"{key}={path}"
    arrays = _arrays(path_of(path), ("x", "y"), where)
    arrays.setdefault("client", np.zeros(np.shape(arrays["x"])[:1], np.int64))
    return _rows(arrays, one_class, where)


def _rows(arrays: dict[str, NDArray[Any]], one_class: str, where: str) -> Rows:
    table = arrays.pop("table", None)
    given: dict[str, Any] = {"test": None} | arrays
    rows = checked(**given, one_class=one_class, where=where)
    return rows if table is None else rows._replace(table=_description(table, rows, where))


def _description(table: NDArray[Any], rows: Rows, where: str) -> NDArray[np.str_]:
    """Return how rows were made of a table's columns, if that may be so."""
    if table.dtype.kind != "U" or table.shape != (1,):
        raise InputError(
            f"{where}: table is {table.dtype} of shape {table.shape}; nufed-data prepare writes "
            "one text there; leave yours out"
        )
    # Imported here: it takes a fifth of a second, in each process of a SuperNode.
    from nufed.tasks.table_transform import described

    features = described(str(table[0]), f"{where}: table").features
    if rows.x.shape[1:] != (len(features),):
        raise InputError(
            f"{where}: a row x has shape {rows.x.shape[1:]}, and table names {len(features)} "
            "features; leave it out, or prepare the table again"
        )
    return table


def _arrays(path: Path, needed: tuple[str, ...], where: str) -> dict[str, NDArray[Any]]:
    """Read the arrays of the file that we know; of Python objects, ids of clients alone."""
    if not path.exists() or path.is_dir():
        raise InputError(f"{where}: no such file; name your .npz file")
    with opened(path, where) as file:
        if file.read(6) == b"\x93NUMPY":
            raise InputError(f"{where}: is one bare array; save x, y, client with numpy.savez")
        if not zipfile.is_zipfile(file):
            if path.suffix.lower() in TABLES:
                raise InputError(
                    f"{where}: is a table, and no .npz; nufed-data prepare {path.name} client=… "
                    "target=… makes one of it, from Python nufed.prepare"
                )
            raise InputError(f"{where}: {NO_NPZ}; save it with numpy.savez")
        return readable(lambda: _members(file, needed, where), where, NO_NPZ)


def _members(file: BinaryIO, needed: tuple[str, ...], where: str) -> dict[str, NDArray[Any]]:
    """Read them from an archive, once it is known what is in it."""
    require_sound(file, KNOWN, where)
    file.seek(0)
    with np.load(file, allow_pickle=False) as archive:
        missing = [name for name in needed if name not in archive]
        if missing:
            found = ", ".join(archive.files) or "nothing"
            remedy = f"numpy.savez(path, {', '.join(f'{name}=…' for name in needed)})"
            if missing == ["client"]:
                remedy += "; one client's own file is for nufed-adapt, as it is"
            raise InputError(
                f"{where}: has no array {missing[0]!r} (found: {found}); save it with {remedy}"
            )
        return {name: _array(archive, name, where) for name in KNOWN if name in archive}


def _array(archive: Any, name: str, where: str) -> NDArray[Any]:
    """Return one array of an opened file."""
    try:
        array: NDArray[Any] = archive[name]
        return array
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
    member = name if name in archive.zip.namelist() else f"{name}.npy"
    try:
        with archive.zip.open(member) as content:
            return read_objects(content)
    except Unreadable as error:
        raise InputError(
            f"{where}: {name} is an array of Python objects, {error}; save integers or text"
        ) from error
