"""FEMNIST (Caldas et al. 2018): digits and letters of 62 classes, 28x28; a client is a writer.

As Hugging Face's `flwrlabs/femnist` has it, or LEAF's own JSON files. In both, classes are in the
order 0 … 9, A … Z, a … z.
"""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nufed.conf.errors import InputError
from nufed.conf.memory import require_room
from nufed.conf.schema import require
from nufed.conf.words import path_of
from nufed.tasks.datasets import hf
from nufed.tasks.datasets.checks import checked
from nufed.tasks.datasets.sources import opened, readable
from nufed.tasks.rows import Rows

ON_THE_HUB = "flwrlabs/femnist"
SIDE, CLASSES = 28, 62
TIMES = 6  # bytes in memory for each of JSON: a number of eight letters has an object, and a place
FETCH = "fetch it anew"


def read(path: str | None, least: int) -> Rows:
    """Return the images of the writers.

    Parameters
    ----------
    path
        A folder of LEAF's ``all_data_0.json`` …, or with folders train and test of such; or of the
        Parquet files of `ON_THE_HUB`, or as `datasets.save_to_disk` wrote it. None: from the hub.
    least
        Images that a writer has, or they are left out.

    Returns
    -------
    Rows
        x uint8 [N, 28, 28], white where there is no ink; y [N]; client [N]; test [N] where
        folders say so.

    Raises
    ------
    InputError
        If files are missing or malformed, or the download fails.
    """
    require(least >= 1, "dataset.least", least, "at least 1")
    where = f"dataset.path={path or ON_THE_HUB}"
    if path and not path_of(path).is_dir():
        raise InputError(f"{where}: no such folder; name that of the JSON or Parquet files")
    parts = _json_files(path_of(path)) if path else {}
    rows = _of_leaf(parts, where) if parts else _of_hub(path)
    if rows.x.shape[1:] != (SIDE, SIDE) or int(rows.y.max()) >= CLASSES:
        raise InputError(
            f"{where}: images are of shape {list(rows.x.shape[1:])}, and classes go up to "
            f"{rows.y.max()}; FEMNIST's are [28, 28], up to 61"
        )
    assert rows.client is not None
    _, of, size = np.unique(rows.client, return_inverse=True, return_counts=True)
    require(
        least <= size.max(), "dataset.least", least, f"at most {size.max()}, the most there are"
    )
    kept = size[of] >= least
    return Rows(*(None if array is None else array[kept] for array in rows))  # type: ignore[arg-type]


def _of_hub(path: str | None) -> Rows:
    rows = hf.read(path or ON_THE_HUB, "image", "character", "writer_id", one_class="keep")
    if rows.x.ndim == 4 and (rows.x == rows.x[:, :1]).all():  # grey, saved as if in colours
        rows = rows._replace(x=rows.x[:, 0])
    return rows


def _json_files(folder: Path) -> dict[Path, bool | None]:
    """Return LEAF's files in a folder, and whether each is for testing, if that is said."""
    halves = {half: sorted((folder / half).glob("*.json")) for half in ("train", "test")}
    if all(halves.values()):
        return {file: half == "test" for half, files in halves.items() for file in files}
    return dict.fromkeys(sorted(folder.glob("all_data*.json")))


def _of_leaf(files: dict[Path, bool | None], where: str) -> Rows:
    """Return the rows of LEAF's files, one file in memory at a time."""
    x, y, owner, test = list[Any](), list[Any](), list[str](), list[bool]()
    seen = set[tuple[str, bool | None]]()
    for file, held_out in files.items():
        for writer, images, classes in _writers(file, f"{where}: {file.name}"):
            if (writer, held_out) in seen:
                raise InputError(f"{where}: {file.name}: writer {writer} is there twice; {FETCH}")
            seen.add((writer, held_out))
            x.append(images)
            y.append(classes)
            owner += [writer] * len(classes)
            test += [bool(held_out)] * len(classes)
    if not x:
        raise InputError(f"{where}: holds no images; {FETCH}")
    split = None if None in files.values() else np.array(test)
    arrays = np.concatenate(x), np.concatenate(y), np.array(owner), split
    return checked(*arrays, one_class="keep", where=where)


def _writers(file: Path, where: str) -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.int64]]]:
    """Yield the writers of a file, with images [n, 28, 28] and classes [n]."""
    with opened(file, where) as source:
        require_room(TIMES * file.stat().st_size, where, "takes")
        content = readable(lambda: json.load(source), where, f"is no JSON of LEAF; {FETCH}")
    whole = content if isinstance(content, dict) else {}
    users, counts, data = (whole.get(key) for key in ("users", "num_samples", "user_data"))
    known = isinstance(users, list) and isinstance(counts, list) and isinstance(data, dict)
    if not (known and users and counts and data):
        raise InputError(f"{where}: lacks users, num_samples or user_data; {FETCH}")
    if sorted(map(str, users)) != sorted(data) or len(counts) != len(users):
        raise InputError(f"{where}: users, num_samples and user_data do not agree; {FETCH}")
    for user, count in zip(map(str, users), counts, strict=True):
        arrays = readable(
            partial(_arrays, data[user]), where, f"writer {user} has no arrays x and y; {FETCH}"
        )
        if count != 0:
            yield user, *_checked_writer(*arrays, count, f"{where}: writer {user}")


def _arrays(of: Any) -> tuple[NDArray[np.float64], NDArray[Any]]:
    return np.array(of["x"], np.float64), np.array(of["y"])


def _checked_writer(
    x: NDArray[np.float64], y: NDArray[Any], count: int, where: str
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    if x.shape != (count, SIDE * SIDE) or y.shape != (count,) or y.dtype.kind != "i":
        raise InputError(
            f"{where} has {count} images by num_samples, x {list(x.shape)} and y {list(y.shape)} "
            f"of {y.dtype}; must be [n, 784] and [n] integers: {FETCH}"
        )
    grey = np.rint(255 * x)
    if not (abs(grey - 255 * x) < 1e-3).all() or grey.min() < 0 or grey.max() > 255:
        raise InputError(f"{where} has x that is no grey level from 0 to 1, k/255; {FETCH}")
    return grey.astype(np.uint8).reshape(-1, SIDE, SIDE), y
