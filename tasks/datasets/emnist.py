"""EMNIST (Cohen et al. 2017): handwritten digits and letters, 28x28, in six splits."""

import numpy as np

from nufed.conf.errors import InputError
from nufed.conf.schema import require
from nufed.tasks.datasets.idx_images import read_idx
from nufed.tasks.rows import Rows

CLASSES = {"balanced": 47, "byclass": 62, "bymerge": 47, "letters": 26, "digits": 10, "mnist": 10}
"""Of each split."""
LARGEST = 1 << 30  # bytes of a file, unpacked: the largest of these has 547,178,704


def read(path: str | None, split: str) -> Rows:
    """Return the rows from `path`, or from torchvision's download, as one sees them.

    Parameters
    ----------
    path
        A folder with four files such as ``emnist-balanced-train-images-idx3-ubyte``, gzipped or
        not, of that split. None: torchvision downloads those of all splits.
    split
        Such as ``balanced``; see `CLASSES`.

    Returns
    -------
    Rows
        x uint8 [N, 28, 28], upright: in the files, rows and columns of an image are swapped.
        y int64 [N] from 0 on: of ``letters``, A is 0 here and 1 in the files.

    Raises
    ------
    InputError
        As `read_idx`.
    """
    require(split in CLASSES, "dataset.split", split, " | ".join(CLASSES))
    files = [
        f"emnist-{split}-{half}-{kind}-ubyte"
        for half in ("train", "test")
        for kind in ("images-idx3", "labels-idx1")
    ]
    rows = read_idx("EMNIST", path, files=files, largest=LARGEST, split=split)
    y = rows.y.astype(np.int64) - (split == "letters")
    if y.min() < 0 or y.max() >= CLASSES[split]:
        raise InputError(
            f"dataset.split={split}: has {CLASSES[split]} classes, and its files labels from "
            f"{rows.y.min()} to {rows.y.max()}; fetch them anew"
        )
    return Rows(np.ascontiguousarray(rows.x.swapaxes(1, 2)), y)
