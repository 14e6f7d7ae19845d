"""How rows become clients, and each client's rows a train and a test split."""

import logging
import warnings
import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nufed.conf.errors import InputError, reason
from nufed.conf.making import make
from nufed.conf.schema import PartitionConfig
from nufed.tasks.ids import ClientIds, Ids, numbered
from nufed.tasks.rows import Rows
from nufed.tasks.streams import Purpose, stream

log = logging.getLogger("nufed")


@dataclass(frozen=True)
class Partition:
    """Row numbers, client after client, each client's train rows before its test rows."""

    index: NDArray[np.int64]
    """[N] row numbers; fewer than the data set has, where some belong to no client."""
    offset: NDArray[np.int64]
    """[n + 1]; client i has index[offset[i] : offset[i + 1]]."""
    train: NDArray[np.int64]
    """[n] how many of them are train rows."""
    names: Ids | None = None
    """[n] What the data set calls them; None where that is 0, 1, …, or it has none."""
    discarded: int = 0
    """Clients that the data set brings, and that were not kept."""
    resplit: bool = False
    """Whether it brings a split of their rows, too, that was not kept."""

    @property
    def ids(self) -> ClientIds:
        """What the clients are called."""
        return ClientIds(len(self.train), self.names)

    def not_kept(self, name: str) -> list[str]:
        """Return what a person should know of what was given and is not used; a line each.

        Parameters
        ----------
        name
            That of the option of the group `partition`.
        """
        lines = []
        if self.discarded:
            lines += [
                f"partition={name}: the {self.discarded} clients of the data set are not used; "
                f"{self.ids.n} new ones are made (partition=natural keeps them)"
            ]
        if self.resplit:
            lines += [
                f"partition={name}: the test rows of the data set are not used as such; each "
                "client's are drawn anew (partition=natural keeps them)"
            ]
        return lines

    @classmethod
    def elsewhere(cls, n: int) -> "Partition":
        """Return that of `n` clients none of whose rows are here."""
        return cls(np.zeros(0, np.int64), np.zeros(n + 1, np.int64), np.zeros(n, np.int64))

    def train_rows(self, client: int) -> NDArray[np.int64]:
        """Return the row numbers that the client trains and fine-tunes on."""
        start = self.offset[client]
        return self.index[start : start + self.train[client]]

    def test_rows(self, client: int) -> NDArray[np.int64]:
        """Return the row numbers that the client is measured on."""
        return self.index[self.offset[client] + self.train[client] : self.offset[client + 1]]

    def validation(
        self, fraction: float, y: NDArray[np.generic], config: PartitionConfig
    ) -> "Partition":
        """Return a partition of the train rows alone: part of them take the test rows' place.

        What is chosen by how well it does there was chosen without a look at a test row.

        Parameters
        ----------
        fraction
            Of each client's train rows.
        y
            [N] or [N, …] targets.
        """
        held_out = np.maximum(np.rint(self.train * fraction).astype(np.int64), 1)
        index = [self.train_rows(client) for client in range(len(self.train))]
        train = np.maximum(self.train - held_out, self.train > 0)  # 0 of those who are elsewhere
        if config.stratified:
            index = [
                own_split(y, np.sort(rows), len(rows) - kept, config, 1) if len(rows) else rows
                for rows, kept in zip(index, train.tolist(), strict=True)
            ]
        offset = np.concatenate([[0], np.cumsum(self.train)])
        return replace(self, index=np.concatenate(index), offset=offset, train=train)


def partition(rows: Rows, config: PartitionConfig) -> Partition:
    """Give every row a client, and split each client's rows.

    Raises
    ------
    InputError
        If there are more clients than rows, the data set brings no clients of its own and none are
        made, or a client is left without a train row.
    """
    made, ids, natural = config.partitioner is not None, None, None
    if rows.client is not None:
        ids, natural = numbered(rows.client)
    owner = _owners(rows, config, natural)
    names = ids if natural is None or ids is None or not made else _kept(owner, natural, ids)
    shuffled = stream(Purpose.SPLIT, config.seed).permutation(np.flatnonzero(owner >= 0))
    of = owner[shuffled]
    size = np.bincount(of)
    if rows.test is None or made:
        order = shuffled[np.argsort(of, kind="stable")]
        held_out = np.maximum(np.rint(size * config.test_fraction).astype(np.int64), 1)
        train = np.maximum(size - held_out, 1)  # a client of one row trains on it
        if config.stratified:
            order = _each(rows.y, np.sort(shuffled), owner, size, size - train, config)
    else:
        # By client, within it train before test, within that shuffled.
        order = shuffled[np.lexsort((rows.test[shuffled], of))]
        train = np.bincount(of, weights=~rows.test[shuffled]).astype(np.int64)
    discarded = 0 if ids is None or names is not None else len(ids)
    if names is not None and np.array_equal(names, np.arange(len(names))):
        names = None
    offset = np.concatenate([[0], np.cumsum(size)])
    found = Partition(order, offset, train, names, discarded, made and rows.test is not None)
    if not train.all():
        client = int(np.argmin(train))
        raise InputError(
            f"client {found.ids[client]} has no train row ({size[client]} rows, all for testing); "
            "give it one"
        )
    return found


