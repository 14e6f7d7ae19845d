"""Chunks of clients see the same rows as clients one by one."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nufed.client_app.sampling import Draw
from nufed.conf.compose import compose_config
from nufed.simulation.source import Source
from nufed.tasks.task import Task, build

ROWS = np.random.default_rng(0).integers(120, size=(3, 2, 4, 5))  # [τ, ν, K, D]
RANDOM = np.random.default_rng(1)
KINDS: dict[str, dict[str, Any]] = {
    "pixels": {"x": RANDOM.integers(256, size=(120, 4, 4)).astype(np.uint8)},
    "short integers": {"x": RANDOM.integers(60_000, size=(120, 3)).astype(np.uint16)},
    "float64": {"x": RANDOM.normal(size=(120, 3))},
    "one number a row": {"x": RANDOM.normal(size=120).astype(np.float32)},
    "a target": {"x": RANDOM.normal(size=(120, 3)), "y": RANDOM.normal(size=120)},
    "two targets": {"x": RANDOM.normal(size=(120, 3)), "y": RANDOM.normal(size=(120, 2))},
}


def task_of(kind: str, folder: Path, *overrides: str) -> Task:
    """Build a task on rows of some type and shape."""
    arrays = {"y": np.arange(120) % 3, "client": np.arange(120) % 4} | KINDS[kind]
    np.savez(folder / "rows.npz", **arrays)
    data = ["dataset=npz", f"dataset.path={folder / 'rows.npz'}", "dataset.one_class=keep"]
    return build(compose_config([*data, "model=logistic", *overrides]))


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_those_of_the_task(kind: str, precision: str, tmp_path: Path) -> None:
    """As stored; what the model makes of them is bit by bit what `Task.batch` gives."""
    task = task_of(kind, tmp_path, f"engine.precision={precision}")
    batches = [*Source(task).each(Draw(ROWS))]
    assert len(batches) == 3
    for rows, (x, y) in zip(ROWS, batches, strict=True):
        expected_x, expected_y = task.batch(rows)
        assert torch.equal(task.inputs(x), expected_x)
        assert torch.equal(y, expected_y)
        assert (task.inputs(x).dtype, y.dtype) == (expected_x.dtype, expected_y.dtype)


def test_what_counts_comes_along(tmp_path: Path) -> None:
    counts = RANDOM.random(ROWS.shape) < 0.5
    source = Source(task_of("pixels", tmp_path))
    with_counts, without = source.each(Draw(ROWS, counts)), source.each(Draw(ROWS))
    for (*batch, count), plain, expected in zip(with_counts, without, counts, strict=True):
        assert torch.equal(count, torch.from_numpy(expected))
        assert all(map(torch.equal, batch, plain))


def test_rows_stay_on_disk_and_nobody_is_warned(tmp_path: Path) -> None:
    """On the CPU nothing is copied: a data set may be larger than memory."""
    task = task_of("pixels", tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source = Source(task)
    assert source.resident
    assert source._x.data_ptr() == task.data.x.ctypes.data
    assert {x.dtype for x, _ in source.each(Draw(ROWS))} == {torch.uint8}
