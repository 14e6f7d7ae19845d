"""pfl-research's published benchmark: CIFAR-10's shape, 50 users of 50 rows, a small CNN.

Granqvist et al. 2024, arXiv 2404.06430: FedAvg, 50 users a round, one epoch of batches of 10. Here
all users train in every round, the pixels are noise, since they cost the same, and the model has no
dropout, so that all contenders do the same arithmetic.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import nn

from nufed.tasks.store import home
from nufed.tasks.streams import Purpose, stream

USERS, ROWS, BATCH, TEST = 50, 50, 10, 2


def overrides() -> tuple[str, ...]:
    """Return the configuration, its data written if they are not there."""
    path = home() / f"benchmarks-{USERS}-users.npz"
    if not path.exists():
        write(path)
    return (
        "dataset=npz",
        f"dataset.path={path}",
        "model=custom",
        f"model._target_={__name__}.cnn",
        "algorithm=fedavg",
        f"algorithm.tau={ROWS // BATCH}",
        f"algorithm.batch.query={BATCH}",
        f"algorithm.batch.support={BATCH}",
        "algorithm.alpha=0.1",
        "algorithm.beta=0.1",
    )


def write(path: Path) -> None:
    """Write the users' rows, and two more of each to test on."""
    random = stream(Purpose.TRAIN, seed=0)
    each = ROWS + TEST
    rows = USERS * each
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        x=random.random((rows, 3, 32, 32), dtype=np.float32),
        y=random.integers(0, 10, rows),
        client=np.repeat(np.arange(USERS), each),
        test=np.arange(rows) % each >= ROWS,
    )


def cnn(input_shape: Sequence[int], num_outputs: int) -> nn.Module:
    """Return two convolutions of 3 x 3, a pooling and a hidden layer: `simple_cnn` of theirs."""
    channels, height, width = input_shape
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * ((height - 4) // 2) * ((width - 4) // 2), 128),
        nn.ReLU(),
        nn.Linear(128, num_outputs),
    )
