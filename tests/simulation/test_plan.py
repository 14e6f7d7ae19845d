"""The plan is the quickest of what was tried, fits into memory, and is kept."""

import json
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from simulation import plan as plans
from simulation.memory import free_bytes
from simulation.plan import Plan, find, sizes

CPU = torch.device("cpu")


def work(milliseconds: float) -> None:
    """Keep the processor busy."""
    end = time.perf_counter() + milliseconds / 1e3
    while time.perf_counter() < end:
        pass


def nothing(clients: int) -> None:
    """Need no memory."""


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(1, []), (2, [2]), (3, [3]), (4, [4]), (10, [4, 5, 10]), (100, [4, 8, 15, 25, 50, 100])],
)
def test_sizes_that_are_tried(limit: int, expected: list[int]) -> None:
    assert [*sizes(limit)] == expected


@pytest.mark.parametrize("limit", [5, 17, 64, 333, 1000, 100_000])
def test_sizes_double_and_divide_evenly(limit: int) -> None:
    """The last chunk of a round is nearly as long as the others: little work is padding."""
    tried = [*sizes(limit)]
    assert tried[-1] == limit
    assert len(tried) <= limit.bit_length()
    for size, after in pairwise(tried):
        assert size < after
        chunks = -(-limit // size)
        assert chunks * size - limit < chunks


COSTS: dict[str, tuple[Callable[[int], float], int]] = {
    "a call costs more than its clients": (lambda k: 4 + 0.05 * k, 40),
    "a stack costs more than its clients": (lambda k: 1 if k == 1 else 4 * k, 1),
    "a stack costs as much as its clients": (lambda k: 0.7 * k, 1),
    "eight at once fit the cache, more do not": (lambda k: 3 + (0.1 if k <= 8 else 2) * k, 8),
}


@pytest.mark.parametrize("cost", COSTS)
def test_the_quickest_size_is_found(cost: str) -> None:
    """Work of known milliseconds, several times apart."""
    milliseconds, best = COSTS[cost]
    plan = find(lambda k: work(milliseconds(k)), nothing, 40, 40, [1], CPU)
    assert plan.chunk == best
    assert plan.threads == 1
    assert plan.seconds_one_by_one >= milliseconds(1) / 1e3
    calls = -(-40 // best)
    assert calls * milliseconds(best) / 40 / 1e3 <= plan.seconds <= plan.seconds_one_by_one


def test_work_that_takes_long_is_tried_for_little_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it would be 40 clients; no size is begun once the budget is spent."""
    monkeypatch.setattr(plans, "BUDGET_S", 0.2)
    monkeypatch.setattr(plans, "LONG_S", 0.01)
    tried = list[int]()

    def run(k: int) -> None:
        tried.append(k)
        work(120 * k)

    assert find(run, nothing, 40, 40, [1], CPU).chunk == 1
    assert tried == [1, 4]


def test_no_more_are_tried_than_asked_for() -> None:
    """Where each size is a program to compile; of the sizes that divide 40 evenly."""
    tried = list[int]()

    def run(k: int) -> None:
        tried.append(k)
        work(2)

    assert find(run, nothing, 40, 16, [1], CPU).chunk == 14
    assert max(tried) == 14


def test_a_short_last_chunk_is_paid_for() -> None:
    """Calls cost the same here: eleven clients need three of four at once, two of six."""
    assert [*sizes(11)] == [4, 6, 11]
    plan = find(lambda k: work(4 if k < 11 else 20), nothing, 11, 11, [1], CPU)
    assert plan.chunk == 6
    assert plan.seconds >= 2 * 4e-3 / 11


@pytest.mark.parametrize(("faster", "threads"), [(4.0, 2), (1.05, 1)])
def test_a_second_thread_must_be_well_worth_it(faster: float, threads: int) -> None:
    """Other programs run beside us: 5% is not enough, a quarter of the time is."""
    before = torch.get_num_threads()

    def run(k: int) -> None:
        work((6 + 0.1 * k) / (faster if torch.get_num_threads() == 2 else 1))

    try:
        plan = find(run, nothing, 10, 10, [1, 2], CPU)
        assert (plan.threads, torch.get_num_threads()) == (threads, threads)
    finally:
        torch.set_num_threads(before)


def test_no_size_is_tried_that_does_not_fit() -> None:
    """A client takes a sixth of the free memory, in tensors that are counted and never filled."""
    tried = list[int]()
    each = free_bytes(CPU) // 6

    def eager(k: int) -> torch.Tensor:
        return torch.empty(k * each, dtype=torch.uint8, device="meta")

    def run(k: int) -> None:
        tried.append(k)
        work(4 + 0.01 * k)

    plan = find(run, eager, 100, 100, [1], CPU)
    assert 3 <= plan.chunk <= 5  # 0.8 · 6 = 4.8, give and take what others allocate meanwhile
    assert max(tried) <= 5


def test_a_trial_that_runs_out_of_memory_ends_with_what_fitted() -> None:
    def run(k: int) -> torch.Tensor:
        work(4)
        return torch.empty(1 << 60 if k > 8 else k)

    assert find(run, nothing, 40, 40, [1], CPU).chunk == 8


def test_an_error_of_the_model_is_not_taken_for_a_lack_of_memory() -> None:
    def run(k: int) -> torch.Tensor:
        return torch.ones(2) @ torch.ones(3) if k > 1 else torch.ones(1)

    with pytest.raises(RuntimeError, match="size"):
        find(run, nothing, 40, 40, [1], CPU)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of its own."""
    monkeypatch.setenv("NUFED_DATA", str(tmp_path))
    return tmp_path


def test_a_kept_plan_is_recalled(folder: Path) -> None:
    first, second = Plan(8, 1, 0.25, 0.5), Plan(1, 2, 1.0, 1.0)
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
    plans.keep("a", Plan(8, 1, 0.25, 0.5))
    assert plans.recall("a") == Plan(8, 1, 0.25, 0.5)


@pytest.mark.parametrize("content", [[], None, 3, "a"])
def test_json_of_another_kind_is_written_anew(folder: Path, content: object) -> None:
    (folder / plans.PLANS).write_text(json.dumps(content))
    assert plans.recall("a") is None
    plans.keep("a", Plan(8, 1, 0.25, 0.5))
    assert plans.recall("a") == Plan(8, 1, 0.25, 0.5)


def test_a_folder_that_is_not_there_costs_the_plan_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUFED_DATA", str(tmp_path / "gone"))
    plans.keep("a", Plan(8, 1, 0.25, 0.5))
    assert plans.recall("a") is None


def test_keys_tell_shapes_apart() -> None:
    keys = [plans.key("train", 1, [3, 4]), plans.key("train", 1, [4, 3]), plans.key("train", 13, 4)]
    assert len(set(keys)) == 3
    assert plans.key("train", 1, [3, 4]) == keys[0]
