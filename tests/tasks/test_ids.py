"""Ids of clients: of every type that people have them in, kept as they are, or refused."""

import logging
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nufed.conf.errors import InputError
from nufed.tasks.datasets.checks import say_numbers
from nufed.tasks.ids import ClientIds, as_ids, numbered

BIG = 2**63


def objects(*entries: object) -> NDArray[Any]:
    array = np.empty(len(entries), object)
    array[:] = entries
    return array


def refusal(client: NDArray[Any]) -> str:
    with pytest.raises(InputError) as caught:
        as_ids(client, "dataset.path=mine.npz")
    line = str(caught.value)
    assert line.startswith("dataset.path=mine.npz: ")
    assert "\n" not in line
    return line.removeprefix("dataset.path=mine.npz: ")


TAKEN: dict[str, tuple[NDArray[Any], list[int] | list[str]]] = {
    "int64": (np.array([-(2**63), 2**63 - 1]), [-(2**63), 2**63 - 1]),
    "big-endian": (np.array([300, 7], ">i2"), [300, 7]),
    "uint64 beyond int64": (
        np.array([BIG + 11, 2**64 - 1, 5], np.uint64),
        [BIG + 11, 2**64 - 1, 5],
    ),
    "uint64 within int64": (np.array([3, 4], np.uint64), [3, 4]),
    "whole floats": (np.array([1.0, 2.0, 89.0]), [1, 2, 89]),
    "float32": (np.array([-3.0, 2**24 - 1], np.float32), [-3, 2**24 - 1]),
    "names": (np.array(["ann", "bo"]), ["ann", "bo"]),
    "text of numbers": (np.array(["10", "9", "-2"]), [10, 9, -2]),
    "text of 64 bits": (np.array([str(BIG), "5"]), [BIG, 5]),
    "21 digits": (np.array([str(10**20 + 7), str(10**20)]), [str(10**20 + 7), str(10**20)]),
    "a long one beside short ones": (np.array(["7", str(10**20)]), ["7", str(10**20)]),
    "leading zeros": (np.array(["007", "7"]), ["007", "7"]),
    "digits of other scripts": (np.array(["٣", "3"]), ["٣", "3"]),
    "no plain numbers": (np.array(["1.0", "+1", "1_0", " 1"]), ["1.0", "+1", "1_0", " 1"]),
    "bytes": (np.array([b"a0", "é".encode()]), ["a0", "é"]),
    "bytes of numbers": (np.array([b"10", b"9"]), [10, 9]),
    "objects": (objects("ann", "bo"), ["ann", "bo"]),
    "objects of all kinds": (
        objects("ann", 5, np.int32(6), 7.0, b"x", np.str_("y"), np.float32(8), 2**70),
        ["ann", "5", "6", "7", "x", "y", "8", str(2**70)],
    ),
    "objects that are numbers": (objects(3, "4", 5.0), [3, 4, 5]),
    "numbers of no one type": (objects(-1, BIG), ["-1", str(BIG)]),
    "signs of all kinds": (
        np.array(["a,b", "a=b", "x/y", "<b>", "'q'", '"', "\u202eab", "李雷", "a b", "${x}"]),
        ["a,b", "a=b", "x/y", "<b>", "'q'", '"', "\u202eab", "李雷", "a b", "${x}"],
    ),
}


@pytest.mark.parametrize(("given", "ids"), TAKEN.values(), ids=TAKEN.keys())
def test_ids_are_kept(given: NDArray[Any], ids: list[Any]) -> None:
    """In value and number; and a person may type each as it is, or as text."""
    found = as_ids(given, "data")
    assert found.tolist() == ids
    assert as_ids(found, "data").tolist() == ids, "again: they are what they are"
    order, owner = numbered(found)
    assert order[owner].tolist() == ids
    known = ClientIds(len(order), order)
    for number, each in enumerate(order.tolist()):
        assert known.number(each) == known.number(str(each)) == number
        assert known[number] == each
        assert type(known[number]) in (int, str)


