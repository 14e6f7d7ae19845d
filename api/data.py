"""Data that are given from Python: arrays become the .npz file that `dataset=npz` reads."""

import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nufed.cli.failures import FILES
from nufed.conf.errors import InputError
from nufed.conf.own import home
from nufed.conf.words import path_of, written
from nufed.tasks.datasets.checks import checked
from nufed.tasks.rows import Rows, is_frame

ARRAYS = ("x", "y", "client", "test")
FORMS = "give (x, y, client), (x, y, client, test), a mapping of these names, or a file"
PREPARE = "nufed.prepare(table, client=…, target=…) makes rows of columns as they are"


def data_words(data: object) -> list[str]:
    """Return the words that choose data.

    Parameters
    ----------
    data
        A file, or arrays: ``(x, y, client)``, ``(x, y, client, test)``, a mapping of these names,
        or rows of `nufed.prepare`.

    Raises
    ------
    InputError
        If they are neither, cannot be used, or not be kept.
    """
    if isinstance(data, str | Path):
        suffix = path_of(data).suffix
        if suffix not in FILES:
            raise InputError(
                f"data={data}: is no {', '.join(FILES)}; say what it is, as in "
                "'dataset=image_folder dataset.path=…'"
            )
        return [f"dataset={FILES[suffix]}", f"dataset.path={written(data)}"]
    arrays = _arrays(data)
    if "client" not in arrays:
        raise InputError("data: has no client, which says whose each row is; give (x, y, client)")
    _checked(arrays)
    if isinstance(data, Rows) and data.table is not None:
        arrays |= {"table": data.table}
    return ["dataset=npz", f"dataset.path={written(_kept(arrays))}"]


def rows_of(x: Any, y: Any, client: Any = None, test: Any = None) -> Rows:
    """Return arrays as rows.

    Raises
    ------
    InputError
        If they cannot be used.
    """
    given = {"x": x, "y": y, "client": client, "test": test}
    return _checked({name: _array(name, each) for name, each in given.items() if each is not None})


def _arrays(data: Any) -> dict[str, NDArray[Any]]:
    if is_frame(data):
        raise InputError(f"data: is a {type(data).__name__}, a table; {PREPARE}")
    if isinstance(data, Rows):
        named = {name: getattr(data, name) for name in ARRAYS}
    elif isinstance(data, Mapping):
        named = dict(data)
    elif isinstance(data, Sequence) and 2 <= len(data) <= len(ARRAYS):
        named = dict(zip(ARRAYS, data, strict=False))
    else:
        raise InputError(f"data: is a {type(data).__name__}; {FORMS}")
    wrong = [str(name) for name in named if name not in ARRAYS]
    if wrong or not {"x", "y"} <= named.keys():
        raise InputError(f"data: has {', '.join(map(str, named)) or 'nothing'}; {FORMS}")
    return {name: _array(name, each) for name, each in named.items() if each is not None}


def _array(name: str, given: Any) -> NDArray[Any]:
    """Return what was given as an array; of Python objects, text or integers as such."""
    if hasattr(given, "detach"):  # of torch
        given = given.detach().cpu()
    try:
        array = np.asarray(given)
    except ValueError as error:
        raise InputError(f"data: {name} is no array ({error}); give one entry a row") from error
    if array.dtype != object:
        return array
    kinds = {type(each) for each in array.flat}
    if kinds and all(issubclass(kind, str) for kind in kinds):
        return array.astype(str)
    if kinds and all(issubclass(kind, int | np.integer) for kind in kinds):
        return array.astype(np.int64)
    said = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise InputError(
        f"data: {name} is an array of Python objects ({said}); give numbers, or text for clients; "
        f"{PREPARE}"
    )


def _checked(arrays: Mapping[str, NDArray[Any]]) -> Rows:
    for name in ("x", "y"):
        if arrays[name].dtype.kind == "U":
            raise InputError(
                f"data: {name} is text; give numbers, as numpy.unique({name}, "
                f"return_inverse=True)[1]; {PREPARE}"
            )
    given: Any = {name: arrays.get(name) for name in ARRAYS}
    return checked(**given, one_class="keep", where="data")


def _kept(arrays: Mapping[str, NDArray[Any]]) -> Path:
    """Write arrays under $NUFED_DATA, once: the same are the same file, also of another run."""
    found = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        found.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    folder = (home() / "arrays").absolute()
    file = folder / f"{found.hexdigest()[:32]}.npz"
    if file.exists():
        return file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".", delete=False) as draft:
            try:
                np.savez(draft, allow_pickle=False, **arrays)
                os.replace(draft.name, file)
            except BaseException:
                os.unlink(draft.name)
                raise
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror}); make room, or set NUFED_DATA"
        ) from error
    return file
