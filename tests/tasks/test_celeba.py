"""CelebA: persons are clients, an attribute is the class, and the three files agree."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from nufed.tasks.datasets.celeba import ATTRIBUTES, IMAGES, PERSONS, read
from nufed.tasks.task import build

PERSON = [7, 3, 7, 9, 7, 3]
SMILES = [1, -1, -1, 1, 1, 1]
COLOURS = [(10 * i, 100, 250 - 10 * i) for i in range(6)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write six images of three persons, in the format of the data set."""
    place = tmp_path / "celeba"
    (place / IMAGES).mkdir(parents=True)
    names = [f"{i + 1:06}.jpg" for i in range(6)]
    for name, colour in zip(names, COLOURS, strict=True):
        PIL.Image.new("RGB", (178, 218), colour).save(place / IMAGES / name, quality=100)
    pairs = zip(names, PERSON, strict=True)
    (place / PERSONS).write_text("".join(f"{name} {person}\n" for name, person in pairs))
    rows = [f"{n} {-s:2d} {s:2d}" for n, s in zip(names, SMILES, strict=True)]
    (place / ATTRIBUTES).write_text("\n".join(["6", "Young Smiling ", *rows]) + "\n")
    return place


def test_a_client_is_a_person_with_enough_images(folder: Path) -> None:
    rows = read(str(folder), "Smiling", [8, 6], least=2)
    assert rows.client is not None
    assert rows.client.tolist() == [7, 3, 7, 7, 3]
    assert rows.y.tolist() == [1, 0, 0, 1, 1]
    assert rows.x.shape == (5, 3, 8, 6)
    kept = [COLOURS[i] for i in (0, 1, 2, 4, 5)]
    assert abs(rows.x.mean((2, 3)) - np.array(kept)).max() < 3
    assert read(str(folder), "Young", 8, least=3).y.tolist() == [0, 1, 0]


def test_it_is_an_option(folder: Path) -> None:
    task = build(compose_config(["dataset=celeba", f"dataset.path={folder}", "dataset.least=1"]))
    assert task.data.num_clients == 3
    assert task.data.num_outputs == 2
    assert task.data.x.shape == (6, 3, 32, 32)


def refusal(folder: Path, attribute: str = "Smiling", least: int = 2) -> str:
    with pytest.raises(InputError) as caught:
        read(str(folder), attribute, 8, least)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        (PERSONS, "000002.jpg 3", "000002.jpg", "line 2 is no image with a person"),
        (PERSONS, "000002.jpg 3", "000002.jpg x", "line 2 is no image with a person"),
        (PERSONS, "000002.jpg", "000001.jpg", "line 2 is no image with a person"),
        (PERSONS, "000002.jpg", "../2.jpg", "line 2 names '../2.jpg', which is no image"),
        (PERSONS, "000006.jpg 3\n", "", "are not of the same images, first 000006.jpg"),
        (ATTRIBUTES, "6\n", "7\n", "announces 7 images and has 6"),
        (ATTRIBUTES, "000001.jpg -1  1", "000001.jpg -1", "line 3 is no image with 2 times"),
        (ATTRIBUTES, "000001.jpg -1  1", "000001.jpg -1  2", "line 3 is no image with 2 times"),
        (ATTRIBUTES, "000002.jpg", "000001.jpg", "line 4 is no image with 2 times"),
    ],
)
def test_files_that_are_malformed_or_do_not_agree_are_refused(
    folder: Path, file: str, old: str, new: str, words: str
) -> None:
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1))
    line = refusal(folder)
    assert words in line
    assert file in line


def test_what_is_missing_or_too_large_is_named(folder: Path) -> None:
    assert (
        "dataset.attribute=Smilin: list_attr_celeba.txt has no such one; did you mean Smiling?"
        in (refusal(folder, "Smilin"))
    )
    assert "dataset.least=4: must be at most 3" in refusal(folder, least=4)
    (folder / IMAGES / "000003.jpg").write_bytes(b"no image")
    assert "000003.jpg cannot be read" in refusal(folder)
    (folder / IMAGES / "000003.jpg").unlink()
    assert "000003.jpg: cannot be read (No such file or directory)" in refusal(folder)
    with (folder / ATTRIBUTES).open("wb") as file:
        file.truncate(1 << 27)
    assert f"{ATTRIBUTES}: has 134,217,728 bytes, which is too large" in refusal(folder)
    (folder / PERSONS).unlink()
    assert f"dataset.path={folder}: {PERSONS} is missing" in refusal(folder)
