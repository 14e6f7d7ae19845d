"""JSON from elsewhere, by the types of our dataclasses."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from nufed.conf.typed import Mistyped, made, parsed, typed


@dataclass(frozen=True)
class Inner:
    number: float


@dataclass(frozen=True)
class Outer:
    count: int
    names: tuple[str, ...]
    inner: Inner
    maybe: int | None = None
    rest: dict[str, list[float]] = field(default_factory=dict)


GOOD: dict[str, Any] = {"count": 3, "names": ["a"], "inner": {"number": 2}}


def test_what_is_of_its_type_is_taken() -> None:
    assert made(Outer, GOOD) == Outer(3, ("a",), Inner(2.0))
    assert type(made(Outer, GOOD).inner.number) is float
    whole = made(Outer, GOOD | {"maybe": None, "rest": {"x": [1, 0.5]}})
    assert whole.rest == {"x": [1.0, 0.5]}
    assert made(Outer, {"names": [], "inner": {"number": 0}}, count=7).count == 7


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"count": "3"}, "count is '3', not a whole number"),
        ({"count": 3.0}, "count is 3.0, not a whole number"),
        ({"count": True}, "count is True, not a whole number"),
        ({"count": 2**64}, "count is 18446744073709551616, not"),
        ({"names": "a"}, "names is 'a'"),
        ({"names": [1]}, "an entry of names is 1, not text"),
        ({"inner": 5}, "is 5, not an object"),
        ({"inner": {}}, "has no 'number'"),
        ({"inner": {"number": False}}, "number is False, not a number"),
        ({"inner": {"number": 10**400}}, "number is larger than any number"),
        ({"maybe": []}, "maybe is a list of 0, not a whole number"),
        ({"rest": {"x": [None]}}, "an entry of 'x' of rest is None, not a number"),
        ({"other": 1}, "has an unknown 'other'"),
        ({"names": "x" * 10_000}, "names is 'xxxxx"),
    ],
)
def test_what_is_not_is_named_in_few_words(change: dict[str, Any], words: str) -> None:
    with pytest.raises(Mistyped) as caught:
        made(Outer, GOOD | change)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("text", ["[" * 100_000, "NaN", "[Infinity]", "{", "", "\x00", "9" * 5000])
def test_what_is_no_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parsed(text)


def test_missing_fields_are_named() -> None:
    with pytest.raises(Mistyped, match="has no 'names'"):
        made(Outer, {"count": 1, "inner": {"number": 1}})
    with pytest.raises(Mistyped, match="is None, not an object"):
        made(Outer, None)
    assert typed(None, int | None, "x") is None
    assert [typed(each, int | str | None, "x") for each in (3, "ward 8", None)] == [
        *(3, "ward 8", None)
    ]
    with pytest.raises(Mistyped, match=r"^x is 1\.5, not text$"):
        typed(1.5, int | str | None, "x")
