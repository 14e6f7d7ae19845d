"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): 60,000 photos each, 32x32, in colours.

Read from the binary version of the authors' archives: that for Python is pickled, which is code.
"""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nufed.conf.errors import InputError, reason
from nufed.conf.schema import require
from nufed.conf.words import path_of
from nufed.tasks.datasets.sources import opened, torchvision_datasets
from nufed.tasks.rows import Rows

HOME = "https://www.cs.toronto.edu/~kriz"
PIXELS = 3 * 32 * 32
FILES_10 = {f"data_batch_{i}.bin": 10_000 for i in range(1, 6)} | {"test_batch.bin": 10_000}
FILES_100 = {"train.bin": 50_000, "test.bin": 10_000}
"""With the images in each; they come after their labels, of one byte each."""
LABELS = {"coarse": 20, "fine": 100}
"""Of CIFAR-100, in the order of the file, and how many classes there are."""
PICKLED = ("data_batch_1", "train")


def cifar10(path: str | None) -> Rows:
    """Return x uint8 [60000, 3, 32, 32] and y [60000] in 0 … 9, train before test images.

    Parameters
    ----------
    path
        A folder with ``data_batch_1.bin`` … ``test_batch.bin``. None: they are downloaded.

    Raises
    ------
    InputError
        If files are missing or malformed, or the download fails.
    """
    md5 = "c32a1d4ab5d03f1284b67883e8d87530"
    labels, x = _read(path, "cifar-10", "cifar-10-batches-bin", FILES_10, [10], md5)
    return Rows(x, labels[:, 0])


def cifar100(path: str | None, labels: str) -> Rows:
    """Return x uint8 [60000, 3, 32, 32] and y [60000], train before test images.

    Parameters
    ----------
    path
        A folder with ``train.bin`` and ``test.bin``. None: they are downloaded.
    labels
        ``fine``, 100 classes, or ``coarse``, 20 of five each.

    Raises
    ------
    InputError
        If files are missing or malformed, or the download fails.
    """
    require(labels in LABELS, "dataset.labels", labels, " | ".join(sorted(LABELS, reverse=True)))
    md5 = "03b5dce01913d631647c71ecec9e9cb8"
    classes = [*LABELS.values()]
    both, x = _read(path, "cifar-100", "cifar-100-binary", FILES_100, classes, md5)
    return Rows(x, both[:, [*LABELS].index(labels)])


def _read(
    path: str | None, name: str, inside: str, files: Mapping[str, int], classes: list[int], md5: str
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Return the labels [N, kinds] and the images of all files, from a folder or the download.

    Parameters
    ----------
    name, inside, md5
        The archive's name, the folder in it, and its checksum.
    files
        Those in it, with the images in each.
    classes
        Of each kind of labels.
    """
    if path:
        where, folder = f"dataset.path={path}", path_of(path)
        if not (folder / next(iter(files))).exists() and (folder / inside).is_dir():
            folder = folder / inside
        return _joined(folder, files, classes, where)
    with tempfile.TemporaryDirectory() as root:
        _download(f"{HOME}/{name}-binary.tar.gz", root, md5, f"dataset={name.replace('-', '')}")
        return _joined(Path(root, inside), files, classes, f"{name}-binary.tar.gz")


def _joined(
    folder: Path, files: Mapping[str, int], classes: list[int], where: str
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    missing = [name for name in files if not (folder / name).exists()]
    if missing:
        pickled = any((folder / name).exists() for name in PICKLED)
        version = (
            ": these files are of the version for Python, pickled, which is not read" * pickled
        )
        raise InputError(
            f"{where}: {missing[0]} is missing{version}; take the files of the binary version"
        )
    parts = [_records(folder / name, n, classes, where) for name, n in files.items()]
    both = np.concatenate(parts)
    kinds = len(classes)
    return both[:, :kinds].astype(np.int64), both[:, kinds:].reshape(-1, 3, 32, 32)


def _records(file: Path, images: int, classes: list[int], where: str) -> NDArray[np.uint8]:
    """Return the bytes of a file, a row an image: its labels, then its pixels."""
    width = len(classes) + PIXELS
    with opened(file, f"{where}: {file.name}") as source:
        size = os.fstat(source.fileno()).st_size
        if size != images * width:
            raise InputError(
                f"{where}: {file.name} has {size:,} bytes; {images:,} images have "
                f"{images * width:,}: fetch it anew"
            )
        rows = np.frombuffer(source.read(), np.uint8).reshape(images, width)
    for kind, number in enumerate(classes):
        if (most := int(rows[:, kind].max())) >= number:
            raise InputError(
                f"{where}: {file.name} has a label {most}, of {number} classes; fetch it anew"
            )
    return rows


def _download(url: str, root: str, md5: str, where: str) -> None:
    """Fetch and unpack an archive, if its checksum is right."""
    utils = torchvision_datasets().utils
    try:
        utils.download_and_extract_archive(url, root, md5=md5)
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"{where}: the download failed ({reason(error)}); say dataset.path=FOLDER with the "
            "files of the binary version"
        ) from error
