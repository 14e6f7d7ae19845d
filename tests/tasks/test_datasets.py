"""Data sets: what `read` returns is what the data set is known to be, or one line says why not."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from nufed.tasks.datasets import digits, fashion_mnist, mnist, quadratics
from nufed.tasks.datasets.idx_images import FILES
from nufed.tasks.task import build
from tests.helpers import require_data

Arrays = dict[str, NDArray[np.uint8]]


def test_digits_are_1797_images_in_ten_classes() -> None:
    """The UCI test set as scikit-learn ships it, scaled from 0 … 16 to [0, 1]."""
    rows = digits.read()
    assert rows.x.shape == (1797, 8, 8)
    assert rows.x.min() == 0
    assert rows.x.max() == 1
    assert np.bincount(rows.y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    # Rows and labels belong together: the nearest class mean tells nine digits of ten.
    means = np.stack([rows.x[rows.y == c].mean(0) for c in range(10)])
    nearest = ((rows.x[:, None] - means) ** 2).sum((2, 3)).argmin(1)
    assert (nearest == rows.y).mean() > 0.88


@pytest.mark.parametrize("split", ["train", "test"])
def test_quadratics_rows_are_the_quadratics(split: str) -> None:
    """The whole chain, read to loss: ½ (w − c)ᵀ H (w − c) on train rows, and on test rows."""
    config = compose_config(["dataset=quadratics", "engine.precision=float64", "seed=3"])
    task = build(config)
    arguments = {k: v for k, v in config.dataset.items() if k not in ("_target_", "name")}
    hessians, optima = quadratics.clients(**arguments)
    assert task.data.num_clients == len(hessians) == 20
    (name,) = task.initial_params()
    random = np.random.default_rng(0)
    for client, (hessian, optimum) in enumerate(zip(hessians, optima, strict=True)):
        w = random.normal(size=5)
        part = task.data.partition
        rows = part.train_rows(client) if split == "train" else part.test_rows(client)
        assert len(rows) == 5
        loss = task.loss({name: torch.from_numpy(w[None])}, *task.batch(rows))
        assert float(loss) == pytest.approx((w - optimum) @ hessian @ (w - optimum) / 2, abs=1e-10)


def test_quadratics_have_the_curvatures_and_the_correlation_that_were_asked_for() -> None:
    """Eigenvalues fill [0.1, 10], from the flattest client to the steepest, and c_i goes along."""
    hessians, optima = quadratics.clients(40, 3, (0.1, 10.0), correlation=1.0, seed=0)
    eigenvalues = np.linalg.eigvalsh(hessians)
    assert eigenvalues.min() == pytest.approx(0.1, rel=1e-9)
    assert eigenvalues.max() == pytest.approx(10.0, rel=1e-9)
    curvature = np.log(eigenvalues).mean(1)
    assert np.corrcoef(np.arange(40), curvature)[0, 1] > 0.95
    np.testing.assert_allclose(optima, np.linspace(1, -1, 40)[:, None].repeat(3, axis=1))
    independent = quadratics.clients(40, 3, (0.1, 10.0), correlation=0.0, seed=0)[1]
    assert abs(np.corrcoef(curvature, independent.mean(1))[0, 1]) < 0.4


def test_fashion_mnist_of_debian_is_fashion_mnist() -> None:
    """70,000 images, 7,000 a class; mean and deviation of the train half as published."""
    require_data(fashion_mnist.DEBIAN_PACKAGE)
    rows = fashion_mnist.read()
    assert rows.x.shape == (70_000, 28, 28)
    assert np.bincount(rows.y).tolist() == [7_000] * 10
    share = np.bincount(rows.x[:60_000].ravel(), minlength=256) / (60_000 * 28 * 28)
    grey = np.arange(256) / 255
    assert share @ grey == pytest.approx(0.2860, abs=5e-5)
    assert np.sqrt(share @ grey**2 - (share @ grey) ** 2) == pytest.approx(0.3530, abs=5e-5)
    assert rows.y[:5].tolist() == [9, 0, 0, 3, 0]


def small_mnist() -> Arrays:
    """Return 20 train and 10 test images, by the file that they belong in."""
    random = np.random.default_rng(0)
    sizes = [(20, 28, 28), (20,), (10, 28, 28), (10,)]
    arrays = [random.integers(0, 10 if len(s) == 1 else 256, s, np.uint8) for s in sizes]
    return dict(zip(FILES, arrays, strict=True))


def write_idx(folder: Path, arrays: Arrays, *, packed: bool = False) -> None:
    """Write arrays as IDX: two zeros, type 8 (uint8), dimensions, big-endian sizes, the bytes."""
    folder.mkdir()
    for name, array in arrays.items():
        sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
        content = bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)


@pytest.mark.parametrize("packed", [False, True])
def test_mnist_reads_idx_files_plain_or_gzipped(tmp_path: Path, packed: bool) -> None:
    """Train rows before test rows, every image beside its own label."""
    arrays = small_mnist()
    write_idx(tmp_path / "idx", arrays, packed=packed)
    rows = mnist.read(str(tmp_path / "idx"))
    np.testing.assert_array_equal(rows.x, np.concatenate([arrays[FILES[0]], arrays[FILES[2]]]))
    np.testing.assert_array_equal(rows.y, np.concatenate([arrays[FILES[1]], arrays[FILES[3]]]))
    assert rows.y.dtype == np.int64


def refusal(folder: Path) -> str:
    """Return the one line with which mnist refuses a folder."""
    with pytest.raises(InputError) as caught:
        mnist.read(str(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_mnist_of_a_folder_with_none_of_the_files_is_refused(tmp_path: Path) -> None:
    """Naming a folder means those files: nothing may be downloaded in their stead."""
    line = refusal(tmp_path)
    assert line.startswith(f"dataset.path={tmp_path}: holds none of train-images-idx3-ubyte")
    assert line.endswith("name their folder")


def test_mnist_of_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    assert f"dataset.path={tmp_path / 'nowhere'}: " in refusal(tmp_path / "nowhere")


@pytest.mark.parametrize("absent", FILES)
def test_mnist_with_one_file_missing_is_refused(tmp_path: Path, absent: str) -> None:
    """The line names the very file, and both names under which it would be found."""
    write_idx(
        tmp_path / "idx", {k: v for k, v in small_mnist().items() if k != absent}, packed=True
    )
    line = refusal(tmp_path / "idx")
    assert line.startswith(f"dataset.path={tmp_path / 'idx'}: {absent} (or {absent}.gz) is missing")
    assert "put it there" in line


@pytest.mark.parametrize("damage", ["truncated", "corrupted", "not gzip"])
def test_mnist_with_a_damaged_gzip_is_refused(tmp_path: Path, damage: str) -> None:
    """An interrupted download, a broken disk, and an error page saved under the file's name."""
    write_idx(tmp_path / "idx", small_mnist(), packed=True)
    file = tmp_path / "idx" / f"{FILES[0]}.gz"
    content = bytearray(file.read_bytes())
    if damage == "truncated":
        content = content[: len(content) // 2]
    elif damage == "corrupted":
        content[12:16] = b"\xff" * 4  # an impossible block type: zlib itself gives up
    else:
        content = bytearray(b"<html>404</html>")
    file.write_bytes(content)
    line = refusal(tmp_path / "idx")
    assert line.startswith(f"dataset.path={tmp_path / 'idx'}: {FILES[0]} cannot be read")
    assert "fetch it anew" in line


@pytest.mark.parametrize("damage", ["short", "empty", "unknown type"])
def test_mnist_with_a_malformed_idx_file_is_refused(tmp_path: Path, damage: str) -> None:
    """What unpacks well may still not be IDX."""
    write_idx(tmp_path / "idx", small_mnist())
    file = tmp_path / "idx" / FILES[0]
    content = file.read_bytes()
    damaged = {"short": content[:-1], "empty": b"", "unknown type": b"\0\0\x0a\3" + content[4:]}
    file.write_bytes(damaged[damage])
    line = refusal(tmp_path / "idx")
    assert str(tmp_path / "idx") in line, "say which files failed: there may be several copies"
    assert "fetch" in line


def test_mnist_with_fewer_labels_than_images_is_refused(tmp_path: Path) -> None:
    """19 + 11 labels for 20 + 10 images: as many in all, and ten of them beside a wrong image."""
    arrays = small_mnist()
    arrays[FILES[1]], arrays[FILES[3]] = np.zeros(19, np.uint8), np.zeros(11, np.uint8)
    write_idx(tmp_path / "idx", arrays)
    assert "labels" in refusal(tmp_path / "idx")
