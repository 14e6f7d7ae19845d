"""The user's own data: one .npz file; `client` says of every row whose it is."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conf.errors import InputError
from tasks.rows import Rows

ARRAYS = ("x", "y", "client")


def read(path: str | None, one_class: str = "refuse") -> Rows:
    """Read and check x [N, …], y [N], client [N] integers and optionally test [N] booleans.

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
    return _checked(_arrays(Path(path).expanduser(), ARRAYS, where), one_class, where)


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
    return _checked(arrays, one_class, where)


def _checked(arrays: dict[str, NDArray[Any]], one_class: str, where: str) -> Rows:
    """Return the arrays of a file as rows, if they can be used."""
    if one_class not in ("refuse", "keep"):
        raise InputError(f"dataset.one_class={one_class}: must be refuse | keep")
    x, y, client = (arrays[name] for name in ARRAYS)
    test = arrays.get("test")
    for name, array in arrays.items():
        if array.ndim == 0 or len(array) != len(x):
            raise InputError(
                f"{where}: {name} has shape {array.shape}, x {x.shape}; give one entry a row"
            )
    if len(x) == 0:
        raise InputError(f"{where}: holds no rows")
    for name in ("x", "y"):
        array = arrays[name]
        if array.dtype.kind not in "fiub":
            raise InputError(f"{where}: {name} is of type {array.dtype}; give numbers")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            row = int(np.argwhere(~np.isfinite(array))[0][0])
            raise InputError(
                f"{where}: {name} has NaN or infinity, first in row {row}; drop or fill it"
            )
    if y.dtype.kind in "iub":
        if y.ndim != 1 or y.min() < 0:
            raise InputError(
                f"{where}: y holds classes, so it must be [N] integers from 0; number them so"
            )
        y = y.astype(np.int64)
    else:
        y = _native(y)
    x = _native(x)
    if client.dtype.kind not in "iu" or client.ndim != 1:
        raise InputError(
            f"{where}: client is {client.dtype} {list(client.shape)}; give [N] integers"
        )
    if test is not None and (test.dtype != np.bool_ or test.ndim != 1):
        raise InputError(f"{where}: test is {test.dtype} {list(test.shape)}; give [N] booleans")
    if one_class == "refuse" and y.dtype == np.int64:
        _refuse_one_class(y, client, where)
    return Rows(x, y, client.astype(np.int64), test)


def _native(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array in a type that torch knows: this machine's byte order, 8 bytes at most."""
    native = array.dtype.newbyteorder("=")
    return array.astype(np.float64 if native == np.longdouble else native, copy=False)


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
                raise InputError(
                    f"{where}: has no array {missing[0]!r} (found: {found}); "
                    f"save it with numpy.savez(path, {', '.join(f'{name}=…' for name in needed)})"
                )
            return {name: archive[name] for name in (*ARRAYS, "test") if name in archive}
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        if "allow_pickle" in str(error):
            reason = "an array of Python objects: rows of ragged length? Pad them to one shape"
        else:
            reason = f"not a readable .npz ({error}); save it with numpy.savez"
        raise InputError(f"{where}: {reason}") from error


def _refuse_one_class(y: NDArray[np.int64], client: NDArray[Any], where: str) -> None:
    """Raise if there is a client whose rows are all of one class."""
    pairs = np.unique(np.stack([client.astype(np.int64), y]), axis=1)
    ids, classes = np.unique(pairs[0], return_counts=True)
    poor = ids[classes == 1]
    if len(poor):
        raise InputError(
            f"{where}: client {poor[0]} has one class only ({len(poor)} of {len(ids)} clients do), "
            "which no accuracy can tell from a constant; drop it, or say dataset.one_class=keep"
        )
