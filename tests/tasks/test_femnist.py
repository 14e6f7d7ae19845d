"""FEMNIST by writer, from the files that people have: LEAF's JSON, and Parquet of the hub."""

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from nufed.tasks.datasets.femnist import read
from nufed.tasks.task import build

WRITERS = {"f0000_14": 3, "f0001_41": 2, "f0002_07": 5}
"""With as many images."""


def images() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return grey levels [n, 28, 28] and classes [n] of each writer."""
    random = np.random.default_rng(0)
    return {
        writer: (random.integers(0, 256, (n, 28, 28), np.uint8), random.integers(0, 62, n))
        for writer, n in WRITERS.items()
    }


def leaf(*writers: str) -> dict[str, Any]:
    """Return what LEAF writes of some writers: grey levels as shares of white."""
    of = images()
    data = {
        writer: {"x": (of[writer][0].reshape(-1, 784) / 255).tolist(), "y": of[writer][1].tolist()}
        for writer in writers
    }
    return {
        "users": [*writers],
        "num_samples": [len(each["y"]) for each in data.values()],
        "user_data": data,
    }


def write_leaf(folder: Path) -> Path:
    folder.mkdir()
    (folder / "all_data_0.json").write_text(json.dumps(leaf("f0000_14", "f0001_41")))
    (folder / "all_data_1.json").write_text(json.dumps(leaf("f0002_07")))
    return folder


def write_parquet(folder: Path, mode: str = "L") -> Path:
    """Write the columns of flwrlabs/femnist, images as PNG."""
    import datasets
    import PIL.Image

    def png(image: np.ndarray) -> dict[str, Any]:
        content = io.BytesIO()
        PIL.Image.fromarray(image).convert(mode).save(content, "PNG")
        return {"bytes": content.getvalue(), "path": None}

    of = images()
    columns = {
        "image": [png(image) for x, _ in of.values() for image in x],
        "writer_id": [writer for writer, (x, _) in of.items() for _ in x],
        "hsf_id": [0] * sum(WRITERS.values()),
        "character": [int(c) for _, y in of.values() for c in y],
    }
    kinds = datasets.Features(
        {
            "image": datasets.Image(),
            "writer_id": datasets.Value("string"),
            "hsf_id": datasets.Value("int64"),
            "character": datasets.ClassLabel(num_classes=62),
        }
    )
    (folder / "data").mkdir(parents=True)
    table = datasets.Dataset.from_dict(columns, kinds)
    table.to_parquet(folder / "data" / "train-00000-of-00001.parquet")
    return folder


@pytest.mark.parametrize("form", ["leaf", "L", "RGB"])
def test_both_forms_give_the_same_writers(tmp_path: Path, form: str) -> None:
    """Pixel by pixel: LEAF's 0 … 1 are the grey levels of the PNG files, white 255."""
    place = tmp_path / "femnist"
    folder = write_leaf(place) if form == "leaf" else write_parquet(place, form)
    rows = read(str(folder), least=3)
    assert rows.client is not None
    assert rows.test is None
    assert rows.x.dtype == np.uint8
    assert {w: int((rows.client == w).sum()) for w in np.unique(rows.client)} == {
        "f0000_14": 3,
        "f0002_07": 5,
    }, "one has two images, and is left out"
    for writer, (x, y) in images().items():
        if WRITERS[writer] >= 3:
            np.testing.assert_array_equal(rows.x[rows.client == writer], x)
            np.testing.assert_array_equal(rows.y[rows.client == writer], y)


def test_leafs_own_split_is_kept(tmp_path: Path) -> None:
    for half, writers in (("train", [*WRITERS]), ("test", ["f0002_07", "f0000_14"])):
        (tmp_path / "leaf" / half).mkdir(parents=True)
        (tmp_path / "leaf" / half / f"all_{half}.json").write_text(json.dumps(leaf(*writers)))
    rows = read(str(tmp_path / "leaf"), least=4)
    assert rows.client is not None
    assert rows.test is not None
    assert rows.client[rows.test].tolist() == ["f0002_07"] * 5 + ["f0000_14"] * 3
    assert rows.client[~rows.test].tolist() == ["f0000_14"] * 3 + ["f0002_07"] * 5


def test_it_is_an_option(tmp_path: Path) -> None:
    task = build(
        compose_config(
            ["dataset=femnist", f"dataset.path={write_leaf(tmp_path / 'leaf')}", "dataset.least=2"]
        )
    )
    assert task.data.num_clients == 3
    assert task.data.x.shape[1:] == (28, 28)


def refusal(path: Path, least: int = 1) -> str:
    with pytest.raises(InputError) as caught:
        read(str(path), least)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda whole: whole.pop("users"), "lacks users, num_samples or user_data"),
        (lambda whole: whole["users"].append("f9"), "users, num_samples and user_data do not"),
        (lambda whole: whole["num_samples"].pop(), "users, num_samples and user_data do not"),
        (lambda whole: whole["num_samples"].__setitem__(0, 4), "has 4 images by num_samples"),
        (lambda whole: whole.update(users=[], num_samples=[], user_data={}), "lacks users"),
        (lambda whole: whole["user_data"]["f0001_41"]["y"].pop(), "y [1] of int64; must be"),
        (lambda whole: whole["user_data"]["f0001_41"]["x"][0].pop(), "writer f0001_41 has no"),
        (lambda whole: whole["user_data"].update(f0001_41=[3]), "writer f0001_41 has no arrays"),
        (lambda whole: whole["user_data"]["f0001_41"]["x"][0].__setitem__(0, 0.5), "no grey level"),
        (lambda whole: whole["user_data"]["f0001_41"]["x"][0].__setitem__(0, 2), "no grey level"),
        (lambda whole: whole["user_data"]["f0001_41"]["y"].__setitem__(0, 62), "classes go up to"),
        (lambda whole: whole["user_data"]["f0001_41"]["y"].__setitem__(0, -1), "and has -1"),
    ],
)
def test_malformed_files_of_leaf_are_refused(tmp_path: Path, change: Any, words: str) -> None:
    folder = write_leaf(tmp_path / "leaf")
    whole = leaf("f0000_14", "f0001_41")
    change(whole)
    (folder / "all_data_0.json").write_text(json.dumps(whole))
    line = refusal(folder)
    assert words in line
    assert line.startswith(f"dataset.path={folder}: ")


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    folder = write_leaf(tmp_path / "leaf")
    first = folder / "all_data_0.json"
    first.write_bytes(first.read_bytes()[:-9])
    assert "all_data_0.json: is no JSON of LEAF; fetch it anew" in refusal(folder)
    first.write_text(json.dumps(leaf("f0002_07")))
    assert "all_data_1.json: writer f0002_07 is there twice" in refusal(folder)
    first.unlink()
    os.mkfifo(first)
    assert "all_data_0.json: is a FIFO" in refusal(folder)
    assert "no such folder" in refusal(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "cannot be loaded" in refusal(tmp_path / "empty")


def test_least_is_checked(tmp_path: Path) -> None:
    folder = write_leaf(tmp_path / "leaf")
    assert "dataset.least=6: must be at most 5, the most there are" in refusal(folder, 6)
    assert "dataset.least=0: must be at least 1" in refusal(folder, 0)
