"""The user's own data: taken exactly as it is, or refused in one line that says what to do."""

import logging
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike

from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from nufed.tasks.datasets.npz import read
from nufed.tasks.store import FederatedData, load
from nufed.tasks.task import Task, build

Save = Callable[..., Path]
NAN, INF = float("nan"), float("inf")


def refusal(path: Path, **options: str) -> str:
    """Return the one line with which a file is refused."""
    with pytest.raises(InputError) as caught:
        read(str(path), **options)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"dataset.path={path}: ")
    return line


def build_npz(path: Path, *overrides: str) -> Task:
    """Build the task as `nufed dataset=npz dataset.path=…` does, in float64."""
    precise = "engine.precision=float64"
    return build(compose_config(["dataset=npz", f"dataset.path={path}", precise, *overrides]))


def load_npz(path: Path | str, *overrides: str) -> FederatedData:
    """Map the data alone."""
    config = compose_config(["dataset=npz", f"dataset.path={path}", *overrides])
    return load(config.dataset, config.partition)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "nothing.npz")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"x,y,client\n1,2,3\n", b"PK\3\4" + bytes(40)],
    ids=["empty", "csv", "half a zip"],
)
def test_a_file_that_is_no_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    """And not with talk of Python objects, which a CSV file does not hold."""
    (tmp_path / "mine.npz").write_bytes(content)
    line = refusal(tmp_path / "mine.npz")
    assert "not a readable .npz" in line
    assert "save it with numpy.savez" in line


