"""Clients, or groups of them, that call the classes by other numbers: the same rows, other labels.

Client i permutes the labels of all its rows by the permutation i mod `groups`, each drawn at
random; without groups, by one of its own. What is seen keeps its distribution and what it is called
shifts: no model serves two groups. A client may hold all classes, one of `own_labels` a few.
"""

import numpy as np

from nufed.conf.schema import require
from nufed.tasks.datasets.dealing import dealt
from nufed.tasks.rows import Rows
from nufed.tasks.streams import Purpose, stream


def read(
    source: str, num_clients: int, rows_per_client: int, groups: int | None, seed: int
) -> Rows:
    """Give each client `rows_per_client` rows at random, their labels permuted in its group's way.

    Parameters
    ----------
    source
        The `read` of a data set of classes; no row of it goes to two clients.
    num_clients, rows_per_client
        Clients, and rows of each.
    groups
        Permutations; None: one for each client.
    seed
        Draws the rows and the permutations.

    Raises
    ------
    InputError
        If the data set has no classes or too few rows, or for another argument out of its range.
    """
    random = stream(Purpose.DATA, seed)
    rows = dealt(source, num_clients, rows_per_client, random, "rows_per_client")
    allowed = f"between 1 and {num_clients}, the clients, or null"
    require(groups is None or 1 <= groups <= num_clients, "dataset.groups", groups, allowed)
    labels, label = np.unique(rows.y, return_inverse=True)
    known_as = random.permuted(np.tile(labels, (groups or num_clients, 1)), axis=1)
    group = np.repeat(np.arange(num_clients) % len(known_as), rows_per_client)
    return rows._replace(y=known_as[group, label])
