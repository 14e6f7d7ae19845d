"""A person's own run is told from another's."""

import os
import stat
from pathlib import Path

import pytest

from nufed.conf.own import is_own, signed


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NUFED_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def test_what_was_signed_here_is_known_again(home: Path) -> None:
    text = signed("a: 1\nb: ü\n")
    assert text.startswith("a: 1\nb: ü\n# ")
    assert is_own(text)
    assert is_own(text.rstrip("\n"))
    (key,) = home.iterdir()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert key.stat().st_size == 32
    assert signed("a: 1\nb: ü\n") == text  # by the same key


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("a: 1", "a: 2"),
        lambda text: "c: 3\n" + text,
        lambda text: text + "c: 3\n",
        lambda text: text.splitlines()[0] + "\n",
        lambda text: text + "# of this person's own, by 00\n",
        lambda text: text + "# of this person's own, by é\n",
        lambda text: "# of this person's own, by \n",
    ],
)
def test_no_other_text_is(change: object) -> None:
    assert callable(change)
    assert not is_own(change(signed("a: 1\n")))


def test_another_persons_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = signed("a: 1\n")
    monkeypatch.setenv("NUFED_DATA", str(tmp_path / "other"))
    assert not is_own(text)
    assert not (tmp_path / "other").exists()  # to ask makes no key
    assert is_own(signed("a: 1\n"))
    assert not is_own(text)


def test_a_key_that_others_may_read_or_lead_elsewhere_counts_for_nothing(home: Path) -> None:
    text = signed("a: 1\n")
    (key,) = home.iterdir()
    key.chmod(0o640)
    assert not is_own(text)
    assert signed("a: 1\n") == "a: 1\n"
    key.chmod(0o600)
    assert is_own(text)
    key.rename(home / "elsewhere")
    key.symlink_to(home / "elsewhere")
    assert not is_own(text)


def test_without_a_place_for_a_key_nothing_is_lost(home: Path) -> None:
    home.write_text("no folder")
    assert signed("a: 1\n") == "a: 1\n"
    assert not is_own("a: 1\n# of this person's own, by 00\n")
    assert os.listdir(home.parent) == ["data"]