def test_a_damaged_npz_is_refused(tmp_path: Path) -> None:
    """A compressed array whose bytes went bad, in the middle of it."""
    file, n = tmp_path / "mine.npz", 1000
    x = np.random.default_rng(0).normal(size=(n, 4))
    np.savez_compressed(file, x=x, y=np.arange(n) % 2, client=np.arange(n) // 10)
    content = bytearray(file.read_bytes())
    content[60:64] = b"\xff" * 4
    file.write_bytes(content)
    assert zipfile.is_zipfile(file)
    assert "not a readable .npz" in refusal(file)


def test_a_bare_array_is_refused(tmp_path: Path) -> None:
    """numpy.save where numpy.savez was meant, whatever the file is called."""
    np.save(tmp_path / "mine.npy", np.zeros((6, 4)))
    (tmp_path / "mine.npy").rename(tmp_path / "mine.npz")
    line = refusal(tmp_path / "mine.npz")
    assert "one bare array" in line
    assert "numpy.savez" in line


@pytest.mark.parametrize("absent", ["x", "y", "client"])
def test_a_missing_array_is_named_with_those_found(save: Save, absent: str) -> None:
    line = refusal(save(**{absent: None}))
    assert f"no array '{absent}'" in line
    found = ", ".join(name for name in ("x", "y", "client") if name != absent)
    assert f"(found: {found})" in line
    assert ("nufed-adapt" in line) == (absent == "client")


REFUSED: dict[str, tuple[dict[str, ArrayLike], list[str]]] = {
    "ragged rows": (
        {"x": np.array([[1], [1, 2], [1], [1], [1], [1]], dtype=object)},
        ["Python objects", "ragged"],
    ),
    "objects": ({"y": np.array([None] * 6)}, ["Python objects"]),
    "y shorter": ({"y": np.zeros(5, int)}, ["y has shape (5,)", "x (6, 4)"]),
    "client longer": ({"client": np.zeros(7, int)}, ["client has shape (7,)", "x (6, 4)"]),
    "test shorter": ({"test": np.zeros(2, bool)}, ["test has shape (2,)", "x (6, 4)"]),
    "y one number": ({"y": np.array(1)}, ["y has shape ()"]),
    "no rows": (
        {"x": np.zeros((0, 4)), "y": np.zeros(0, int), "client": np.zeros(0, int)},
        ["no rows"],
    ),
    "NaN in x": ({"x": [[0.0], [1.0], [2.0], [3.0], [NAN], [NAN]]}, ["x has NaN", "row 4"]),
    "infinity in x": (
        {"x": [[0.0], [1.0], [-INF], [3.0], [4.0], [5.0]]},
        ["x has NaN or", "row 2"],
    ),
    "NaN in y": ({"y": [0.0, 1.0, 2.0, NAN, 4.0, 5.0]}, ["y has NaN", "row 3"]),
    "text in x": ({"x": np.array([["a"]] * 6)}, ["x is of type <U1", "give numbers"]),
    "text in y": ({"y": np.array(["cat", "dog"] * 3)}, ["y is of type <U3", "numpy.unique(y,"]),
    "complex x": (
        {"x": np.ones((6, 1), complex)},
        ["x is of type complex128", "numpy.stack([x.real, x.imag], -1)"],
    ),
    "classes": ({"y": np.eye(6, dtype=int)}, ["one-hot", "[N] integers", "y.argmax(1)"]),
    "float client": ({"client": np.repeat([0.0, 0.5], 3)}, ["client is float64", "[N] integers"]),
    "client of two columns": ({"client": np.zeros((6, 2), int)}, ["client is int64 [6, 2]"]),
    "test": ({"test": np.arange(6)}, ["test is int64 [6] and has 2", "0 elsewhere"]),
}


@pytest.mark.parametrize(("arrays", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_an_unusable_array_is_refused(
    save: Save, arrays: dict[str, ArrayLike], words: list[str]
) -> None:
    """The line names the array, what it is, and where it goes wrong."""
    line = refusal(save(**arrays))
    assert [word for word in words if word not in line] == []


def test_clients_of_one_class_are_refused_and_counted(save: Save) -> None:
    """Their accuracy would be 1 for a model that knows nothing; clients 7 and 9 of three."""
    path = save(client=[7, 7, 8, 8, 9, 9], y=[1, 1, 0, 1, 0, 0])
    line = refusal(path)
    assert "client 7 " in line
    assert "one class only (2 of 3 clients do)" in line
    assert "dataset.one_class=keep" in line
    kept = read(str(path), one_class="keep")
    assert kept.client is not None
    assert kept.client.tolist() == [7, 7, 8, 8, 9, 9]


def test_regression_targets_that_are_all_alike_are_no_class(save: Save) -> None:
    """Only classes can be one class: a client whose targets are all 2.5 is fine."""
    assert read(str(save(y=[2.5] * 6))).y.tolist() == [2.5] * 6


def test_an_unknown_one_class_is_refused(save: Save) -> None:
    with pytest.raises(InputError, match=r"dataset\.one_class=drop: must be refuse \| keep"):
        read(str(save()), one_class="drop")


def test_client_ids_are_numbered_in_increasing_order(save: Save) -> None:
    """Ids 900, -5, 40 become clients 2, 0, 1, each with its own rows."""
    task = build_npz(save(client=[900, -5, 40, 900, -5, 40], y=[0, 0, 0, 1, 1, 1]))
    assert task.data.num_clients == 3
    part = task.data.partition
    owned = [sorted([*part.train_rows(i), *part.test_rows(i)]) for i in range(3)]
    assert owned == [[1, 4], [2, 5], [0, 3]]


def test_clients_may_have_names(save: Save, caplog: pytest.LogCaptureFixture) -> None:
    """Numbered in their order, which is said; and told by name where one is at fault."""
    caplog.set_level(logging.INFO, "nufed")
    path = save(client=["mia", "bob", "mia", "bob", "mia", "eve"], y=[0.0] * 6)
    part = load_npz(path).partition
    owned = [sorted([*part.train_rows(i), *part.test_rows(i)]) for i in range(3)]
    assert owned == [[1, 3], [5], [0, 2, 4]]
    assert "bob = 0, eve = 1, mia = 2" in caplog.text
    line = refusal(save(client=["mia", "bob"] * 3, y=[0, 1, 1, 1, 0, 1]))
    assert "client bob has one class only" in line


def test_names_that_are_numbers_are_numbered_as_such(save: Save) -> None:
    """Client "10" after client "9", as of the integers that they are."""
    path = save(client=["10", "9", "10", "9", "10", "9"], y=[0.0] * 6)
    assert read(str(path)).client.tolist() == [10, 9] * 3  # type: ignore[union-attr]


def test_the_test_mask_is_honoured_exactly(save: Save) -> None:
    """Not a fraction of it, no row moved: one client with two test rows, one with none."""
    path = save(test=[True, False, True, False, False, False])
    part = build_npz(path, "partition.test_fraction=0.9").data.partition
    assert [set(part.train_rows(i)) for i in range(2)] == [{1}, {3, 4, 5}]
    assert [set(part.test_rows(i)) for i in range(2)] == [{0, 2}, set()]


def test_a_client_with_test_rows_only_is_refused_by_its_own_id(save: Save) -> None:
    """The file knows the client as 70; that it is number 1 to us helps nobody find it."""
    path = save(client=np.repeat([30, 70], 3), test=[False] * 3 + [True] * 3)
    with pytest.raises(InputError, match="client 70 has no train row"):
        load_npz(path)


def test_x_and_y_reach_the_model_unchanged(save: Save) -> None:
    """Floating-point x is not scaled; the mean loss is the cross-entropy of these very rows."""
    path = save()
    task = build_npz(path, "model=logistic")
    rows = np.array([4, 0, 3])
    x, y = task.batch(rows)
    given = np.load(path)
    np.testing.assert_array_equal(x.numpy(), given["x"][rows].astype(np.float64))
    assert y.tolist() == given["y"][rows].tolist()
    weight, bias = task.initial_params().values()
    scores = given["x"][rows].astype(np.float64) @ weight.numpy().T + bias.numpy()
    assert scores.shape == (3, 3), "three classes, 0 … 2"
    expected = np.log(np.exp(scores).sum(1)) - scores[range(3), given["y"][rows]]
    assert float(task.loss(task.initial_params(), x, y)) == pytest.approx(
        expected.mean(), abs=1e-12
    )


def test_uint8_is_taken_for_pixels(save: Save) -> None:
    """0 … 255 becomes [0, 1]; other integers stay as they are."""
    pixels = np.arange(24).reshape(6, 4) * 11
    x, _ = build_npz(save("bytes.npz", x=pixels.astype(np.uint8))).batch(np.arange(6))
    np.testing.assert_allclose(x.numpy(), pixels / 255, atol=1e-15)
    x, _ = build_npz(save("numbers.npz", x=pixels.astype(np.int16))).batch(np.arange(6))
    np.testing.assert_array_equal(x.numpy(), pixels)


def test_rows_as_stored_give_the_loss_of_rows_converted(save: Save) -> None:
    """The batched engine gathers bytes; the loss scales them, and leaves them as they were."""
    pixels = (np.arange(24).reshape(6, 4) * 11).astype(np.uint8)
    task = build_npz(save(x=pixels))
    params, (x, y) = task.initial_params(), task.batch(np.arange(6))
    stored = torch.from_numpy(pixels)
    assert task.loss(params, stored, y) == task.loss(params, x, y)
    assert (stored.numpy() == pixels).all()
    kept = x.clone()
    task.loss(params, x, y)
    assert torch.equal(kept, x)


@pytest.mark.parametrize("regression", [False, True])
def test_rows_that_do_not_count_change_nothing(save: Save, regression: bool) -> None:
    y = np.random.default_rng(1).normal(size=(6, 2)) if regression else np.array([0, 1, 2] * 2)
    task = build_npz(save(y=y))
    params, counts = task.initial_params(), torch.tensor([True, True, False, True, False, False])
    x, y = task.batch(np.arange(6))
    few = task.batch(np.array([0, 1, 3]))
    assert float(task.loss(params, x, y, counts)) == pytest.approx(
        float(task.loss(params, *few)), abs=1e-14
    )
    for name, value in task.metrics(params, *few).items():
        assert float(task.metrics(params, x, y, counts)[name]) == pytest.approx(
            float(value), abs=1e-14
        )


@pytest.mark.parametrize("shape", [(6,), (6, 2)])
def test_floating_point_y_is_regression(save: Save, shape: tuple[int, ...]) -> None:
    """As many outputs as targets; half the mean squared error, and the mean absolute one."""
    y = np.random.default_rng(1).normal(size=shape)
    task = build_npz(save(y=y), "model=logistic")
    weight, bias = task.initial_params().values()
    assert len(bias) == np.prod(shape[1:], dtype=int)
    x, targets = task.batch(np.arange(6))
    metrics = task.metrics(task.initial_params(), x, targets)
    assert metrics.keys() == {"loss", "mae"}
    errors = x.numpy() @ weight.numpy().T + bias.numpy() - y.reshape(6, -1)
    assert float(metrics["loss"]) == pytest.approx((errors**2).mean() / 2, abs=1e-12)
    assert float(metrics["mae"]) == pytest.approx(abs(errors).mean(), abs=1e-12)


@pytest.mark.parametrize("dtype", [">f4", ">f8", "f2", ">i4", "u2", "?", "longdouble"])
def test_every_type_of_number_can_be_trained_on(save: Save, dtype: str) -> None:
    """FITS and IDX readers give big-endian arrays; they pass the checks, so they must run."""
    x = np.arange(24).reshape(6, 4) % 2
    task = build_npz(save(x=x.astype(dtype)))
    batch, y = task.batch(np.arange(6))
    np.testing.assert_array_equal(batch.numpy(), x)
    assert torch.isfinite(task.loss(task.initial_params(), batch, y))


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">i8"])
def test_every_type_of_target_can_be_trained_on(save: Save, dtype: str) -> None:
    task = build_npz(save(y=np.array([0, 1, 2, 1, 0, 1], dtype)))
    assert task.batch(np.arange(6))[1].tolist() == [0, 1, 2, 1, 0, 1]


def test_one_number_a_row_can_be_trained_on(save: Save) -> None:
    """x [N] is what the contract's [N, …] allows at the least."""
    task = build_npz(save(x=np.linspace(0, 1, 6)), "model=logistic")
    assert torch.isfinite(task.loss(task.initial_params(), *task.batch(np.arange(6))))


def test_a_changed_file_is_seen(save: Save) -> None:
    """Same path, same size, other content: the prepared copy must not be served."""
    before = load_npz(save(x=np.zeros((6, 4))))
    path = save(x=np.ones((6, 4)))
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))
    assert before.x.max() == 0
    assert load_npz(path).x.min() == 1


def test_an_unchanged_file_is_prepared_once(save: Save, store: Path) -> None:
    """Or a run would pay for it each time."""
    path = save()
    load_npz(path)
    (folder,) = store.iterdir()
    prepared = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    load_npz(path)
    assert list(store.iterdir()) == [folder]
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == prepared


def test_a_relative_path_means_the_file_of_this_folder(
    save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two projects with a mine.npz each, unpacked from archives, so with the same time and size."""
    for name, value in (("one", 1.0), ("two", 2.0)):
        (tmp_path / name).mkdir()
        os.utime(save(f"{name}/mine.npz", x=np.full((6, 4), value)), ns=(10**18, 10**18))
    found = []
    for name in ("one", "two"):
        monkeypatch.chdir(tmp_path / name)
        found.append(float(load_npz("mine.npz").x[0, 0]))
    assert found == [1.0, 2.0]


@pytest.mark.parametrize("path", ["null", "5"])
def test_a_path_that_is_no_text_is_refused(path: str) -> None:
    """`dataset.path=5` is read as a number by Hydra; it still is a mistake of one line."""
    with pytest.raises(InputError, match=r"dataset\.path"):
        load_npz(path)
