"""Private data: each SuperNode reads a file of its own, and the server knows their shapes alone.

The file is named by the SuperNode's node config, never by the run's configuration, which is the
server's. A file with k clients holds the clients first, first + stride, … of the federation.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nufed.conf.errors import InputError
from nufed.conf.schema import PartitionConfig, require
from nufed.tasks.partitions import Partition
from nufed.tasks.store import FederatedData, load

NAME = "private"


class Local(NamedTuple):
    """A SuperNode's own file."""

    path: str
    first: int
    """Its first client, among those of the federation."""
    stride: int
    """From one of its clients to the next."""


def outline(dataset: dict[str, Any]) -> FederatedData:
    """Return what the server has of private data: no rows, but as many clients, and their shapes.

    Raises
    ------
    InputError
        For a value that is out of its range.
    """
    regression, tokens = dataset.get("regression"), dataset.get("num_tokens")
    shape = _shape(dataset, "input_shape", "the shape of one row x, such as [784]")
    places = _shape(dataset, "places", "the shape of one row y, such as [80]; [] for one class")
    outputs, n = (_whole(dataset, key) for key in ("num_outputs", "num_clients"))
    if tokens is not None:
        tokens = _whole(dataset, "num_tokens")
    if dataset.get("max_rows") is not None:
        _whole(dataset, "max_rows")
    require(type(regression) is bool, "dataset.regression", regression, "true or false")
    pixels = dataset.get("pixels", False)
    require(type(pixels) is bool, "dataset.pixels", pixels, "true or false")
    require(not pixels or tokens is None, "dataset.pixels", pixels, "false beside num_tokens")
    kind = np.uint8 if pixels else np.float32 if tokens is None else np.int64
    x: NDArray[np.generic] = np.zeros((0, *shape), kind)
    y = np.zeros((0, outputs), np.float32) if regression else np.zeros((0, *places), np.int64)
    return FederatedData(x, y, Partition.elsewhere(n), outputs=outputs, tokens=tokens)


def _whole(dataset: dict[str, Any], key: str) -> int:
    value = dataset.get(key)
    require(type(value) is int and value >= 1, f"dataset.{key}", value, "a whole number from 1 on")
    assert isinstance(value, int)
    return value


def _shape(dataset: dict[str, Any], key: str, allowed: str) -> list[int]:
    value = dataset.get(key, [])
    valid = isinstance(value, list) and all(type(size) is int and size >= 1 for size in value)
    require(valid, f"dataset.{key}", value, allowed)
    return list(value)


def load_private(
    dataset: dict[str, Any], partition: PartitionConfig, local: Local | None
) -> FederatedData:
    """Map the rows of this SuperNode, at their places in the federation; the outline without any.

    Raises
    ------
    InputError
        If they cannot be read, are not as the run's configuration says, or are too many clients.
    """
    whole = outline(dataset)
    if partition.partitioner is not None:
        raise InputError(
            f"partition={partition.name}: private data keep their clients; say partition=natural"
        )
    if local is None:
        return whole
    own = load(own_file(dataset, local.path), partition)
    _require_fits(own, whole, dataset, local)
    here = np.arange(own.num_clients) * local.stride + local.first
    if here[-1] >= whole.num_clients:
        raise InputError(
            f"data-path={local.path}: holds client {here[-1]} of the federation ({len(here)} from "
            f"{local.first} on, every {local.stride}), which has {whole.num_clients}; "
            f"say dataset.num_clients={here[-1] + 1} or more"
        )
    train = np.zeros(whole.num_clients, np.int64)
    sizes = np.zeros(whole.num_clients, np.int64)
    train[here], sizes[here] = own.partition.train, np.diff(own.partition.offset)
    offset = np.concatenate([[0], np.cumsum(sizes)])
    held = Partition(own.partition.index, offset, train)
    return replace(own, partition=held, outputs=whole.num_outputs, tokens=whole.num_tokens)


def own_file(dataset: dict[str, Any], path: str) -> dict[str, Any]:
    """Return what a SuperNode's own file is as a data set by itself, for `load`."""
    return {
        "_target_": "nufed.tasks.datasets.npz.read_own",
        "name": NAME,
        "path": path,
        "one_class": dataset.get("one_class", "refuse"),
    }


def described(x: NDArray[np.generic], y: NDArray[np.generic]) -> dict[str, Any]:
    """Return the keys of a run's `dataset` that say of such rows what the server has to know.

    All but `num_clients`. Classes and tokens of others may go higher.
    """
    rows = FederatedData(x, y, Partition.elsewhere(0))
    found: dict[str, Any] = {"input_shape": [*x.shape[1:]], "num_outputs": rows.num_outputs}
    if not rows.classes:
        found["regression"] = True
    elif y.ndim > 1:
        found["places"] = [*y.shape[1:]]
    if x.dtype == np.uint8:
        found["pixels"] = True
    elif rows.num_tokens is not None and x.min() >= 0:
        found["num_tokens"] = rows.num_tokens
    return found


def _require_fits(
    own: FederatedData, whole: FederatedData, dataset: dict[str, Any], local: Local
) -> None:
    """Raise unless rows and targets are what the server made its model for."""
    where = f"data-path={local.path}"
    if own.x.shape[1:] != whole.x.shape[1:]:
        raise InputError(
            f"{where}: a row x has shape {list(own.x.shape[1:])}, but the run says "
            f"dataset.input_shape={list(whole.x.shape[1:])}; change one of them"
        )
    if (own.x.dtype == np.uint8) != (whole.x.dtype == np.uint8):
        said = str(dataset.get("pixels", False)).lower()
        raise InputError(
            f"{where}: x is {own.x.dtype}, but the run says dataset.pixels={said}; uint8 are "
            "pixels, divided by 255, and all SuperNodes need the same"
        )
    regression = own.y.dtype.kind == "f"
    if regression != dataset["regression"]:
        kind = "targets of a regression" if regression else "classes"
        raise InputError(
            f"{where}: y holds {kind} ({own.y.dtype}), but the run says "
            f"dataset.regression={str(dataset['regression']).lower()}; change one of them"
        )
    if not regression and own.y.shape[1:] != whole.y.shape[1:]:
        raise InputError(
            f"{where}: a row y has shape {list(own.y.shape[1:])}, but the run says "
            f"dataset.places={list(whole.y.shape[1:])}; change one of them"
        )
    if whole.num_tokens is not None:
        _require_tokens(own, whole.num_tokens, where)
    outputs = own.num_outputs
    if outputs > whole.num_outputs or (regression and outputs != whole.num_outputs):
        what = f"{outputs} targets a row" if regression else f"class {outputs - 1}"
        raise InputError(
            f"{where}: y has {what}, but the run says dataset.num_outputs={whole.num_outputs}; "
            "change one of them"
        )


def _require_tokens(own: FederatedData, num_tokens: int, where: str) -> None:
    """Raise unless x are integers below `num_tokens`."""
    if own.x.dtype.kind not in "iu":
        raise InputError(
            f"{where}: x is {own.x.dtype}, but the run says dataset.num_tokens={num_tokens}, which "
            "are integers; change one of them"
        )
    low, high = int(own.x.min()), int(own.x.max())
    if low < 0 or high >= num_tokens:
        raise InputError(
            f"{where}: x goes from {low} to {high}, but the run says "
            f"dataset.num_tokens={num_tokens}; change one of them"
        )
