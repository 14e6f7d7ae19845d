"""A workload that takes a second: a few clients of a generated data set."""

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Return overrides: six clients of 40 rows of 8 features, three classes."""
    path: Path = tmp_path_factory.mktemp("tiny") / "tiny.npz"
    random = np.random.default_rng(0)
    np.savez(
        path,
        x=random.normal(size=(240, 8)).astype(np.float32),
        y=random.integers(0, 3, 240),
        client=np.repeat(np.arange(6), 40),
    )
    return (
        "dataset=npz",
        f"dataset.path={path}",
        "model=mlp",
        "model.hidden=[6]",
        "algorithm=per_fedavg",
        "algorithm.alpha=0.1",
        "algorithm.batch.support=7",
        "algorithm.batch.query=7",
    )
