"""How rows become clients, and each client's rows a train and a test split."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from conf.errors import InputError
from conf.schema import PartitionConfig
from tasks.rows import Rows


@dataclass(frozen=True)
class Partition:
    """Row numbers, client after client, each client's train rows before its test rows."""

    index: NDArray[np.int64]
    """[N] row numbers."""
    offset: NDArray[np.int64]
    """[n + 1]; client i has index[offset[i] : offset[i + 1]]."""
    train: NDArray[np.int64]
    """[n] how many of them are train rows."""

    def train_rows(self, client: int) -> NDArray[np.int64]:
        """Return the row numbers that the client trains and fine-tunes on."""
        start = self.offset[client]
        return self.index[start : start + self.train[client]]

    def test_rows(self, client: int) -> NDArray[np.int64]:
        """Return the row numbers that the client is measured on."""
        return self.index[self.offset[client] + self.train[client] : self.offset[client + 1]]


def partition(rows: Rows, config: PartitionConfig) -> Partition:
    """Give every row a client, and split each client's rows.

    Raises
    ------
    InputError
        If there are more clients than rows, the data set brings no clients of its own and none are
        made, or a client is left without a train row.
    """
    owner = _owners(rows, config)
    random = np.random.default_rng([config.seed, 1])
    shuffled = random.permutation(len(owner))
    size = np.bincount(owner)
    if rows.test is None:
        order = shuffled[np.argsort(owner[shuffled], kind="stable")]
        held_out = np.maximum(np.rint(size * config.test_fraction).astype(np.int64), 1)
        train = np.maximum(size - held_out, 1)  # a client of one row trains on it
    else:
        # By client, within it train before test, within that shuffled.
        order = shuffled[np.lexsort((rows.test[shuffled], owner[shuffled]))]
        train = np.bincount(owner, weights=~rows.test).astype(np.int64)
    if not train.all():
        client = int(np.argmin(train))
        raise InputError(f"client {client} has no train row ({size[client]} rows, all for testing); give it one")
    return Partition(order, np.concatenate([[0], np.cumsum(size)]), train)


def _owners(rows: Rows, config: PartitionConfig) -> NDArray[np.int64]:
    """Return the client 0 … n − 1 of every row."""
    if config.partitioner is None:
        if rows.client is None:
            raise InputError(f"partition={config.name}: the data set brings no clients; say partition=shards")
        return np.unique(rows.client, return_inverse=True)[1]
    n = config.num_clients
    if n is None:
        raise InputError("partition.num_clients=null: give a number of clients")
    if n > len(rows.y):
        raise InputError(f"partition.num_clients={n}: there are {len(rows.y)} rows; ask for fewer clients")
    return _partitioned(rows, config, n)


def _partitioned(rows: Rows, config: PartitionConfig, n: int) -> NDArray[np.int64]:
    """Let the flwr-datasets partitioner of the configuration share the rows out."""
    # Imported here: it takes seconds, and only the first preparation of a data set needs it.
    import datasets
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    datasets.disable_progress_bars()
    # Some partitioners cut the rows in the order in which they stand.
    shuffled = np.random.default_rng([config.seed, 0]).permutation(len(rows.y))
    label = rows.y[shuffled] if rows.y.dtype == np.int64 else np.zeros(len(shuffled), np.int64)
    try:
        partitioner = instantiate(config.partitioner)
        partitioner.dataset = datasets.Dataset.from_dict({"row": shuffled, "label": label})
        owner = np.full(len(rows.y), -1)
        for client in range(n):
            owner[np.asarray(partitioner.load_partition(client)["row"], np.int64)] = client
    except (ValueError, TypeError, InstantiationException) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"partition={config.name}: {reason}; change partition.num_clients={n} or partition.partitioner.*"
        ) from error
    present = np.bincount(owner[owner >= 0], minlength=n)
    if not present.all() or (owner < 0).any():
        empty = int((present == 0).sum())
        raise InputError(
            f"partition={config.name}: left {empty} of {n} clients without rows and {int((owner < 0).sum())} "
            "rows without a client; ask for fewer clients, or other partition.partitioner.*"
        )
    return owner
