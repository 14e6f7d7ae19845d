"""Clients that name the classes in their own way: the same images, labels that contradict.

Every client holds a few classes and numbers them in an order of its own, as people name their
albums or a plant numbers its faults. What one client calls 0 another calls 3, so no model serves
all without fine-tuning, and a good start is one from which a client's own names are quickly learnt:
the few-shot tasks of Finn et al. (2017), as a federation.
"""

import numpy as np

from nufed.conf.errors import InputError
from nufed.conf.making import find
from nufed.conf.schema import require
from nufed.tasks.rows import Rows
from nufed.tasks.streams import Purpose, stream


def read(source: str, num_clients: int, classes: int, rows_per_class: int, seed: int) -> Rows:
    """Give each client `rows_per_class` rows of each of its classes, renamed 0 … classes − 1.

    Parameters
    ----------
    source
        The `read` of a data set of classes, whose rows are dealt out; none goes to two clients.
    num_clients, classes, rows_per_class
        Clients, classes that each holds, and rows of each of these.
    seed
        Draws the classes, their names and the rows.

    Raises
    ------
    InputError
        If the data set has too few classes, or too few rows of one.
    """
    x, y, *_ = find(source)()
    there = np.unique(y)
    for name, value, least, most in (
        ("num_clients", num_clients, 1, len(y)),
        ("classes", classes, 2, len(there)),
        ("rows_per_class", rows_per_class, 2, len(y)),
    ):
        require(least <= value <= most, f"dataset.{name}", value, f"between {least} and {most}")
    random = stream(Purpose.DATA, seed)
    held = np.stack([random.permutation(there)[:classes] for _ in range(num_clients)])
    most = min(int(np.sum(y == c)) // n for c in there if (n := int(np.sum(held == c))))
    if most < 2:
        raise InputError(
            f"dataset.num_clients={num_clients}: too many for {len(y)} rows; ask for fewer"
        )
    if rows_per_class > most:
        raise InputError(
            f"dataset.rows_per_class={rows_per_class}: for {num_clients} clients, at most {most}"
        )
    rows = np.empty((num_clients, classes, rows_per_class), np.int64)
    for label in there:
        holders = np.argwhere(held == label)
        pool = random.permutation(np.flatnonzero(y == label))
        taken = pool[: len(holders) * rows_per_class]
        rows[*holders.T] = taken.reshape(len(holders), rows_per_class)
    names = np.broadcast_to(np.arange(classes)[:, None], rows.shape[1:])
    client = np.repeat(np.arange(num_clients), classes * rows_per_class)
    return Rows(x[rows.ravel()], np.tile(names.ravel(), num_clients), client)
