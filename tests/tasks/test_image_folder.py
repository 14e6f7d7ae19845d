"""How folders of images are laid out: whose an image is, its class, and its split."""

import shlex
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from nufed.tasks.store import FederatedData, load


def images(root: Path, *names: str) -> str:
    """Write an image under each name, brighter one by one; return their folder's override."""
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(np.full((4, 4), i, np.uint8)).save(root / f"{name}.png")
    return f"dataset.path={root}"


def loaded(*overrides: str) -> FederatedData:
    config = compose_config(list(overrides))
    return load(config.dataset, config.partition)


def refusal(path: str) -> str:
    with pytest.raises(InputError) as caught:
        loaded("dataset=image_folder", path)
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    "names",
    [
        ("train", "test"),
        ("Train", "Val"),
        ("training", "validation", "testing"),
        ("TRAIN",),
        ("dev", "eval"),
    ],
)
def test_splits_are_not_taken_for_clients(tmp_path: Path, names: tuple[str, ...]) -> None:
    """As torchvision and `datasets` lay them out; the line says how to train on them."""
    path = images(tmp_path, *(f"{split}/{c}/{i}" for split in names for c in "ab" for i in "01"))
    line = refusal(path)
    found = ", ".join(sorted(names))
    assert f"its folders are splits ({found}), not clients" in line
    assert f"say dataset=hf {path} partition=dirichlet, which makes some" in line


def test_what_the_line_says_of_images_without_clients_can_be_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For both layouts that lead to it: train/class/image and class/image."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    names = [f"{s}/{c}/{i}" for s in ("train", "test") for c in "ab" for i in "01"]
    split = images(tmp_path / "split (1)", *names)
    flat = images(tmp_path / "flat", *(f"{c}/{i}" for c in "ab" for i in "0123"))
    for path in (split, flat):
        line = refusal(path)
        words = line.partition("; without clients, say ")[2].partition(", which")[0]
        data = loaded(
            *shlex.split(words), "partition.num_clients=2", "partition.partitioner.alpha=100"
        )
        assert sorted(np.unique(data.x).tolist()) == list(range(8))
        assert np.bincount(data.y).tolist() == [4, 4]


@pytest.mark.parametrize("layout", ["{client}/{split}/{c}/{i}", "{split}/{client}/{c}/{i}"])
@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("Training", "TEST")])
def test_a_split_of_ones_own_is_kept(tmp_path: Path, layout: str, train: str, test: str) -> None:
    """Within a client's folder, or around them: no row moves from one side to the other."""
    names = [
        layout.format(client=client, split=split, c=c, i=i)
        for client in ("amy", "bob")
        for split in (train, test)
        for c in "ab"
        for i in "012"[: 3 if split == train else 1]
    ]
    data = loaded("dataset=image_folder", images(tmp_path, *names))
    shade = data.x[:, 0, 0].tolist()
    for number, client in enumerate(("amy", "bob")):
        for rows, split in (
            (data.partition.train_rows(number), train),
            (data.partition.test_rows(number), test),
        ):
            found = {names[shade[row]] for row in rows}
            parts = [set(name.split("/")) for name in names]
            expected = {n for n, p in zip(names, parts, strict=True) if {client, split} <= p}
            assert found == expected


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["amy/val/a/0", "amy/train/a/1"], "a folder val is neither train nor test"),
        (["amy/x/a/0", "bob/y/a/1"], "amy/x/a/0.png is not in client/class/; of the folders on "),
        (["amy/a/0", "amy/train/a/1"], "amy/train/a/1.png is not in client/class/; make a folder"),
        (["0", "amy/a/1"], "0.png is not in client/class/; make a folder for each client"),
        (["amy/1/2/3/4"], "amy/1/2/3/4.png is not in client/class/; make a folder"),
    ],
)
def test_another_layout_is_refused(tmp_path: Path, names: list[str], words: str) -> None:
    assert words in refusal(images(tmp_path, *names))


def test_a_client_may_be_called_as_a_split_is(tmp_path: Path) -> None:
    path = images(
        tmp_path, *(f"{name}/{c}/{i}" for name in ("test", "amy") for c in "ab" for i in "01")
    )
    assert loaded("dataset=image_folder", path).num_clients == 2
