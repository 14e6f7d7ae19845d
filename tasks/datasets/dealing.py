"""Rows of a data set of classes, dealt out at random: so many to each client, and none to two."""

import numpy as np

from nufed.conf.errors import InputError
from nufed.conf.making import find
from nufed.conf.schema import require
from nufed.tasks.rows import Rows


def dealt(source: str, num_clients: int, rows: int, random: np.random.Generator, key: str) -> Rows:
    """Return `rows` rows of each client, client after client.

    Parameters
    ----------
    source
        The `read` of a data set of classes, one a row.
    num_clients, rows
        Clients, and rows of each.
    random
        Draws who gets which.
    key
        What a person calls `rows`, below ``dataset``.

    Raises
    ------
    InputError
        If it has no classes, or too few rows.
    """
    x, y, *_ = find(source)()
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise InputError(f"dataset.source={source}: its y are no classes; name another")
    most = len(y) // 2
    require(1 <= num_clients <= most, "dataset.num_clients", num_clients, f"between 1 and {most}")
    most = len(y) // num_clients
    allowed = f"between 2 and {most}, for {num_clients} clients share {len(y)} rows"
    require(2 <= rows <= most, f"dataset.{key}", rows, allowed)
    index = random.permutation(len(y))[: num_clients * rows]
    return Rows(x[index], y[index], np.repeat(np.arange(num_clients), rows))


def require_images(rows: Rows, source: str) -> None:
    """Raise an `InputError` unless each row x is an image, [H, W] or [C, H, W]."""
    if rows.x.ndim not in (3, 4):
        shape = list(rows.x.shape[1:])
        raise InputError(f"dataset.source={source}: its rows are {shape}, no images; name another")
