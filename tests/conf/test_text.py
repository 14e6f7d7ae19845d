"""What others wrote is shown, and steers no terminal."""

import sys

import pytest

from nufed.conf.text import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("client 7, αβν — 東京", "client 7, αβν — 東京"),
        ("\x1b[2J\x1b]8;;http://x\x07here\x1b\\", r"\x1b[2J\x1b]8;;http://x\x07here\x1b" + "\\"),
        ("good\rbad\b\x7f", r"good\rbad\x08\x7f"),
        ("\x9b31m", r"\x9b31m"),  # C1: the same as ESC [ where a terminal takes eight bits
        ("exe\u202egpj.\u2066\u200e", r"exe\u202egpj.\u2066\u200e"),
        ("a\nb\tc\u2028d", r"a\nb\tc\u2028d"),
        ("\ud800 \ufeff", r"\ud800 \ufeff"),
        ("\U000e0041", r"\U000e0041"),
        ("می\u200cخواهم 👩\u200d🔬 a\u00a0b", "می\u200cخواهم 👩\u200d🔬 a\u00a0b"),
    ],
)
def test_what_steers_is_written_out(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_lines_stay_lines_where_they_are_meant() -> None:
    assert printable("a\n\tb\r\x1b", lines=True) == "a\n\tb" + r"\r\x1b"


def test_no_character_of_control_gets_through() -> None:
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    shown = printable(every)
    controls = {*range(32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)}
    assert not controls & set(map(ord, shown))
    shown.encode()  # no half of a surrogate pair is left
