"""A small run on a file of five clients, and the file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.helpers import RunResult


class Small(NamedTuple):
    folder: Path
    file: Path


def rows(pixels: bool = False, n: int = 60) -> dict[str, Any]:
    """Return rows of three classes, of clients 10, 20, … 50."""
    random = np.random.default_rng(0)
    y = np.arange(n) % 3
    x = random.normal(size=(n, 3, 4)) + y[:, None, None]
    x = np.clip(x * 40 + 100, 0, 255).astype(np.uint8) if pixels else x.astype(np.float32)
    return {"x": x, "y": y, "client": np.repeat(np.arange(10, 60, 10), n // 5)}


@pytest.fixture
def small(tmp_path: Path, train: Callable[..., RunResult]) -> Callable[..., Small]:
    """Return a function that trains for a round on these rows; keyword arguments change arrays."""

    def run(*overrides: str, pixels: bool = False, **arrays: Any) -> Small:
        file = tmp_path / "all.npz"
        np.savez(file, **rows(pixels) | arrays)
        given = ["dataset=npz", f"dataset.path={file}", "rounds=1", "algorithm.alpha=0.1"]
        return Small(train([*given, *overrides]).folder, file)

    return run
