"""EMNIST: the split that was asked for, upright, with classes from 0 on."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from nufed.conf.errors import InputError
from nufed.tasks.datasets.emnist import CLASSES, read


def write(folder: Path, split: str, low: int, high: int, labels: int = 6) -> np.ndarray:
    """Write a split's files as EMNIST has them, images on their side; return what one would see."""
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    seen = random.integers(0, 256, (6, 28, 28), np.uint8)
    y = np.linspace(low, high, labels).astype(np.uint8)
    for half, rows in (("train", slice(0, 4)), ("test", slice(4, None))):
        stored = seen[rows].transpose(0, 2, 1)
        for kind, array in (("images-idx3", stored), ("labels-idx1", y[rows])):
            sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
            content = bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()
            name = f"emnist-{split}-{half}-{kind}-ubyte.gz"
            (folder / name).write_bytes(gzip.compress(content))
    return seen


@pytest.mark.parametrize("split", CLASSES)
def test_a_split_is_read_upright_and_numbered_from_0(tmp_path: Path, split: str) -> None:
    """EMNIST-letters numbers A … Z 1 … 26; the others begin with 0."""
    first = 1 if split == "letters" else 0
    seen = write(tmp_path / "emnist", split, first, first + CLASSES[split] - 1)
    write(tmp_path / "emnist", "mnist" if split != "mnist" else "digits", 0, 9)
    rows = read(str(tmp_path / "emnist"), split)
    np.testing.assert_array_equal(rows.x, seen)
    assert rows.x.flags.c_contiguous
    assert rows.y.dtype == np.int64
    assert (rows.y.min(), rows.y.max()) == (0, CLASSES[split] - 1)
    assert rows.client is None


def refusal(folder: Path, split: str) -> str:
    with pytest.raises(InputError) as caught:
        read(str(folder), split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_not_that_split_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "emnist"
    write(folder, "letters", 0, 25)
    assert "dataset.split=letters: has 26 classes, and its files labels from 0" in refusal(
        folder, "letters"
    )
    assert "holds none of emnist-balanced-train-images-idx3-ubyte" in refusal(folder, "balanced")
    assert "dataset.split=all: must be balanced | byclass" in refusal(folder, "all")
    (folder / "emnist-letters-test-labels-idx1-ubyte.gz").unlink()
    assert "emnist-letters-test-labels-idx1-ubyte (or emnist-" in refusal(folder, "letters")
    write(folder, "digits", 0, 10)
    assert "has 10 classes, and its files labels from 0 to 10" in refusal(folder, "digits")
    write(folder, "digits", 0, 9, labels=5)
    assert "2 images but 1 labels" in refusal(folder, "digits")
