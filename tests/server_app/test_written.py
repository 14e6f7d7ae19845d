"""Rows that somebody may have written to: the algorithm's metrics, and what was spent."""

from typing import Any

import pytest

from nufed.conf.typed import Mistyped
from nufed.server_app.written import checked_rows
from nufed.strategies.replies import LONGEST


def cost(gradients: Any = 1.0, up: Any = 10, down: Any = 20) -> dict[str, Any]:
    return {"gradients": gradients, "bytes_up": up, "bytes_down": down}


def rows(*found: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"round": i, **each} for i, each in enumerate(found)]


def test_what_a_run_writes_is_taken() -> None:
    """A whole number of gradients is one; a key of a newer version stays."""
    longest = "d" * LONGEST
    metrics = {"drift": 0.25, "gap": None, longest: 1}
    found = checked_rows(
        rows({}, {"metrics": metrics, "cost": cost(3)}, {"cost": cost(3.5) | {"joules": 7}})
    )
    assert found[1]["metrics"] == {"drift": 0.25, "gap": None, longest: 1.0}
    assert found[1]["cost"] == cost(3.0)
    assert type(found[1]["cost"]["gradients"]) is float
    assert found[2]["cost"]["joules"] == 7


MISTAKES = {
    "a name with a sign": ({"metrics": {"a b": 1.0}}, "'a b' of metrics is no identifier"),
    "markup": ({"metrics": {"<b>": 1.0}}, "is no identifier"),
    "a control character": ({"metrics": {"a\x1b": 1.0}}, "'a\\x1b' of metrics is no identifier"),
    "a name too long": ({"metrics": {"d" * 201: 1.0}}, "of at most 200 letters"),
    "a text": ({"metrics": {"drift": "low"}}, "'drift' of metrics is 'low', not"),
    "infinite": ({"metrics": {"drift": float("inf")}}, "'drift' of metrics is inf, not"),
    "metrics in a list": ({"metrics": [1.0]}, "metrics is a list of 1"),
    "cost of text": ({"cost": "much"}, "cost is 'much'"),
    "no gradients": ({"cost": {"bytes_up": 1, "bytes_down": 1}}, "gradients of cost is None"),
    "gradients of null": ({"cost": cost(None)}, "gradients of cost is None, not a number"),
    "NaN": ({"cost": cost(float("nan"))}, "gradients of cost is nan"),
    "below 0": ({"cost": cost(-1.0)}, "gradients of cost falls from 0 to -1.0"),
    "half a byte": ({"cost": cost(1.0, 1.5)}, "bytes_up of cost is 1.5, not a whole number"),
    "bytes beyond": ({"cost": cost(1.0, 1, 2**64)}, "bytes_down of cost is 184467440"),
}


@pytest.mark.parametrize(("said", "words"), MISTAKES.values(), ids=MISTAKES)
def test_what_no_run_writes_is_refused(said: dict[str, Any], words: str) -> None:
    with pytest.raises(Mistyped) as caught:
        checked_rows(rows({}, said))
    assert words in str(caught.value)


@pytest.mark.parametrize("less", [cost(0.5), cost(up=9), cost(down=19)])
def test_what_was_spent_never_becomes_less(less: dict[str, Any]) -> None:
    """Also with a row between that does not tell."""
    assert len(checked_rows(rows({"cost": cost()}, {}, {"cost": cost()}))) == 3
    with pytest.raises(Mistyped, match="of cost falls from"):
        checked_rows(rows({"cost": cost()}, {}, {"cost": less}))
