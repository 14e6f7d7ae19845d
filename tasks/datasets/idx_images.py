"""Image data sets that torchvision reads from four IDX files: MNIST and its relatives."""

import gzip
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nufed.conf.errors import InputError, reason
from nufed.conf.words import path_of
from nufed.tasks.datasets.sources import opened, torchvision_datasets
from nufed.tasks.rows import Rows

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
LARGEST = 1 << 26  # bytes of one, unpacked: the largest of these has 47,040,016


def read_idx(
    dataset: str,
    path: str | None,
    system: Path | None = None,
    *,
    files: Sequence[str] = FILES,
    largest: int = LARGEST,
    **options: str,
) -> Rows:
    """Return the train and test images of a torchvision data set together.

    Parameters
    ----------
    dataset
        torchvision's name of it, such as ``FashionMNIST``.
    path
        A folder with the four files, gzipped or not. None: `system`, else torchvision downloads.
    system
        Where a package of the operating system puts them.
    files, largest
        Their names, in the order of `FILES`, and bytes that one has at most, unpacked.
    options
        What torchvision asks for besides, to read such a data set.

    Returns
    -------
    Rows
        x uint8 [N, 28, 28], y int64 [N]; each client's test split is made from its own rows.

    Raises
    ------
    InputError
        If files are missing or malformed, or the download fails.
    """
    folder = path_of(path) if path else system
    local = folder is not None and any(
        (folder / f).exists() or (folder / f"{f}.gz").exists() for f in files
    )
    if path and not local:
        raise InputError(
            f"dataset.path={path}: holds none of {', '.join(files)} (.gz); name their folder"
        )
    with tempfile.TemporaryDirectory() as root:
        if local:
            assert folder is not None
            _unpack(folder, Path(root) / dataset / "raw", files, largest)
        where = f"dataset.path={folder}" if local else dataset
        parts = [_open(dataset, root, where, train, not local, options) for train in (True, False)]
        return Rows(
            np.concatenate([part.data.numpy() for part in parts]),
            np.concatenate([part.targets.numpy() for part in parts]).astype(np.int64),
        )


def _unpack(source: Path, target: Path, files: Sequence[str], largest: int) -> None:
    """Lay the four files out as torchvision wants them: unpacked, no links."""
    target.mkdir(parents=True)
    where = f"dataset.path={source}"
    for name in files:
        plain, packed = source / name, source / f"{name}.gz"
        if not plain.exists() and not packed.exists():
            raise InputError(
                f"dataset.path={source}: {name} (or {name}.gz) is missing; put it there"
            )
        try:
            with opened(plain if plain.exists() else packed, where) as file:
                unpacked = file if plain.exists() else gzip.GzipFile(fileobj=file)
                content = unpacked.read(largest + 1)
            if len(content) > largest:
                raise InputError(f"{where}: {name} has more than {largest:,} bytes; fetch it anew")
            (target / name).write_bytes(content)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(
                f"dataset.path={source}: {name} cannot be read ({error}); fetch it anew"
            ) from error


def _open(
    dataset: str, root: str, where: str, train: bool, download: bool, options: dict[str, str]
) -> Any:
    """Let torchvision read, and if need be download, one half of the data set."""
    kinds = torchvision_datasets()
    try:
        kind = getattr(kinds, dataset)
        part = kind(root, train=train, download=download, **options)
    except (OSError, RuntimeError, ValueError, LookupError, AssertionError) as error:
        remedy = (
            "say dataset.path=FOLDER with the four IDX files"
            if download
            else "fetch the files anew"
        )
        what = "download" if download else "files"
        raise InputError(f"{where}: the {what} failed ({reason(error)}); {remedy}") from error
    if len(part.data) != len(part.targets):
        half = "train" if train else "t10k"
        raise InputError(
            f"{where}: {len(part.data)} images but {len(part.targets)} labels in the {half} files; "
            "fetch the files anew"
        )
    return part
