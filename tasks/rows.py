"""The data contract: rows (x, y), and for each row whose it is."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Rows(NamedTuple):
    """What a data set's `read` returns."""

    x: NDArray[np.generic]
    """[N, …]. uint8 is taken for pixels and divided by 255 on use."""
    y: NDArray[np.generic]
    """[N] integers are classes 0 … C − 1; floating point [N] or [N, d] is a regression target."""
    client: NDArray[np.integer] | None = None
    """[N], where the data set brings its own clients."""
    test: NDArray[np.bool_] | None = None
    """[N], where it brings its own split of each client's rows."""
