"""Every test here prepares its data anew: a kept data folder would hide changes of the code."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a data folder of the test's own, which does not exist yet."""
    folder = tmp_path / "data"
    monkeypatch.setenv("NUFED_DATA", str(folder))
    return folder


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes an .npz of two clients with three rows each.

    Keyword arguments replace arrays (x, y, client), or add one; None leaves it out.
    """

    def write(name: str = "mine.npz", **arrays: ArrayLike | None) -> Path:
        x = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
        given = {
            "x": x,
            "y": np.array([0, 1, 2, 1, 0, 1]),
            "client": np.repeat([0, 1], 3),
            **arrays,
        }
        kept: dict[str, Any] = {key: np.asarray(a) for key, a in given.items() if a is not None}
        np.savez(tmp_path / name, **kept)
        return tmp_path / name

    return write
