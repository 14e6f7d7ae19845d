"""People who like different things: the same images, and whether each person likes what they show.

Every person likes some of the kinds, and sees images of any. What one likes another does not: of
each kind, as many people like it as not where `likes` is half of the kinds, and then no model knows
more of y without fine-tuning than a coin does; a person's own rows tell.
"""

import numpy as np

from nufed.conf.schema import require
from nufed.tasks.datasets.dealing import dealt
from nufed.tasks.rows import Rows
from nufed.tasks.streams import Purpose, stream


def read(source: str, num_clients: int, rows: int, likes: int, seed: int) -> Rows:
    """Give each person `rows` rows at random; y is 1 where they like its kind, else 0.

    A person has not as many of each kind, nor of each y, on purpose: of counts that are fixed, the
    train rows tell which are left for the test rows.

    Parameters
    ----------
    source
        The `read` of a data set of classes, the kinds; no row of it goes to two people.
    num_clients, rows, likes
        People, rows of each, and kinds that each likes.
    seed
        Draws the rows, and who likes what.

    Raises
    ------
    InputError
        If the data set has no classes or too few rows, or for another argument out of its range.
    """
    random = stream(Purpose.DATA, seed)
    x, y, person, *_ = dealt(source, num_clients, rows, random, "rows")
    kinds, kind = np.unique(y, return_inverse=True)
    most = len(kinds) - 1
    require(1 <= likes <= most, "dataset.likes", likes, f"between 1 and {most}")
    first = np.tile(np.arange(len(kinds)) < likes, (num_clients, 1))
    liked = random.permuted(first, axis=1)
    return Rows(x, liked[person, kind].astype(np.int64), person)