def own_split(
    y: NDArray[np.generic],
    rows: NDArray[np.int64],
    held_out: int,
    config: PartitionConfig,
    of: int = 0,
) -> NDArray[np.int64]:
    """Return a client's rows shuffled, those that are held out last: of each class its share.

    It follows from the client's own targets and the seed: in whatever file its rows are, alone or
    beside others', the same are held out. A systematic sample (Madow 1949) of rows in the order of
    their classes: of n rows h are held out, each with chance h / n, and of c rows of a class
    c h / n, rounded up or down.

    Parameters
    ----------
    y
        [N] or [N, …] targets of the data set; if they are no classes, rows are drawn alike.
    rows
        [n] the numbers of the client's.
    held_out
        h.
    of
        Tells a split of train rows, 1, from that of all rows.
    """
    n, random = len(rows), stream(Purpose.SPLIT, config.seed, fingerprint(y[rows]), of)
    shuffled = random.permutation(n)
    if y.ndim > 1 or y.dtype.kind != "i":
        return rows[shuffled]
    by_class = shuffled[np.argsort(y[rows[shuffled]], kind="stable")]
    reached = np.arange(n + 1) * held_out + random.integers(n)
    out = np.empty(n, np.bool_)
    out[by_class] = reached[1:] // n > reached[:-1] // n
    return rows[shuffled[np.argsort(out[shuffled], kind="stable")]]


def fingerprint(y: NDArray[np.generic]) -> int:
    """Return a number that follows from some targets, by which a stream is a client's own."""
    return zlib.crc32(np.ascontiguousarray(y).tobytes())


def _each(
    y: NDArray[np.generic],
    rows: NDArray[np.int64],
    owner: NDArray[np.int64],
    size: NDArray[np.int64],
    held_out: NDArray[np.int64],
    config: PartitionConfig,
) -> NDArray[np.int64]:
    """Return rows, client after client, each client's split by itself."""
    by_client = rows[np.argsort(owner[rows], kind="stable")]
    each = np.split(by_client, np.cumsum(size)[:-1])
    return np.concatenate(
        [own_split(y, some, h, config) for some, h in zip(each, held_out.tolist(), strict=True)]
    )


def _kept(owner: NDArray[np.int64], natural: NDArray[np.int64], ids: Ids) -> Ids | None:
    """Return the ids of clients that are the data set's own after all, None if they are not."""
    pairs = np.unique(np.stack([owner, natural])[:, owner >= 0], axis=1)
    same = all(len(np.unique(some)) == pairs.shape[1] for some in pairs)
    return ids[pairs[1]] if same else None


def _owners(
    rows: Rows, config: PartitionConfig, natural: NDArray[np.int64] | None
) -> NDArray[np.int64]:
    """Return the client 0 … n − 1 of every row, −1 for a row that no client gets."""
    if config.partitioner is None:
        if natural is None:
            raise InputError(
                f"partition={config.name}: the data set brings no clients; say partition=shards"
            )
        return natural
    n = config.num_clients
    if n is not None and n > len(rows.y):
        raise InputError(
            f"partition.num_clients={n}: there are {len(rows.y)} rows; ask for fewer clients"
        )
    return _partitioned(rows, config, n)


def _partitioned(rows: Rows, config: PartitionConfig, n: int | None) -> NDArray[np.int64]:
    """Let the flwr-datasets partitioner of the configuration share the rows out.

    It is shown the columns `label`, the class of a row; `target`, its number in a regression; and
    `client`, where the data set brings clients. With n None, it says itself how many there are.
    """
    # Imported here: it takes seconds, and only the first preparation of a data set needs it.
    import datasets
    from hydra.errors import InstantiationException

    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", module="flwr_datasets")  # said below, in our words
    # Some partitioners cut the rows in the order in which they stand.
    shuffled = stream(Purpose.ROWS, config.seed).permutation(len(rows.y))
    y = rows.y[shuffled]
    columns: dict[str, Any] = {"row": shuffled, "label": np.zeros(len(shuffled), np.int64)}
    if y.ndim == 1:
        columns["label" if y.dtype == np.int64 else "target"] = y
    if rows.client is not None:
        columns["client"] = rows.client[shuffled].tolist()
    try:
        partitioner = make(config.partitioner)
        partitioner.dataset = datasets.Dataset.from_dict(columns)
        n = partitioner.num_partitions if n is None else n
        owner = np.full(len(rows.y), -1)
        for client in range(n):
            owner[np.asarray(partitioner.load_partition(client)["row"], np.int64)] = client
    except (ValueError, TypeError, InstantiationException) as error:
        cause = error.__cause__ or error  # Hydra's own words say only that the call failed
        what = "" if n is None else f"partition.num_clients={n} or "
        raise InputError(
            f"partition={config.name}: {reason(cause)}; change {what}partition.partitioner.*"
        ) from error
    left_out = int((owner < 0).sum())
    if empty := n - len(np.unique(owner[owner >= 0])):
        raise InputError(
            f"partition={config.name}: left {empty} of {n} clients without rows; "
            "ask for fewer with partition.num_clients, or change partition.partitioner.*"
        )
    if left_out:
        log.warning(
            "partition=%s gives %d of %d rows to no client", config.name, left_out, len(owner)
        )
    return owner
