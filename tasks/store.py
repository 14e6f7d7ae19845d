"""Data sets on disk: prepared once into memory-mapped arrays, then only mapped.

    $NUFED_DATA/<data set>-<key>/{x,y,client,test,table}.npy, digest
    $NUFED_DATA/<data set>-<key>/<partition>-<key>/{index,offset,train,names,…}.npy

A key is a digest of the configuration (and of the user's file as it stands), so another seed or
option is another folder. Folders appear whole, by one rename: processes may prepare side by side.
The digest in a folder is that of its rows, wherever they were read from.
"""

import hashlib
import inspect
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nufed.conf.errors import InputError, reason
from nufed.conf.making import find
from nufed.conf.own import home as home
from nufed.conf.schema import PartitionConfig
from nufed.conf.words import path_of
from nufed.tasks.datasets.targets import gaps
from nufed.tasks.ids import as_ids
from nufed.tasks.partitions import Partition, partition
from nufed.tasks.rows import Rows

FORMAT = 4  # raised when what lies in a folder changes its meaning
DIGEST = "digest"
BLOCK = 16 << 20  # bytes


@dataclass(frozen=True)
class FederatedData:
    """A data set and who holds which of its rows; arrays are mapped from disk, not loaded."""

    x: NDArray[np.generic]
    y: NDArray[np.generic]
    partition: Partition
    outputs: int | None = None
    """Outputs of a model, where not all rows are here to tell."""
    tokens: int | None = None
    """So too."""
    digest: str | None = None
    """Of the rows as they were prepared, whatever file they came from; None if none are here."""
    table: str | None = None
    """How rows were made of a table's columns, as JSON; None where they were not."""

    @property
    def rows_here(self) -> bool:
        """Whether this process has any rows; those of private data are with the clients."""
        return len(self.x) > 0

    @property
    def classes(self) -> bool:
        """Whether y holds classes; else it holds regression targets."""
        return self.y.dtype.kind == "i"

    @property
    def num_outputs(self) -> int:
        """Outputs that a model needs: the classes, or the targets a row."""
        if self.outputs is not None:
            return self.outputs
        return int(self.y.max()) + 1 if self.classes else int(np.prod(self.y.shape[1:]))

    @property
    def gaps(self) -> str | None:
        """What to say of classes of which most do not occur; None if there is nothing to say."""
        return gaps(self.y, self.num_outputs) if self.classes and self.rows_here else None

    @property
    def num_tokens(self) -> int | None:
        """One above the largest x, where x are integers and no pixels."""
        if self.tokens is not None or self.x.dtype.kind not in "iu" or self.x.dtype == np.uint8:
            return self.tokens
        return int(self.x.max()) + 1 if len(self.x) else None

    @property
    def num_clients(self) -> int:
        """Clients of the federation, n."""
        return len(self.partition.train)


def load(dataset: dict[str, Any], config: PartitionConfig) -> FederatedData:
    """Map a federated data set, preparing it first where that was not done before.

    Parameters
    ----------
    dataset
        The composed `dataset` group: `_target_` (the data set's `read`), `name`, its arguments.
    config
        The composed `partition` group.

    Raises
    ------
    InputError
        If the data cannot be read or used, or `$NUFED_DATA` cannot be written.
    """
    rows, folder = load_rows(dataset)
    division = folder / f"{_plain(config.name)}-{_key(asdict(config))}"
    if not division.exists():
        made = vars(partition(rows, config)).items()
        _write(division, {n: None if a is None else np.atleast_1d(a) for n, a in made})
    index, offset, train = (np.load(division / f"{n}.npy") for n in ("index", "offset", "train"))
    discarded, resplit = (np.load(division / f"{n}.npy").item() for n in ("discarded", "resplit"))
    found = Partition(index, offset, train, _map(division, "names"), discarded, resplit)
    table = None if rows.table is None else str(rows.table[0])
    return FederatedData(rows.x, rows.y, found, digest=_digest(folder, rows._asdict()), table=table)


def load_rows(dataset: dict[str, Any]) -> tuple[Rows, Path]:
    """Map the rows of a data set, and return where they lie; arguments and errors as of `load`."""
    path = dataset.get("path")
    if path is not None and not isinstance(path, str):
        raise InputError(f"dataset.path={path}: must be a path; put a number in quotes")
    source = _source(path)
    code = [_code(dataset, key) for key in ("_target_", "source") if key in dataset]
    folder = home() / f"{_plain(dataset['name'])}-{_key(dataset, source, *code)}"
    if not folder.exists():
        _write(folder, _read(dataset)._asdict())
    return Rows(*(_map(folder, name) for name in Rows._fields)), folder  # type: ignore[arg-type]


