"""The user's own images: one folder a client, in it one folder a class, client/class/image.png."""

import logging
import os
from collections import Counter
from pathlib import Path

import numpy as np

from conf.errors import InputError
from conf.words import path_of
from tasks.datasets.checks import checked, numbered, say_numbers
from tasks.datasets.images import decode
from tasks.rows import Rows

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")

DEEPEST = 8  # folders that are looked into, for images at a wrong place: links may lead in circles

log = logging.getLogger("nufed")


def read(path: str | None, size: int | list[int] | None = None, one_class: str = "refuse") -> Rows:
    """Read path/client/class/image; classes are numbered over all clients, in sorted order.

    Parameters
    ----------
    path
        The folder of the clients' folders.
    size
        Height and width that images are scaled to, or one number for both. None: they have one.
    one_class
        ``refuse`` or ``keep`` clients whose images are all of one class.

    Returns
    -------
    Rows
        x uint8, [N, H, W] if all images are grey, else [N, 3, H, W]; y [N]; client [N] names.

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
    clients, classes = zip(*(file.parts[-3:-1] for file in files), strict=True)
    names, y = numbered(classes)
    say_numbers("classes", names, where)
    return checked(
        decode(files, size, where), y, np.array(clients), None, one_class=one_class, where=where
    )


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
                continue
            if depth != 2:
                raise InputError(
                    f"{where}: {Path(folder, name).relative_to(root)} is not in client/class/; "
                    "make a folder for each client, and in it one for each class"
                )
            files.append(Path(folder, name))
    if others:
        kinds = ", ".join(sorted(others))
        log.info("%s: %d files that are no images are left out (%s)", where, others.total(), kinds)
    if not files:
        raise InputError(
            f"{where}: holds no image client/class/image ({', '.join(SUFFIXES)}); put them there"
        )
    return sorted(files)