REFUSED: dict[str, tuple[NDArray[Any], list[str]]] = {
    "half": (np.array([1.0, 1.5]), ["client is float64, 1.5 in row 1", "integers or text"]),
    "NaN": (np.array([np.nan, 1.0]), ["client is float64, nan in row 0"]),
    "infinite": (np.array([1.0, -np.inf]), ["-inf in row 1"]),
    "beyond what a float64 tells apart": (
        np.array([1.0, 2.0**53]),
        ["9007199254740992.0 in row 1"],
    ),
    "so a float32": (np.array([2.0**24], np.float32), ["client is float32, 16777216.0 in row 0"]),
    "bool": (np.array([True, False]), ["client is bool [2]", "[N] integers or text"]),
    "dates": (np.array(["2026-01-01"], "M8[D]"), ["client is datetime64[D] [1]"]),
    "two columns": (np.array([[1], [2]]), ["client is int64 [2, 1]"]),
    "no UTF-8": (np.array([b"a", b"\xff"]), ["client of row 1 is b'\\xff', no UTF-8"]),
    "empty": (np.array(["a", "a", ""]), ["client of row 2 is empty"]),
    "none": (objects("a", None), ["client of row 1 is None"]),
    "a missing one of pandas": (objects("a", float("nan")), ["client of row 1 is nan"]),
    "a half among objects": (objects("a", np.float64(0.5)), ["client of row 1 is 0.5"]),
    "a truth among objects": (objects(True, 1), ["client of row 0 is True"]),
    "a list": (objects(["a"], "b"), ["client of row 0 is ['a']"]),
    "a number and its text": (
        objects(2, 1, "ann", "1"),
        ["client has the number 1 in row 1 and the text '1' in row 3", "in one way"],
    ),
    "half a character": (
        np.array(["a", "\ud800"]),
        ["client of row 1 is '\\ud800', no valid text"],
    ),
    "a book": (objects("a", "x" * 10**6), ["client of row 1 has 1,000,000 characters"]),
}


@pytest.mark.parametrize(("given", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_id_is_refused(given: NDArray[Any], words: list[str]) -> None:
    line = refusal(given)
    assert len(line) < 200
    assert [word for word in words if word not in line] == []


@pytest.mark.parametrize(
    ("ids", "order"),
    [
        (["10", "9", "100000000000000000000"], ["9", "10", "100000000000000000000"]),
        (["b", "a", "10", "9"], ["10", "9", "a", "b"]),
        (["02", "10", "1"], ["1", "02", "10"]),
        ([89, -5, 3], [-5, 3, 89]),
        ([2**64 - 1, 1, BIG], [1, BIG, 2**64 - 1]),
    ],
)
def test_clients_are_numbered_in_sorted_order(ids: list[Any], order: list[Any]) -> None:
    """Whole numbers by value, of whatever length; else text as text."""
    given = np.array(ids, np.uint64 if BIG in ids else None)
    found, owner = numbered(given)
    assert found.tolist() == order
    assert owner.tolist() == [order.index(each) for each in ids]


def test_clients_without_ids_go_by_their_numbers() -> None:
    ids = ClientIds(12)
    assert [ids.number(typed) for typed in (0, 11, "7", 12, -1, "07", "amy", "1.0")] == [
        *(0, 11, 7, None, None, None, None, None)
    ]
    assert ids[7] == 7
    assert ids.few == "0 … 11"
    assert ids.hint("amy") == ""


def test_an_accent_is_the_same_however_it_is_typed() -> None:
    """A character of its own, as in macOS's names of folders, or not; but never one of two."""
    one, two = "Zoe\u0308", "Zo\u00eb"
    assert ClientIds(2, np.array(["ann", one])).number(two) == 1
    assert ClientIds(2, np.array(["ann", two])).number(one) == 1
    both = ClientIds(3, np.array(["ann", one, two]))
    assert (both.number(one), both.number(two)) == (1, 2)
    mixed = "e\u0301e\u0301", "\u00e9e\u0301"
    assert ClientIds(2, np.array(mixed)).number("\u00e9\u00e9") is None


def test_who_is_missed_is_told_of_those_that_are_there() -> None:
    ids = ClientIds(6, np.array([1, 2, 3, 5, 8, 13]))
    assert ids.few == "1, 2, 3, 5, 8, 13"
    assert ids.hint(133) == "; did you mean 13?"
    assert ClientIds(2, np.array(["ann", "bob"])).few == "ann, bob"
    assert ClientIds(6, np.array([*"abcdef"])).few == "a, b, c, d, e, f"
    assert ClientIds(7, np.array([*"abcdefg"])).few == "a, b, c, d, e, … g"
    assert ClientIds(1).few == "0"
    assert ClientIds(2).few == "0, 1"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("abcde", "a = 0, b = 1, c = 2, d = 3, e = 4"),
        ("abcdef", "a = 0, b = 1, c = 2, d = 3, e = 4, f = 5"),
        ("abcdefg", "a = 0, b = 1, c = 2, d = 3, e = 4, … g = 6"),
    ],
)
def test_dots_stand_for_what_is_left_out(
    caplog: pytest.LogCaptureFixture, names: str, said: str
) -> None:
    caplog.set_level(logging.INFO, "nufed")
    say_numbers("classes", list(names), "data")
    assert caplog.messages == [f"data: classes are numbered in sorted order: {said}"]
