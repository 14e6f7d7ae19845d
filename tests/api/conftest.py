"""What the tests of Python's front door share: rows of twelve clients, and a module in a file."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

SMALL = (
    "rounds=2 evaluation.every=2 evaluation.steps=2 clients_per_round=4 tracking=none "
    "engine.chunk_size=4 algorithm.nu=2 algorithm.alpha=0.1 algorithm.beta=0.1 "
    "algorithm.batch.support=5 algorithm.batch.query=5"
)
"""Of one chunk size, so that sums are those of any other process to the last bit."""
NETS = '''\
import torch
from torch import nn


class Net(nn.Module):
    """Frozen below, with a buffer in between: what only a whole model has."""

    def __init__(self, input_shape, num_outputs, width=6):
        super().__init__()
        self.below = nn.Linear(input_shape[0], width).requires_grad_(False)
        self.register_buffer("scale", torch.rand(width))
        self.head = nn.Linear(width, num_outputs)

    def forward(self, x):
        return self.head(self.below(x).tanh() * self.scale)
'''


class Arrays(NamedTuple):
    """Rows, as they are given."""

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    client: NDArray[np.int64]


@pytest.fixture(scope="session")
def arrays() -> Arrays:
    random = np.random.default_rng(0)
    client = np.repeat(np.arange(12), 16)
    x = random.normal(size=(len(client), 4)).astype(np.float32)
    y = (x[:, 0] * np.where(client % 2, 1, -1) > 0).astype(np.int64)
    return Arrays(x, y, client)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, arrays: Arrays) -> Path:
    """Return a folder with these rows and a module of a person's own."""
    folder = tmp_path_factory.mktemp("here")
    np.savez(folder / "rows.npz", **arrays._asdict())
    np.savez(folder / "own.npz", x=arrays.x[:16], y=arrays.y[:16])
    (folder / "nets.py").write_text(NETS)
    return folder


@pytest.fixture(scope="module")
def nets(here: Path) -> Iterator[ModuleType]:
    """Import the person's module, as a script that lies beside it does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(here))
        import nets

        yield nets
        del sys.modules["nets"]
