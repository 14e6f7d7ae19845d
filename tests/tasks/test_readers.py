"""Parquet, image folders and Hugging Face data sets: real files, and what each of them holds."""

import logging
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import PIL.Image
import pyarrow as pa
import pytest
from pyarrow import parquet

from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from nufed.tasks.datasets.columns import rows_of
from nufed.tasks.store import FederatedData, load
from nufed.tasks.task import build

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(12, 4)).astype(np.float32)
CLIENT = ["zoe", "amy", "bob"] * 4
Y = np.tile([0, 1], 6)


def loaded(*overrides: str) -> FederatedData:
    config = compose_config(list(overrides))
    return load(config.dataset, config.partition)


def refusal(*overrides: str) -> str:
    with pytest.raises(InputError) as caught:
        loaded(*overrides)
    line = str(caught.value)
    assert "\n" not in line
    return line


def owned(data: FederatedData) -> list[list[int]]:
    """Return the rows of each client."""
    part = data.partition
    ids = range(data.num_clients)
    return [sorted([*part.train_rows(i).tolist(), *part.test_rows(i).tolist()]) for i in ids]


def table(**columns: Any) -> pa.Table:
    given = {"x": X.tolist(), "y": Y, "client": CLIENT, **columns}
    return pa.table({name: column for name, column in given.items() if column is not None})


def parquet_file(folder: Path, rows: pa.Table | None = None, name: str = "mine.parquet") -> str:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table() if rows is None else rows, folder / name)
    return f"dataset.path={folder / name}"


# Parquet


