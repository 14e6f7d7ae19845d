"""The rows of clients that a trained model is to serve: read, split, and checked against it."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nufed.conf.errors import InputError
from nufed.conf.schema import PartitionConfig, require
from nufed.conf.words import path_of
from nufed.tasks.datasets.npz import TABLES, read_own
from nufed.tasks.ids import WHOLE, ClientIds, as_ids
from nufed.tasks.partitions import Partition, partition
from nufed.tasks.rows import Rows, is_frame
from nufed.tasks.store import FederatedData
from nufed.tasks.trained import MODEL, Sizes

LONGEST = 8  # sizes of a shape, in an error
RUN = "the run"

log = logging.getLogger("nufed")


def own_rows(
    data: Any,
    sizes: Sizes,
    config: PartitionConfig,
    test_fraction: float | None,
) -> FederatedData:
    """Return rows of one client or several, each client's split into train and test rows.

    Parameters
    ----------
    data
        A file with x, y and optionally client and test; or these rows; or a table of the columns
        that the run's rows were made of, a file or such as a `pandas.DataFrame`.
    sizes
        What the model is for.
    config
        Its seed splits the rows, and its test_fraction if no other is given.
    test_fraction
        Part of the rows that is held out, 0 for none; None: the split in `data`, else `config`'s.

    Raises
    ------
    InputError
        If the rows cannot be read or split, or are not for this model.
    """
    where = named(data)
    rows = _rows(data, sizes.table, where)
    mine = FederatedData(
        rows.x,
        rows.y,
        _split(rows, config, test_fraction, where),
        outputs=sizes.num_outputs,
        tokens=sizes.num_tokens,
        table=sizes.table if rows.table is None else str(rows.table[0]),
    )
    require_fits(mine, sizes, where)
    return mine


def named(data: Any) -> str:
    """Return what names the rows to a person."""
    return f"data={data}" if isinstance(data, str | Path) else "data"


def is_table(data: Any) -> bool:
    """Tell whether something is a table of columns by name, or names a file of one."""
    if isinstance(data, str | Path):
        return path_of(data).suffix.lower() in TABLES
    return is_frame(data)


def number_of(client: int | str | None, ids: ClientIds, where: str) -> int:
    """Return which of some clients is meant, counted in the order of their ids.

    Parameters
    ----------
    client
        Its id, or its number where ids are names; may be None where there is one client.
    ids
        What the clients are called.
    where
        What names their rows to a person.

    Raises
    ------
    InputError
        If there is none of that id, or several of which none is named.
    """
    if client is None:
        if ids.n > 1:
            raise InputError(
                f"{where}: holds the rows of {ids.n} clients; name one, as client={ids[0]}, or "
                "take all, clients=all"
            )
        return 0
    number = ids.number(client)
    given = [] if ids.given is None else ids.given.tolist()
    if number is None and given and not any(WHOLE.fullmatch(str(each)) for each in given):
        number = ClientIds(ids.n).number(client)  # of names, by their order
    if number is None:
        raise InputError(
            f"client={client}: {where} has no rows of it; it has client {ids.few}{ids.hint(client)}"
        )
    return number


def _rows(data: Any, table: str | None, where: str) -> Rows:
    if is_table(data):
        return _of_table(data, table, where)
    if not isinstance(data, Rows):
        rows = read_own(str(data), one_class="keep", key="data")
        _require_alike(rows, table, where)
        return rows
    _require_alike(data, table, where)
    x, y = np.asarray(data.x), np.asarray(data.y)
    client = None if data.client is None else as_ids(np.asarray(data.client), where)
    return data._replace(x=x, y=y.astype(np.int64) if y.dtype.kind in "iub" else y, client=client)


def _require_alike(rows: Rows, table: str | None, where: str) -> None:
    """Raise an `InputError` for features of a table that are not those of the run."""
    if rows.table is not None and table not in (None, str(rows.table[0])):
        raise InputError(
            f"{where}: was prepared in another way than the run's rows, so that its features "
            "mean something else; give the table itself, as data=….csv"
        )


def _of_table(data: Any, table: str | None, where: str) -> Rows:
    """Return the rows of a table, made as the run's were."""
    if table is None:
        raise InputError(
            f"{where}: the run's rows were not made by nufed-data prepare, so nobody knows how "
            "those of a table become such; give an .npz with x and y"
        )
    # Imported here: they take a fifth of a second.
    from nufed.tasks.table_files import table_from
    from nufed.tasks.table_transform import apply, described
    from nufed.tasks.table_words import unusual

    of, found = described(table, f"the run's {MODEL}"), table_from(data, where)
    prepared = apply(of, found, RUN)
    for line in unusual(of, prepared, found, RUN):
        log.warning("%s: %s", where, line)
    return prepared.rows


