"""The user's own images: one folder a client, in it one folder a class, client/class/image.png.

A split of one's own is one folder more, around them or within each client's:
train/client/class/image.png, or client/train/class/image.png, and test likewise.
"""

import logging
import os
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nufed.conf.errors import InputError
from nufed.conf.words import path_of, written
from nufed.tasks.datasets.checks import checked, say_numbers
from nufed.tasks.datasets.images import decode
from nufed.tasks.datasets.splits import TEST, TRAIN, are_splits
from nufed.tasks.ids import numbered
from nufed.tasks.rows import Rows

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
DEEPEST = 8  # folders that are looked into, for images at a wrong place: links may lead in circles

log = logging.getLogger("nufed")


def read(path: str | None, size: int | list[int] | None = None, one_class: str = "refuse") -> Rows:
    """Read path/client/class/image; classes are numbered over all clients, in sorted order.

    Parameters
    ----------
    path
        The folder of the clients' folders, or of their folders train and test.
    size
        Height and width that images are scaled to, or one number for both. None: they have one.
    one_class
        ``refuse`` or ``keep`` clients whose images are all of one class.

    Returns
    -------
    Rows
        x uint8, [N, H, W] if all images are grey, else [N, 3, H, W]; y [N]; client [N] names; test
        [N] where folders train and test say so.

    Raises
    ------
    InputError
        If folders are not laid out so, or an image cannot be read or is of another size.
    """
    if not path:
        raise InputError("dataset.path: has no value; name the folder of the clients' folders")
    where, root = f"dataset.path={path}", path_of(path)
    if not root.is_dir():
        raise InputError(f"{where}: no such folder; name that of client/class/image.png")
    files = _images(root, where)
    clients, classes, test = _laid_out([file.relative_to(root) for file in files], path, where)
    names, y = numbered(np.array(classes))
    say_numbers("classes", names.tolist(), where)
    pixels = decode(files, size, where)
    return checked(pixels, y, np.array(clients), test, one_class=one_class, where=where)


def _images(root: Path, where: str) -> list[Path]:
    """Return the images, in sorted order; other files are left out, which is said."""
    files, others = list[Path](), Counter[str]()
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        depth = len(Path(folder).relative_to(root).parts)
        if depth > DEEPEST:
            folders.clear()
        for name in names:
            suffix = os.path.splitext(name)[1].lower()
            if suffix not in SUFFIXES or name.startswith("."):
                others[suffix or name] += 1
            else:
                files.append(Path(folder, name))
    if others:
        kinds = ", ".join(sorted(others))
        log.info("%s: %d files that are no images are left out (%s)", where, others.total(), kinds)
    if not files:
        raise InputError(
            f"{where}: holds no image client/class/image ({', '.join(SUFFIXES)}); put them there"
        )
    return sorted(files)


def _laid_out(
    files: Sequence[Path], path: str, where: str
) -> tuple[list[str], list[str], np.ndarray | None]:
    """Return of each image whose it is, its class, and whether it is for testing.

    Raises
    ------
    InputError
        If folders are no clients with classes.
    """
    usual = 3 if all(len(file.parts) == 4 for file in files) else 2
    for file in files:
        if len(file.parts) != usual + 1:
            raise InputError(
                f"{where}: {file} is not in client/class/; make a folder for each client, and in "
                f"it one for each class{_without_clients(path) * (len(file.parts) == 2)}"
            )
    levels = [list(level) for level in zip(*(file.parts[:-1] for file in files), strict=True)]
    if usual == 2:
        if are_splits(levels[0]):
            found = ", ".join(sorted(set(levels[0])))
            raise InputError(
                f"{where}: its folders are splits ({found}), not clients; images are found as "
                f"client/class/image{_without_clients(path)}"
            )
        return levels[0], levels[1], None
    at = next((i for i in (0, 1) if are_splits(levels[i])), None)
    if at is None:
        raise InputError(
            f"{where}: {files[0]} is not in client/class/; of the folders on its way, none is a "
            "split (train, test)"
        )
    split = levels.pop(at)
    return levels[0], levels[1], _held_out(split, where)


def _held_out(split: Sequence[str], where: str) -> np.ndarray:
    """Return which images are for testing, by the name of a folder that they are in."""
    other = next((name for name in split if name.lower() not in (*TRAIN, *TEST)), None)
    if other is not None:
        raise InputError(
            f"{where}: a folder {other} is neither train nor test; move its images into train, "
            "which validation rows are taken from"
        )
    return np.array([name.lower() in TEST for name in split])


def _without_clients(path: str) -> str:
    """Say how images without clients are made a federation."""
    words = ["dataset=hf", f"dataset.path={written(path)}", "partition=dirichlet"]
    return f"; without clients, say {shlex.join(words)}, which makes some"
