"""CIFAR's binary files: labels and pixels where they are, whole files or none, and never pickle."""

import os
from pathlib import Path

import numpy as np
import pytest

from nufed.conf.errors import InputError
from nufed.tasks.datasets.cifar import FILES_10, FILES_100, PIXELS, cifar10, cifar100

Files = dict[str, int]


def write(folder: Path, files: Files, *labels: int) -> np.ndarray:
    """Write files of as many images, black and of class 0, but for the last of each.

    That has the labels, and pixels of its own, which are returned, [files, 3072].
    """
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (len(files), PIXELS), np.uint8)
    for (name, images), own in zip(files.items(), pixels, strict=True):
        with (folder / name).open("wb") as file:
            file.seek((images - 1) * (len(labels) + PIXELS))
            file.write(bytes(labels) + own.tobytes())
    return pixels


def test_cifar_10_has_its_label_before_red_green_and_blue(tmp_path: Path) -> None:
    pixels = write(tmp_path / "cifar-10-batches-bin", FILES_10, 9)
    last = np.cumsum([*FILES_10.values()]) - 1
    for path in (tmp_path, tmp_path / "cifar-10-batches-bin"):
        rows = cifar10(str(path))
        assert rows.x.shape == (60_000, 3, 32, 32)
        assert rows.x.dtype == np.uint8
        np.testing.assert_array_equal(rows.x[last], pixels.reshape(6, 3, 32, 32))
        assert np.flatnonzero(rows.y).tolist() == last.tolist()
        assert set(rows.y[last]) == {9}


@pytest.mark.parametrize(("labels", "label"), [("fine", 99), ("coarse", 19)])
def test_cifar_100_has_a_coarse_and_a_fine_label(tmp_path: Path, labels: str, label: int) -> None:
    pixels = write(tmp_path / "bin", FILES_100, 19, 99)
    rows = cifar100(str(tmp_path / "bin"), labels)
    assert rows.x.shape == (60_000, 3, 32, 32)
    np.testing.assert_array_equal(rows.x[[49_999, 59_999]], pixels.reshape(2, 3, 32, 32))
    assert np.flatnonzero(rows.y).tolist() == [49_999, 59_999]
    assert rows.y.max() == label


def refusal(path: Path, labels: str = "fine") -> str:
    with pytest.raises(InputError) as caught:
        cifar100(str(path), labels)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    """Cut off at the end of an image, too: a download that ended early."""
    folder = tmp_path / "bin"
    write(folder, FILES_100, 19, 99)
    train, test = folder / "train.bin", folder / "test.bin"
    os.truncate(test, 9_999 * 3074)
    assert "test.bin has 30,736,926 bytes; 10,000 images have 30,740,000" in refusal(folder)
    test.unlink()
    assert f"dataset.path={folder}: test.bin is missing; take" in refusal(folder)
    os.mkfifo(test)
    assert "test.bin: is a FIFO" in refusal(folder)
    with train.open("r+b") as file:
        file.write(bytes([20]))
    assert "train.bin has a label 20, of 20 classes" in refusal(folder)
    assert "dataset.labels=both: must be fine | coarse" in refusal(folder, "both")


def test_pickled_files_are_named_as_such_and_not_opened(tmp_path: Path) -> None:
    (tmp_path / "train").write_bytes(b"cos\nabort\n(tR.")  # to unpickle it ends the process
    line = refusal(tmp_path)
    assert "train.bin is missing: these files are of the version for Python, pickled" in line
