"""Private data: each SuperNode reads a file of its own, and the server knows their shapes alone.

The file is named by the SuperNode's node config, never by the run's configuration, which is the
server's. A file with k clients holds the clients first, first + stride, … of the federation.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from conf.errors import InputError
from conf.schema import PartitionConfig, require
from tasks.partitions import Partition
from tasks.store import FederatedData, load

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
    shape, outputs, regression, n = (
        dataset.get(key) for key in ("input_shape", "num_outputs", "regression", "num_clients")
    )
    sizes = isinstance(shape, list) and all(type(size) is int and size >= 1 for size in shape)
    require(sizes, "dataset.input_shape", shape, "the shape of one row x, such as [784]")
    for name, value in (("num_outputs", outputs), ("num_clients", n)):
        whole = type(value) is int and value >= 1
        require(whole, f"dataset.{name}", value, "a whole number from 1 on")
    require(type(regression) is bool, "dataset.regression", regression, "true or false")
    assert isinstance(shape, list)
    assert isinstance(outputs, int)
    assert isinstance(n, int)
    none = np.zeros(0, np.int64)
    return FederatedData(
        np.zeros((0, *shape), np.float32),
        np.zeros((0, outputs), np.float32) if regression else none,
        Partition(none, np.zeros(n + 1, np.int64), np.zeros(n, np.int64)),
        outputs=outputs,
    )


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
    given = {
        "_target_": "tasks.datasets.npz.read_own",
        "name": NAME,
        "path": local.path,
        "one_class": dataset.get("one_class", "refuse"),
    }
    own = load(given, partition)
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
    return replace(
        own, partition=Partition(own.partition.index, offset, train), outputs=whole.num_outputs
    )


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
    regression = own.y.dtype.kind == "f"
    if regression != dataset["regression"]:
        kind = "targets of a regression" if regression else "classes"
        raise InputError(
            f"{where}: y holds {kind} ({own.y.dtype}), but the run says "
            f"dataset.regression={str(dataset['regression']).lower()}; change one of them"
        )
    outputs = own.num_outputs
    if outputs > whole.num_outputs or (regression and outputs != whole.num_outputs):
        what = f"{outputs} targets a row" if regression else f"class {outputs - 1}"
        raise InputError(
            f"{where}: y has {what}, but the run says dataset.num_outputs={whole.num_outputs}; "
            "change one of them"
        )
