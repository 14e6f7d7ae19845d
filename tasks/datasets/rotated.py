"""Clients that hold their camera differently: the same images, each client's turned by its angle.

Client i turns all its images by the angle i mod n of the list of n: features shift, labels keep
their meaning, and clients of one angle are a cluster (as in Ghosh et al. 2020).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nufed.conf.errors import InputError
from nufed.conf.schema import require
from nufed.tasks.datasets.dealing import dealt, require_images
from nufed.tasks.rows import Rows
from nufed.tasks.streams import Purpose, stream


def read(
    source: str, num_clients: int, rows_per_client: int, angles: Sequence[float], seed: int
) -> Rows:
    """Give each client `rows_per_client` images at random, turned by its angle.

    Parameters
    ----------
    source
        The `read` of a data set of images and classes; no row of it goes to two clients.
    num_clients, rows_per_client
        Clients, and rows of each.
    angles
        Degrees, counterclockwise. Multiples of 90 are exact; others are interpolated linearly, and
        what comes in at the corners is 0.
    seed
        Draws the rows.

    Raises
    ------
    InputError
        If the data set has no images or too few rows, or for another argument out of its range.
    """
    valid = bool(angles) and all(0 <= angle < 360 for angle in angles)
    require(valid, "dataset.angles", angles, "a list of degrees, each from 0 to below 360")
    rows = dealt(
        source, num_clients, rows_per_client, stream(Purpose.DATA, seed), "rows_per_client"
    )
    require_images(rows, source)
    most = f"no more than clients, of which dataset.num_clients={num_clients}"
    require(len(angles) <= num_clients, "dataset.angles", angles, most)
    of = np.repeat(np.arange(num_clients) % len(angles), rows_per_client)
    x = rows.x.copy()
    for i, angle in enumerate(angles):
        x[of == i] = turned(rows.x[of == i], angle)
    return rows._replace(x=x)


def turned(x: NDArray[Any], angle: float) -> NDArray[Any]:
    """Return images [N, …, H, W] turned by an angle in degrees, of the same shape and type.

    Raises
    ------
    InputError
        If they would lie where they had stood: for a quarter turn, H is W.
    """
    quarters, rest = divmod(angle, 90)
    height, width = x.shape[-2:]
    if rest == 0 and quarters % 2 and height != width:
        raise InputError(
            f"dataset.angles: {angle} turns {height}x{width} into {width}x{height}; give 0 or 180"
        )
    if rest == 0:
        return np.rot90(x, int(quarters), axes=(-2, -1))
    from scipy.ndimage import rotate

    found: NDArray[np.float64] = rotate(
        x.astype(np.float64), angle, axes=(-2, -1), reshape=False, order=1
    )
    return (np.rint(found) if x.dtype.kind in "iu" else found).astype(x.dtype)
