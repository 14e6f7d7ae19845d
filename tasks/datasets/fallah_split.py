"""Clients of two kinds: half of them hold the first classes alike, the others two classes each.

The split of Fallah, Mokhtari and Ozdaglar (2020, NeurIPS, arXiv 2002.07948, section 5): with a
images, the users of the first half have a of each of the first five classes; a user of the second
half has a/2 of one of these five, and 2a of one of the other five.
"""

import numpy as np
from numpy.typing import NDArray

from nufed.conf.errors import InputError
from nufed.conf.making import find
from nufed.conf.schema import require
from nufed.tasks.rows import Rows
from nufed.tasks.streams import Purpose, stream


def read(source: str, num_clients: int, images: int, test_images: int, seed: int) -> Rows:
    """Deal out the rows of a data set; none goes to two clients.

    Parameters
    ----------
    source
        The `read` of a data set of classes.
    num_clients
        Clients, an even number. Those of the second half go through all pairs of a class of the
        first half of the classes and one of the second, in turn.
    images, test_images
        a, of a client's train and of its test rows: even numbers.
    seed
        Draws the rows.

    Raises
    ------
    InputError
        If the data set has fewer than two classes, or too few rows of one.
    """
    x, y, *_ = find(source)()
    there = np.unique(y)
    require(len(there) >= 2, "dataset.source", source, "a data set of two classes or more")
    for name, value in (
        ("num_clients", num_clients),
        ("images", images),
        ("test_images", test_images),
    ):
        valid = value % 2 == 0 and 2 <= value <= len(y)
        require(valid, f"dataset.{name}", value, f"even, and between 2 and {len(y)}")
    train, test = (held(num_clients, len(there), a) for a in (images, test_images))
    wanted, rows = (train + test).sum(0), np.array([np.sum(y == label) for label in there])
    if (wanted > rows).any():
        worst = int(np.argmax(wanted - rows))
        raise InputError(
            f"dataset.images={images}: with {test_images} test_images, {num_clients} clients take "
            f"{wanted[worst]} rows of class {there[worst]}, which has {rows[worst]}; ask for fewer"
        )
    random, parts = stream(Purpose.DATA, seed), list[NDArray[np.int64]]()
    for label in there:
        parts.append(random.permutation(np.flatnonzero(y == label)))
    # Of each class, client after client, each one's train rows before its test rows.
    counts = np.stack([train, test], 2).transpose(1, 0, 2).reshape(len(there), -1)
    index = np.concatenate([part[: n.sum()] for part, n in zip(parts, counts, strict=True)])
    whose = np.tile(np.arange(2 * num_clients), len(there)).repeat(counts.ravel())
    return Rows(x[index], y[index], whose // 2, whose % 2 == 1)


def held(num_clients: int, classes: int, a: int) -> NDArray[np.int64]:
    """Return how many rows of each class each client holds, [num_clients, classes]."""
    half, first = num_clients // 2, classes // 2
    counts = np.zeros((num_clients, classes), np.int64)
    counts[:half, :first] = a
    pair = np.arange(half)
    counts[half + pair, pair % first] = a // 2
    counts[half + pair, first + pair // first % (classes - first)] = 2 * a
    return counts
