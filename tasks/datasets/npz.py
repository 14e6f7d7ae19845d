"""The user's own data: one .npz file; `client` says of every row whose it is."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conf.errors import InputError
from tasks.datasets.checks import checked
from tasks.rows import Rows

ARRAYS = ("x", "y", "client")


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
    arrays = _arrays(Path(path).expanduser(), ARRAYS, where)
    return checked(**_padded(arrays), one_class=one_class, where=where)


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
    arrays = _arrays(Path(path).expanduser(), ("x", "y"), where)
    arrays.setdefault("client", np.zeros(np.shape(arrays["x"])[:1], np.int64))
    return checked(**_padded(arrays), one_class=one_class, where=where)


def _padded(arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    return {"test": None} | arrays


def _arrays(path: Path, needed: tuple[str, ...], where: str) -> dict[str, NDArray[Any]]:
    """Read the arrays of the file that we know; no pickle, so no arrays of Python objects."""
    if not path.is_file():
        raise InputError(f"{where}: no such file; name your .npz file")
    with path.open("rb") as file:
        if file.read(6) == b"\x93NUMPY":
            raise InputError(f"{where}: is one bare array; save x, y, client with numpy.savez")
    if not zipfile.is_zipfile(path):
        raise InputError(f"{where}: not a readable .npz; save it with numpy.savez")
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name in needed if name not in archive]
            if missing:
                found = ", ".join(archive.files) or "nothing"
                remedy = f"numpy.savez(path, {', '.join(f'{name}=…' for name in needed)})"
                if missing == ["client"]:
                    remedy += "; one client's own file is for nufed-adapt, as it is"
                raise InputError(
                    f"{where}: has no array {missing[0]!r} (found: {found}); save it with {remedy}"
                )
            return {name: archive[name] for name in (*ARRAYS, "test") if name in archive}
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        if "allow_pickle" in str(error):
            reason = "an array of Python objects, such as text or ragged rows; save plain numbers"
        else:
            reason = f"not a readable .npz ({error}); save it with numpy.savez"
        raise InputError(f"{where}: {reason}") from error
