"""A plan is said in words, kept, and recalled as it was."""

import json
from pathlib import Path

import pytest

from nufed.simulation import plan as plans
from nufed.simulation.plan import Plan, Way, describe

EAGER = Plan(8, False, 1, 0.25, 0.5, None)
COMPILED = Plan(1, True, 2, 0.25, 1.0, 0.25)


@pytest.mark.parametrize(
    ("plan", "lines"),
    [
        (
            Plan(1, False, 1, 0.002, 0.002, None),
            ["clients are trained one by one on 1 thread: in the trial, quicker than a stack"],
        ),
        (
            Plan(8, False, 2, 0.001, 0.002, None),
            ["clients are trained 8 at once on 2 threads: in the trial 1 ms each, one by one 2 ms"],
        ),
        (
            Plan(5, True, 1, 0.00034, 0.00079, 0.00034),
            [
                "clients are trained 5 at once, compiled, on 1 thread: "
                "in the trial 0.34 ms each, one by one 0.79 ms"
            ],
        ),
        (
            Plan(1, True, 1, 0.0004, 0.00079, 0.0004),
            [
                "clients are trained one by one, compiled, on 1 thread: "
                "in the trial 0.4 ms each, not compiled 0.79 ms"
            ],
        ),
        (
            Plan(8, False, 1, 0.001, 0.002, 0.003),
            [
                "clients are trained 8 at once on 1 thread: "
                "in the trial 1 ms each, one by one 2 ms",
                "steps are not compiled: in the trial 3 ms each at best, 1 ms as it is",
            ],
        ),
        (
            Plan(1, False, 1, 0.002, 0.002, None, "it is no list of operations"),
            [
                "clients are trained one by one on 1 thread: in the trial, quicker than a stack",
                "steps are not compiled: it is no list of operations",
            ],
        ),
    ],
)
def test_what_is_chosen_is_said_and_what_is_asked_for_in_vain_too(
    plan: Plan, lines: list[str]
) -> None:
    assert [*describe(plan, "trained")] == lines
    assert plan.way == Way(plan.chunk, plan.compiled)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of its own."""
    monkeypatch.setenv("NUFED_DATA", str(tmp_path))
    return tmp_path


def test_a_kept_plan_is_recalled(folder: Path) -> None:
    first, second = EAGER, COMPILED
    assert plans.recall("a") is None
    plans.keep("a", first)
    plans.keep("b", second)
    assert (plans.recall("a"), plans.recall("b"), plans.recall("c")) == (first, second, None)
    plans.keep("a", second)
    assert plans.recall("a") == second
    assert [file.name for file in folder.iterdir()] == [plans.PLANS]


@pytest.mark.parametrize("content", [b"", b"no JSON", b"\xff\xfe\x00", b'{"a": [1', b'{"a": [1]}'])
def test_an_unreadable_file_is_written_anew(folder: Path, content: bytes) -> None:
    (folder / plans.PLANS).write_bytes(content)
    assert plans.recall("a") is None
    plans.keep("a", EAGER)
    assert plans.recall("a") == EAGER


@pytest.mark.parametrize(
    "plan",
    [
        [8, 1, 0.25, 0.5],  # of a version before
        [0, False, 1, 0.25, 0.5, None],
        [8, False, "2", 0.25, 0.5, None],
        [8, 1, 1, 0.25, 0.5, None],
        [8, False, 1, 0.25, "much", None],
        [8, False, 1, 0.25, 0.5, None, 3],
        {"chunk": 8},
    ],
)
def test_what_is_no_plan_is_not_recalled(folder: Path, plan: object) -> None:
    """It would be obeyed: so many clients at once, so many threads."""
    (folder / plans.PLANS).write_text(json.dumps({"a": plan, "b": EAGER}))
    assert plans.recall("a") is None
    assert plans.recall("b") == EAGER


@pytest.mark.parametrize("content", [[], None, 3, "a"])
def test_json_of_another_kind_is_written_anew(folder: Path, content: object) -> None:
    (folder / plans.PLANS).write_text(json.dumps(content))
    assert plans.recall("a") is None
    plans.keep("a", EAGER)
    assert plans.recall("a") == EAGER


def test_a_folder_that_is_not_there_costs_the_plan_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUFED_DATA", str(tmp_path / "gone"))
    plans.keep("a", EAGER)
    assert plans.recall("a") is None


def test_keys_tell_shapes_apart() -> None:
    keys = [plans.key("train", 1, [3, 4]), plans.key("train", 1, [4, 3]), plans.key("train", 13, 4)]
    assert len(set(keys)) == 3
    assert plans.key("train", 1, [3, 4]) == keys[0]