def _read(dataset: dict[str, Any]) -> Rows:
    """Call the data set's `read` with its arguments."""
    arguments = {key: value for key, value in dataset.items() if key not in ("_target_", "name")}
    read: Callable[..., Rows] = find(dataset["_target_"])
    known = inspect.signature(read).parameters
    for key, value in arguments.items():
        if key not in known:
            options = ", ".join(known) or "no options"
            raise InputError(f"dataset.{key}={value}: {dataset['name']} knows {options}")
    try:
        rows = read(**arguments)
    except (TypeError, ValueError, OverflowError) as error:
        given = ", ".join(f"{key}={value}" for key, value in arguments.items())
        raise InputError(f"dataset={dataset['name']} with {given}: {reason(error)}") from error
    y, where = np.asarray(rows.y), f"dataset={dataset['name']}"
    client = None if rows.client is None else as_ids(np.asarray(rows.client), where)
    return rows._replace(y=y.astype(np.int64) if y.dtype.kind in "iub" else y, client=client)


def _source(path: str | None) -> list[tuple[str, int, int]]:
    """Tell a file, or all files in a folder, from any other and from what they were before."""
    if not path:
        return []
    given = path_of(path).resolve()
    if not given.is_dir():
        return [_state(str(given), given.stat())] if given.is_file() else []
    try:
        return sorted(_tree(given, set()))
    except OSError as error:
        raise InputError(f"dataset.path={path}: cannot be read ({error.strerror})") from error


def _tree(folder: Path, seen: set[tuple[int, int]]) -> Iterator[tuple[str, int, int]]:
    """Yield the files of a folder and of those within, each once; a second for 100,000 files."""
    this = folder.stat()
    if (this.st_dev, this.st_ino) in seen:
        return  # a link leads back to it
    seen.add((this.st_dev, this.st_ino))
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _tree(Path(entry.path), seen)
            elif entry.is_file():
                yield _state(entry.path, entry.stat())


def _state(file: str, stat: os.stat_result) -> tuple[str, int, int]:
    return file, stat.st_size, stat.st_mtime_ns


def _code(dataset: dict[str, Any], key: str) -> str:
    """Return a digest of the file that defines a data set's `read`: a changed one reads anew."""
    try:
        file = inspect.getsourcefile(find(dataset[key]))
    except (ImportError, ValueError, TypeError) as error:
        raise InputError(f"dataset.{key}={dataset[key]}: {reason(error)}") from error
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""


def _plain(name: str) -> str:
    """Return a name as part of a folder's, for whoever lists them: it leads nowhere else."""
    return re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:40]


def _key(*parts: object) -> str:
    """Return a short digest of configuration values."""
    return hashlib.sha256(json.dumps([FORMAT, *parts], sort_keys=True).encode()).hexdigest()[:12]


def _digest(folder: Path, arrays: Mapping[str, NDArray[Any] | None]) -> str:
    """Return the digest of arrays; taken once, for it reads them from beginning to end."""
    file = folder / DIGEST
    if file.exists():
        return file.read_text()
    found = hashlib.sha256()
    for name, array in arrays.items():
        if array is None:
            continue
        found.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        step = max(1, BLOCK // max(1, array[:1].nbytes))
        for start in range(0, len(array), step):
            found.update(np.ascontiguousarray(array[start : start + step]).tobytes())
    with suppress(OSError):  # of another's folder, prepared before there were digests
        draft = folder / f".{DIGEST}-{os.getpid()}"
        draft.write_text(found.hexdigest())
        draft.replace(file)
    return found.hexdigest()


def _map(folder: Path, name: str) -> NDArray[Any] | None:
    file = folder / f"{name}.npy"
    return np.load(file, mmap_mode="r") if file.exists() else None


def _write(folder: Path, arrays: Mapping[str, NDArray[Any] | None]) -> None:
    """Write the arrays that are there into a new folder that appears complete or not at all."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            for name, array in arrays.items():
                if array is not None:
                    np.save(draft / f"{name}.npy", array, allow_pickle=False)
            _digest(draft, arrays)
            draft.chmod(0o755)  # mkdtemp makes it private; a shared data folder is the point
            draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        if not folder.exists():  # else another process prepared it meanwhile
            raise InputError(
                f"NUFED_DATA={folder.parent}: cannot be written ({error.strerror or error}); "
                "name another folder"
            ) from error
