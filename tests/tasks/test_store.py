"""The store: prepared once, mapped by all, complete or not there at all."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from nufed.tasks.datasets.idx_images import FILES
from nufed.tasks.store import FederatedData, load
from tests.forked import LIMIT_S
from tests.tasks.test_datasets import small_mnist, write_idx

Save = Callable[..., Path]

PREPARE = """
import hashlib, sys
from nufed.conf.compose import compose_config
from nufed.tasks.store import load
config = compose_config(["dataset=npz", f"dataset.path={sys.argv[1]}"])
print("ready", flush=True)
sys.stdin.readline()
data = load(config.dataset, config.partition)
arrays = [data.x, data.y, data.partition.index, data.partition.offset, data.partition.train]
print(hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest())
"""


def load_overrides(*overrides: str) -> FederatedData:
    """Map the data of a configuration."""
    config = compose_config(list(overrides))
    return load(config.dataset, config.partition)


def left_behind(store: Path) -> list[str]:
    """Return everything that lies in the store."""
    return sorted(p.relative_to(store).as_posix() for p in store.rglob("*"))


def test_processes_may_prepare_the_same_data_side_by_side(save: Save, store: Path) -> None:
    """Two SuperNodes started at once: both get the arrays, and one folder remains."""
    n = 200_000
    x = np.random.default_rng(0).normal(size=(n, 20)).astype(np.float32)
    path = save(x=x, y=np.arange(n) % 3, client=np.arange(n) // 100)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PREPARE, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=LIMIT_S) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    digests = [out.strip() for out, _ in outputs]
    assert len(digests[0]) == 64
    assert digests[0] == digests[1]
    (folder,) = store.iterdir()
    assert len([p for p in folder.iterdir() if p.is_dir()]) == 1
    np.testing.assert_array_equal(np.load(folder / "x.npy"), x)


def test_arrays_are_mapped_and_cannot_be_written(save: Save) -> None:
    """A hundred workers share one copy, which none of them can spoil."""
    data = load_overrides("dataset=npz", f"dataset.path={save()}")
    assert isinstance(data.x, np.memmap)
    assert isinstance(data.y, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        data.x[0] = 1


def test_a_store_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here: a path below a regular file, which not even root can make."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NUFED_DATA", str(tmp_path / "file" / "data"))
    with pytest.raises(InputError) as caught:
        load_overrides("dataset=quadratics")
    assert str(caught.value).startswith(
        f"NUFED_DATA={tmp_path / 'file' / 'data'}: cannot be written"
    )
    assert "\n" not in str(caught.value)


def test_data_that_is_refused_leaves_nothing_in_the_store(save: Save, store: Path) -> None:
    """The next run must read the mended file, not half of this one."""
    load_overrides("dataset=quadratics")
    before = left_behind(store)
    with pytest.raises(InputError, match="NaN"):
        load_overrides("dataset=npz", f"dataset.path={save(y=[0.0, float('nan'), 0, 0, 0, 0])}")
    assert left_behind(store) == before


def test_a_partition_that_is_refused_leaves_nothing_in_the_store(save: Save, store: Path) -> None:
    """The rows stay, being fine; the partition that did not come about leaves no trace."""
    path = save()
    with pytest.raises(InputError, match="6 rows"):
        load_overrides(
            "dataset=npz", f"dataset.path={path}", "partition=iid", "partition.num_clients=7"
        )
    (folder,) = store.iterdir()
    assert left_behind(folder) == ["client.npy", "digest", "x.npy", "y.npy"]


def test_an_interrupted_write_is_no_prepared_data(save: Save, store: Path) -> None:
    """A disk that is full midway (a file-size limit, for real): refused, and nothing remains."""
    script = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))\n" + PREPARE
    )
    path = save(x=np.zeros((6, 1 << 14)))
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], input="go\n", text=True, capture_output=True
    )
    assert done.returncode != 0
    assert "InputError: NUFED_DATA=" in done.stderr
    assert left_behind(store) == []
    assert load_overrides("dataset=npz", f"dataset.path={path}").x.shape == (6, 1 << 14)


def test_other_options_are_other_data(store: Path) -> None:
    """A key that left out an option would serve one configuration the rows of another."""
    small, large = (load_overrides("dataset=quadratics", f"dataset.dimension={d}") for d in (2, 3))
    assert [small.x.shape[1], large.x.shape[1]] == [2, 3]
    one, two = (load_overrides("dataset=quadratics", f"dataset.seed={s}") for s in (1, 2))
    assert not np.array_equal(one.x, two.x)
    assert len(list(store.iterdir())) == 4


def test_changed_files_in_a_folder_are_seen(tmp_path: Path) -> None:
    """dataset.path may be a folder (MNIST's four files); what it holds may be replaced too."""
    arrays = small_mnist()
    options = ["dataset=mnist", f"dataset.path={tmp_path / 'idx'}", "partition=iid"]
    options.append("partition.num_clients=3")
    write_idx(tmp_path / "idx", arrays)
    assert load_overrides(*options).y[:20].tolist() == arrays[FILES[1]].tolist()

    for file in (tmp_path / "idx").iterdir():
        file.unlink()
    (tmp_path / "idx").rmdir()
    arrays[FILES[1]] = 9 - arrays[FILES[1]]
    write_idx(tmp_path / "idx", arrays)
    for file in (tmp_path / "idx").iterdir():
        os.utime(file, ns=(2 * 10**18, 2 * 10**18))
    assert load_overrides(*options).y[:20].tolist() == arrays[FILES[1]].tolist()