def test_parquet_columns_are_rows(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Lists, whatever their Arrow type; clients numbered in the order of their names."""
    caplog.set_level(logging.INFO, "nufed")
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), 4)
    lists = (X.tolist(), fixed, pa.array(X.tolist(), pa.large_list(pa.float32())))
    for i, x in enumerate(lists):
        data = loaded("dataset=parquet", parquet_file(tmp_path, table(x=x), f"{i}.parquet"))
        np.testing.assert_array_equal(data.x, X)
        assert data.y.tolist() == Y.tolist()
        assert owned(data) == [[1, 4, 7, 10], [2, 5, 8, 11], [0, 3, 6, 9]]
    assert "clients are numbered in sorted order: amy = 0, bob = 1, zoe = 2" in caplog.text


BIG = [2**63 + 7, 5, 2**64 - 1] * 4
IDS: dict[str, tuple[Any, list[int] | list[str]]] = {
    "integers": (pa.array([30, 4, 5] * 4, pa.int16()), [4, 5, 30]),
    "uint64": (pa.array(BIG, pa.uint64()), [5, 2**63 + 7, 2**64 - 1]),
    "whole floats": (pa.array([30.0, 4.0, 5.0] * 4), [4, 5, 30]),
    "decimals": (pa.array(BIG, pa.decimal128(21, 0)), [5, 2**63 + 7, 2**64 - 1]),
    "large text": (pa.array(CLIENT, pa.large_string()), ["amy", "bob", "zoe"]),
    "a view of text": (pa.array(CLIENT, pa.string_view()), ["amy", "bob", "zoe"]),
    "bytes": (pa.array([b"a,b", "é".encode(), b"<b>"] * 4), ["<b>", "a,b", "é"]),
    "a dictionary": (pa.array(CLIENT).dictionary_encode(), ["amy", "bob", "zoe"]),
    "a dictionary of numbers": (pa.array([30, 4, 5] * 4).dictionary_encode(), [4, 5, 30]),
    "21 digits": ([f"1{i:020}" for i in (30, 4, 5)] * 4, [f"1{i:020}" for i in (4, 5, 30)]),
}


@pytest.mark.parametrize(("client", "ids"), IDS.values(), ids=IDS.keys())
def test_ids_of_parquet_are_kept(tmp_path: Path, client: Any, ids: list[Any]) -> None:
    file = parquet_file(tmp_path, table(client=client))
    data = loaded("dataset=parquet", file, "dataset.one_class=keep")
    assert [data.partition.ids[i] for i in range(3)] == ids


@pytest.mark.parametrize(
    ("client", "words"),
    [
        (pa.array([True, False] * 6), "'client' is of type bool; give integers or text"),
        (pa.array([1.5] * 12), "client is float64, 1.5 in row 0"),
        (pa.array([1] * 12, pa.date32()), "'client' is of type date32[day]; give integers or text"),
        (pa.array([b"\xff"] * 12), "the client of row 0 is b'\\xff', no UTF-8"),
        (pa.array(["a", None] * 6), "'client' has 6 empty entries, first in row 1"),
    ],
)
def test_what_is_no_id_in_parquet_is_refused(tmp_path: Path, client: Any, words: str) -> None:
    assert words in refusal("dataset=parquet", parquet_file(tmp_path, table(client=client)))


def test_features_may_be_columns_of_their_own(tmp_path: Path) -> None:
    """In the order in which they are named; the target too has a name; text is classes."""
    rows = table(
        x=None,
        y=None,
        age=X[:, 0],
        weight=X[:, 1].astype(np.float64),
        tall=X[:, 2] > 0,
        kind=["cat", "ant"] * 6,
    )
    rows = rows.set_column(0, "client", rows["client"].dictionary_encode())
    data = loaded(
        "dataset=parquet",
        parquet_file(tmp_path, rows),
        "dataset.features=[weight,age,tall]",
        "dataset.target=kind",
    )
    np.testing.assert_array_equal(data.x, np.stack([X[:, 1], X[:, 0], X[:, 2] > 0], 1))
    assert data.y.tolist() == [1, 0] * 6
    assert data.num_clients == 3


def test_lists_of_lists_and_a_split_of_ones_own(tmp_path: Path) -> None:
    """x [N, 2, 2], targets [N, 2], and a column of booleans that is the split."""
    held_out = np.arange(12) % 4 == 3
    rows = table(x=X.reshape(12, 2, 2).tolist(), y=X[:, :2].tolist(), held_out=held_out)
    data = loaded("dataset=parquet", parquet_file(tmp_path, rows), "dataset.test=held_out")
    np.testing.assert_array_equal(data.x, X.reshape(12, 2, 2))
    assert data.num_outputs == 2
    test = [row for i in range(3) for row in data.partition.test_rows(i)]
    assert sorted(test) == [3, 7, 11]


@pytest.mark.parametrize(
    "held_out",
    [
        [int(row % 4 == 3) for row in range(12)],
        [float(row % 4 == 3) for row in range(12)],
        ["train", "train", "Train", "test"] * 3,
        pa.array(["train", "train", "train", "TEST"] * 3).dictionary_encode(),
    ],
)
def test_a_split_may_be_written_in_several_ways(tmp_path: Path, held_out: Any) -> None:
    path = parquet_file(tmp_path, table(held_out=held_out))
    data = loaded("dataset=parquet", path, "dataset.test=held_out")
    test = [row for i in range(3) for row in data.partition.test_rows(i)]
    assert sorted(test) == [3, 7, 11]


def test_names_of_classes_at_each_place_are_numbered_together(tmp_path: Path) -> None:
    tags = [["noun", "verb"], ["verb", "adverb"], ["noun", "noun"]] * 4
    data = loaded("dataset=parquet", parquet_file(tmp_path, table(y=tags)))
    assert data.y[:3].tolist() == [[1, 2], [2, 0], [1, 1]]
    assert data.num_outputs == 3


def test_a_folder_of_parquet_files_one_a_client(tmp_path: Path) -> None:
    """As a database writes it: client=amy/part.parquet, the name being the column."""
    for i, name in enumerate(("amy", "bob")):
        rows = pa.table({"x": X[6 * i : 6 * i + 6].tolist(), "y": Y[:6]})
        parquet_file(tmp_path / "all" / f"client={name}", rows, "part.parquet")
    data = loaded("dataset=parquet", f"dataset.path={tmp_path / 'all'}")
    np.testing.assert_array_equal(data.x, X)
    assert owned(data) == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]


REFUSED: dict[str, tuple[dict[str, Any], Sequence[str], Sequence[str]]] = {
    "no such column": (
        {"client": None},
        [],
        ["no column 'client'", "found: x, y", "dataset.client"],
    ),
    "ragged lists": ({"x": [[1.0]] * 11 + [[1.0, 2.0]]}, [], ["'x' has rows of 1 to 2", "pad"]),
    "empty entries": ({"y": [0, 1, None] + [0, 1, 0] * 3}, [], ["'y' has 1 empty", "row 2"]),
    "empty within lists": ({"x": [[1.0]] * 11 + [[None]]}, [], ["'x' has 1 empty", "row 11"]),
    "NaN": ({"x": [[np.nan]] * 12}, [], ["x has NaN", "row 0"]),
    "text in x": ({"x": ["a"] * 12}, [], ["'x' holds text", "0 or 1 for each"]),
    "dates": ({"x": pa.array([0] * 12, pa.date32())}, [], ["'x' is of type date32", "numbers"]),
    "one class": ({"y": [int(c == "zoe") for c in CLIENT]}, [], ["client amy has one class only"]),
    "target as a feature": (
        {},
        ["dataset.features=[x,y]"],
        ["column 'y' is in dataset.features and in dataset.target", "tells the model", "name it"],
    ),
    "client as a feature": (
        {"x": X[:, 0]},
        ["dataset.features=[client,x]"],
        ["column 'client' is in dataset.features and in dataset.client; name it once"],
    ),
    "split as a feature": (
        {"x": X[:, 0], "held_out": [0, 1] * 6},
        ["dataset.features=[x,held_out]", "dataset.test=held_out"],
        ["column 'held_out' is in dataset.features and in dataset.test"],
    ),
    "client as the target": ({}, ["dataset.target=client"], ["dataset.target and in dataset.cl"]),
    "a feature twice": ({}, ["dataset.features=[x,x]"], ["'x' is in dataset.features and in dat"]),
    "ragged names": ({"y": [["a"]] * 11 + [["a", "b"]]}, [], ["'y' has rows of 1 to 2", "pad"]),
    "a third split": (
        {"held_out": ["train", "val", "test"] * 4},
        ["dataset.test=held_out"],
        ["test has 'val'"],
    ),
    "features": ({}, ["dataset.features=3"], ["dataset.features=3: must be a column"]),
    "matrices": (
        {"x": np.zeros((12, 2, 2)).tolist(), "z": X[:, 0]},
        ["dataset.features=[x,z]"],
        ["give it alone"],
    ),
}


@pytest.mark.parametrize(("columns", "overrides", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_unusable_columns_are_refused(
    tmp_path: Path, columns: dict[str, Any], overrides: Sequence[str], words: Sequence[str]
) -> None:
    line = refusal("dataset=parquet", parquet_file(tmp_path, table(**columns)), *overrides)
    assert [word for word in words if word not in line] == []


def test_what_is_no_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.parquet").write_text("x,y\n")
    assert "no readable Parquet" in refusal("dataset=parquet", f"dataset.path={tmp_path}")
    assert "no such file" in refusal("dataset=parquet", f"dataset.path={tmp_path / 'none'}")
    (tmp_path / "empty").mkdir()
    assert "no .parquet file" in refusal("dataset=parquet", f"dataset.path={tmp_path / 'empty'}")


# Image folders


def images(root: Path, pixels: dict[str, np.ndarray], suffix: str = ".png") -> str:
    """Write images client/class/name; return the override that names their folder."""
    for name, array in pixels.items():
        file = root / f"{name}{suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(array).save(file)
    return f"dataset.path={root}"


def noise(*shape: int) -> np.ndarray:
    return RANDOM.integers(256, size=shape, dtype=np.uint8)


def test_an_image_folder_is_its_pixels(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Classes over all clients, by value: 10 is after 9, also where a client has but two."""
    caplog.set_level(logging.INFO, "nufed")
    names = ["b/10/0", "b/9/0", "b/9/1", "a/2/0", "a/10/0"]
    pixels = {name: noise(5, 4) for name in names}
    path = images(tmp_path, pixels)
    (tmp_path / "a" / "2" / "notes.txt").write_text("")
    (tmp_path / ".cache").mkdir()
    data = loaded("dataset=image_folder", path)
    assert data.x.dtype == np.uint8
    np.testing.assert_array_equal(data.x, np.stack([pixels[name] for name in sorted(names)]))
    assert data.y.tolist() == [2, 0, 2, 1, 1]
    assert owned(data) == [[0, 1], [2, 3, 4]]
    assert "classes are numbered in sorted order: 2 = 0, 9 = 1, 10 = 2" in caplog.text
    assert "1 files that are no images are left out (.txt)" in caplog.text


def test_one_coloured_image_makes_all_of_them_coloured(tmp_path: Path) -> None:
    """Channels first, as convolutions take them; grey ones have three alike."""
    grey, red = noise(5, 4), noise(5, 4, 3)
    data = loaded("dataset=image_folder", images(tmp_path, {"a/x/0": grey, "a/y/0": red}))
    assert data.x.shape == (2, 3, 5, 4)
    np.testing.assert_array_equal(data.x[0], np.stack([grey] * 3))
    np.testing.assert_array_equal(data.x[1], red.transpose(2, 0, 1))


def test_images_of_different_sizes_are_refused_or_scaled(tmp_path: Path) -> None:
    flat = {"a/x/0": np.full((8, 8), 90, np.uint8), "a/y/0": np.full((8, 8), 30, np.uint8)}
    path = images(tmp_path, {**flat, "b/x/0": np.full((6, 4), 60, np.uint8), "b/y/0": noise(8, 8)})
    line = refusal("dataset=image_folder", path)
    assert f"3 of 4 are 8x8, {tmp_path}/b/x/0.png is 6x4; say dataset.size=8" in line
    data = loaded("dataset=image_folder", path, "dataset.size=[3,2]")
    assert data.x.shape == (4, 3, 2)
    assert [np.unique(image).tolist() for image in data.x[:3]] == [[90], [30], [60]]
    wrong = refusal("dataset=image_folder", path, "dataset.size=0")
    assert wrong.startswith("dataset.size=0: must be height and width")


def test_a_layout_or_an_image_that_is_wrong_is_named(tmp_path: Path) -> None:
    path = images(tmp_path / "one", {"a/x/0": noise(4, 4), "a/y/0": noise(4, 4)})
    whole = (tmp_path / "one/a/y/0.png").read_bytes()
    for content in (whole[:40], b"no image"):
        (tmp_path / "one/a/y/0.png").write_bytes(content)
        line = refusal("dataset=image_folder", path)
        assert "a/y/0.png cannot be read" in line
    PIL.Image.fromarray(np.full((4, 4), 1000, np.uint16)).save(tmp_path / "one/a/y/0.png")
    assert "more than 8 bits a channel" in refusal("dataset=image_folder", path)

    flat = images(tmp_path / "two", {"a/0": noise(4, 4)})
    assert "a/0.png is not in client/class/" in refusal("dataset=image_folder", flat)
    (tmp_path / "three").mkdir()
    assert "holds no image" in refusal("dataset=image_folder", f"dataset.path={tmp_path / 'three'}")
    assert "no such folder" in refusal("dataset=image_folder", f"dataset.path={tmp_path / 'four'}")


def test_an_image_that_was_replaced_is_seen(tmp_path: Path) -> None:
    """Deep in the tree, of the same size in bytes."""
    path = images(tmp_path, {"a/x/0": noise(4, 4), "a/y/0": noise(4, 4)}, ".bmp")
    before = loaded("dataset=image_folder", path).x[1].copy()
    file = tmp_path / "a/y/0.bmp"
    size = file.stat().st_size
    images(tmp_path, {"a/y/0": 255 - before}, ".bmp")
    os.utime(file, ns=(2 * 10**18, 2 * 10**18))
    assert file.stat().st_size == size
    np.testing.assert_array_equal(loaded("dataset=image_folder", path).x[1], 255 - before)


# Hugging Face


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def saved(folder: Path) -> str:
    """Write two splits of images with class names, as `save_to_disk` does."""
    pixels = noise(12, 4, 4)
    features = datasets.Features(
        image=datasets.Image(),
        label=datasets.ClassLabel(names=["b", "a"]),
        who=datasets.Value("string"),
    )
    rows = {"image": [PIL.Image.fromarray(p) for p in pixels], "label": Y, "who": CLIENT}
    whole = datasets.Dataset.from_dict(rows, features)
    parts = {"train": whole.select(range(8)), "test": whole.select(range(8, 12))}
    datasets.DatasetDict(parts).save_to_disk(str(folder))
    np.save(folder / "pixels.npy", pixels)
    return f"dataset.path={folder}"


def test_a_saved_data_set_is_its_images(tmp_path: Path) -> None:
    """All splits together, or one; classes keep their numbers; clients by column, or dealt out."""
    path = saved(tmp_path / "saved")
    pixels = np.load(tmp_path / "saved" / "pixels.npy")
    natural = ["dataset.client=who", "partition=natural"]
    data = loaded("dataset=hf", path, *natural)
    np.testing.assert_array_equal(data.x, pixels)
    assert data.y.tolist() == Y.tolist()
    assert owned(data) == [[1, 4, 7, 10], [2, 5, 8, 11], [0, 3, 6, 9]]
    half = loaded(
        "dataset=hf", path, "dataset.split=train", "partition=iid", "partition.num_clients=2"
    )
    np.testing.assert_array_equal(half.x, pixels[:8])
    assert half.num_clients == 2
    assert "has train, test" in refusal("dataset=hf", path, "dataset.split=dev")
    assert "found: image, label, who" in refusal("dataset=hf", path, "dataset.features=x")


@pytest.mark.parametrize(
    ("partitioner", "expected"),
    [
        ("{_target_: flwr_datasets.partitioner.NaturalIdPartitioner, partition_by: client}", 3),
        (
            "{_target_: flwr_datasets.partitioner.GroupedNaturalIdPartitioner, "
            "partition_by: client, group_size: 2, mode: allow-smaller}",
            2,
        ),
        ("{_target_: flwr_datasets.partitioner.LinearPartitioner, num_partitions: 4}", 4),
    ],
)
def test_any_partitioner_may_deal_them_out(tmp_path: Path, partitioner: str, expected: int) -> None:
    """By a column of its own, and telling itself how many clients there are."""
    data = loaded(
        "dataset=hf",
        saved(tmp_path / "saved"),
        "dataset.client=who",
        "dataset.one_class=keep",
        f"partition.partitioner={partitioner}",
        "partition=natural",
    )
    assert data.num_clients == expected
    groups = [{CLIENT[row] for row in rows} for rows in owned(data)]
    if expected < 4:
        assert sum(map(len, groups)) == 3


def test_a_csv_file_is_a_data_set_too(tmp_path: Path) -> None:
    lines = [
        f"{a},{b},{'yes' if y else 'no'},{c}" for (a, b, *_), y, c in zip(X, Y, CLIENT, strict=True)
    ]
    file = tmp_path / "mine, [v2]*.csv"  # by which `datasets` would find others too
    for name, rows in ((file.name, lines), ("mine, v.csv", lines[:1]), ("mine, 2.csv", lines[:1])):
        (tmp_path / name).write_text("\n".join(["age,weight,ill,who", *rows]))
    task = build(
        compose_config(
            [
                "dataset=hf",
                f"dataset.path={file}",
                "dataset.features=[age,weight]",
                "dataset.target=ill",
                "dataset.client=who",
                "partition=natural",
            ]
        )
    )
    np.testing.assert_allclose(task.data.x, X[:, :2], rtol=1e-6)
    assert task.data.y.tolist() == Y.tolist()
    assert task.data.num_clients == 3


WRITTEN = {
    "leading zeros": ["007", "07", "7"],
    "an exponent": ["1000", "1e3", "1e5"],
    "names of nothing": ["NA", "NaN", "null"],
    "beyond 64 bits": [f"{2**64}", f"{2**64 + 1}", f"{2**70}"],
    "numbers with a point": ["1.0", "1.5", "2.0"],
    "plain numbers": [5, 2, 10],
    "numbers after blanks": [" 2", "5 ", " 10"],
}


@pytest.mark.parametrize("whole_folder", [False, True], ids=["file", "folder"])
@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN.keys())
def test_ids_of_a_csv_are_as_they_are_written(
    tmp_path: Path, written: list[Any], whole_folder: bool
) -> None:
    """None is read as a number that another is written for too, and none as an empty entry."""
    file = tmp_path / "visits" / "mine.csv"
    _write_csv(file, written * 4)
    data = loaded(*_of_csv(file.parent if whole_folder else file))
    plain = all(str(each).strip() in ("2", "5", "10") for each in written)
    ids = [data.partition.ids[i] for i in range(data.num_clients)]
    assert ids == (sorted(map(int, written)) if plain else written)


