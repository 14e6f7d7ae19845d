"""The data contract: rows (x, y), and for each row whose it is."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nufed.tasks.ids import Ids


class Rows(NamedTuple):
    """What a data set's `read` returns."""

    x: NDArray[np.generic]
    """[N, …]. uint8 is taken for pixels and divided by 255 on use. Other integers reach a model
    that takes integers (an embedding) as they are, any other model as reals."""
    y: NDArray[np.generic]
    """Integers are classes 0 … C − 1: [N], or [N, …] one at each place, −1 where none counts.
    Floating point [N] or [N, d] is a regression target."""
    client: Ids | None = None
    """[N] whose each row is, by id (see `ids.py`), where the data set brings its own clients."""
    test: NDArray[np.bool_] | None = None
    """[N], where it brings its own split of each client's rows."""
    table: NDArray[np.str_] | None = None
    """[1], where rows were made of a table's columns: how, as JSON (see `table_transform.py`)."""

    def __repr__(self) -> str:
        """Return a line: arrays, and what was done to a table, may be long."""
        said = (
            f"{name} {np.asarray(each).dtype} {[*np.shape(each)]}"
            for name, each in self._asdict().items()
            if each is not None and name != "table"
        )
        return f"Rows({', '.join(said)}{', made of a table' * (self.table is not None)})"


def is_frame(data: Any) -> bool:
    """Tell whether something is columns by name, as those of pandas and Arrow are."""
    return hasattr(data, "columns") and not isinstance(data, type)