def rows_to_predict(data: Any, shape: tuple[int, ...], table: str | None) -> NDArray[np.generic]:
    """Return x [N, …] of rows without targets: an array, or a table made as the run's was.

    Parameters
    ----------
    shape
        Of one row of the run's.
    table
        How its rows were made of a table's columns, as JSON; None where they were not.

    Raises
    ------
    InputError
        If they are not such as the run had.
    """
    where = data if isinstance(data, str | Path) else "x"
    if is_table(data) and table is not None:
        from nufed.tasks.table_files import table_from
        from nufed.tasks.table_transform import described, features

        return features(described(table, f"the run's {MODEL}"), table_from(data, str(where)), RUN)
    if isinstance(data, str | Path):
        raise InputError(
            f"{where}: names a file; give rows x, as numpy.load(file)['x']"
            + ("" if table is None else ", or a table, a .csv or .parquet")
        )
    x = np.asarray(data.detach().cpu() if hasattr(data, "detach") else data)
    if x.dtype.kind not in "fiub":
        raise InputError(f"x: is an array of {x.dtype}; give numbers, as the run had them")
    if x.ndim == 0 or x.shape[1:] != shape:
        raise InputError(
            f"x: has shape {_short(x.shape)}, and a row of the run's {_short(shape)}; give "
            f"[N, {', '.join(map(str, shape[:LONGEST]))}]"
        )
    # As torch takes it without a warning: of this machine's bytes, writeable, in order.
    return np.require(x, x.dtype.newbyteorder("="), ["C", "W"])


def _split(
    rows: Rows, config: PartitionConfig, test_fraction: float | None, where: str
) -> Partition:
    """Split each client's rows; those of a file that the run was trained on as the run did."""
    if rows.client is None:
        rows = rows._replace(client=np.zeros(len(rows.y), np.int64))
    if test_fraction is not None:
        allowed = "from 0 (nothing is held out) to below 1, such as 0.25"
        require(0 <= test_fraction < 1, "test_fraction", test_fraction, allowed)
        if rows.test is not None:
            raise InputError(
                f"test_fraction={test_fraction}: {where} has a split of its own (test); "
                "leave one of them out"
            )
    if test_fraction == 0:
        rows = rows._replace(test=np.zeros(len(rows.y), np.bool_))
    natural = replace(config, name="natural", num_clients=None, partitioner=None)
    return partition(rows, replace(natural, test_fraction=test_fraction or natural.test_fraction))


def require_fits(own: FederatedData, sizes: Sizes, where: str) -> None:
    """Raise an `InputError` unless rows and targets are such as the model was trained on."""
    shape = list(own.x.shape[1:])
    if shape != list(sizes.input_shape):
        raise InputError(
            f"{where}: a row x has shape {_short(shape)}, the run's had "
            f"{_short(sizes.input_shape)}; "
            "give x as the run had it"
        )
    regression = own.y.dtype.kind == "f"
    if regression != sizes.regression:
        kinds = ("classes, [N] integers", "targets of a regression, floating point")
        raise InputError(
            f"{where}: y is {own.y.dtype}, but the model was trained on {kinds[sizes.regression]}; "
            "give y so"
        )
    if not regression and (places := list(own.y.shape[1:])) != list(sizes.places):
        raise InputError(
            f"{where}: a row y has shape {_short(places)}, the run's had {_short(sizes.places)}; "
            "give y as the run had it"
        )
    if sizes.num_tokens is not None:
        _require_tokens(own, sizes.num_tokens, where)
    if regression:
        targets = int(np.prod(own.y.shape[1:]))
        if targets != sizes.num_outputs:
            raise InputError(
                f"{where}: y has {targets} targets a row, the model gives {sizes.num_outputs}; "
                f"give {sizes.num_outputs}"
            )
    elif (highest := int(own.y.max())) >= sizes.num_outputs:
        raise InputError(
            f"{where}: y has class {highest}, but the model was trained on the classes "
            f"0 … {sizes.num_outputs - 1}; drop the rows of others"
        )
    if own.x.dtype == np.uint8 and not sizes.pixels:
        raise InputError(
            f"{where}: x is uint8, which are pixels and divided by 255, but the model was trained "
            "on other numbers; give x as the run had it"
        )
    if sizes.pixels and own.x.dtype != np.uint8 and (largest := float(own.x.max())) > 1:
        raise InputError(
            f"{where}: x goes up to {largest:g}, but the model was trained on pixels, uint8 or "
            "divided by 255; give x so"
        )


def _short(shape: Sequence[int]) -> str:
    """Return a shape as a person is told of it: a file may claim one of any length."""
    if len(shape) <= LONGEST:
        return str(list(shape))
    first = ", ".join(map(str, shape[:LONGEST]))
    return f"[{first}, … {len(shape):,} sizes]"


def _require_tokens(own: FederatedData, num_tokens: int, where: str) -> None:
    """Raise unless x are integers, of which a model that embeds them has seen the like."""
    if own.x.dtype.kind not in "iu" or own.x.dtype == np.uint8:
        raise InputError(
            f"{where}: x is {own.x.dtype}, but the model was trained on integers; give int64"
        )
    low, high = int(own.x.min()), int(own.x.max())
    if low < 0 or high >= num_tokens:
        raise InputError(
            f"{where}: x goes from {low} to {high}, but the model was trained on the integers "
            f"0 … {num_tokens - 1}; drop the rows of others"
        )