def test_an_empty_id_in_a_csv_is_refused(tmp_path: Path) -> None:
    _write_csv(tmp_path / "mine.csv", ["a", "b", "", "d"] * 3)
    line = refusal(*_of_csv(tmp_path / "mine.csv"))
    assert "the client of row 2 is empty; give integers or text" in line


def test_a_csv_without_the_column_of_clients_is_refused(tmp_path: Path) -> None:
    _write_csv(tmp_path / "mine.csv", CLIENT)
    line = refusal(*_of_csv(tmp_path / "mine.csv"), "dataset.client=whom")
    assert "has no column 'whom' (found: age, ill, who)" in line


def _write_csv(file: Path, clients: Sequence[object]) -> None:
    file.parent.mkdir(exist_ok=True)
    rows = [f"{a},{i % 2},{c}" for i, (a, c) in enumerate(zip(X[:, 0], clients, strict=True))]
    file.write_text("\n".join(["age,ill,who", *rows]))


def _of_csv(path: Path) -> list[str]:
    columns = ["dataset.features=[age]", "dataset.target=ill", "dataset.client=who"]
    kept = ["dataset.one_class=keep", "partition=natural"]
    return ["dataset=hf", f"dataset.path={path}", *columns, *kept]


def test_without_a_network_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names cannot be looked up, for real, as on a machine that is offline."""

    def offline(*_: object, **__: object) -> None:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    line = refusal("dataset=hf", "dataset.path=nobody/no-such-data-set")
    assert line.startswith("dataset.path=nobody/no-such-data-set: cannot be loaded")
    assert "without a network" in line


def test_a_table_in_pieces_is_one(tmp_path: Path) -> None:
    """Chunks of a column, as large files and joined splits have them, stay in their order."""
    whole = pa.concat_tables([table().slice(0, 5), table().slice(5)])
    rows = rows_of(
        whole, features="x", target="y", client="client", test=None, one_class="refuse", where="it"
    )
    np.testing.assert_array_equal(rows.x, X)
    assert rows.client is not None
    assert rows.client.tolist() == CLIENT
