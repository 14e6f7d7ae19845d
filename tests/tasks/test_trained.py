"""A model is made again from the sizes in its file: data of these sizes have these sizes."""

import numpy as np
import pytest
from numpy.typing import NDArray

from nufed.conf.schema import PartitionConfig
from nufed.tasks.partitions import partition
from nufed.tasks.rows import Rows
from nufed.tasks.store import FederatedData
from nufed.tasks.trained import Sizes

CLIENT = np.repeat(np.arange(3), 8)
CLASSES, REALS = np.arange(24) % 4, np.zeros((24, 2), np.float32)
KINDS: dict[str, tuple[NDArray[np.generic], NDArray[np.generic]]] = {
    "reals": (np.zeros((24, 5), np.float32), CLASSES),
    "pixels": (np.full((24, 3, 4, 4), 200, np.uint8), CLASSES),
    "tokens": (np.arange(24 * 6).reshape(24, 6) % 7, np.tile(CLASSES[:, None], 6)),
    "regression": (np.zeros(24, np.float32), REALS),
}


@pytest.mark.parametrize("kind", KINDS)
def test_data_without_rows_have_the_sizes(kind: str) -> None:
    x, y = KINDS[kind]
    split = partition(Rows(x, y, CLIENT), PartitionConfig(name="natural", seed=0))
    sizes = Sizes.of(FederatedData(x, y, split))
    again = sizes.outline()
    assert Sizes.of(again) == sizes
    assert not again.rows_here
    assert again.num_clients == 1
