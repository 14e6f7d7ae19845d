"""The search chooses what is quick, by a clock that only the work of the tests moves."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch

from nufed.simulation.compiled import Untraceable
from nufed.simulation.memory import free_bytes
from nufed.simulation.plan import ONE_BY_ONE, Plan, Way
from nufed.simulation.search import BUDGET_S, COMPILE_S, PROGRAMS, find, sizes

CPU = torch.device("cpu")
SIZES = [4, 5, 10]  # that ten clients are tried in


class World:
    """Work that takes as long as the test says, on a clock that nothing else moves.

    Parameters
    ----------
    seconds
        What a call for k clients takes, compiled or not.
    compiler
        What a first call takes besides, where it is compiled.
    """

    def __init__(
        self, seconds: Callable[[int, bool], float], compiler: Callable[[int], float] = lambda k: 0
    ) -> None:
        self.now, self.calls = 0.0, list[Way]()
        self._seconds, self._compiler = seconds, compiler
        self._programs = set[tuple[Way, int]]()
        self.programs = list[int]()  # sizes, in the order in which they were compiled
        self.counting = False

    def run(self, way: Way) -> None:
        """Let the time pass that the work takes."""
        self.calls.append(way)
        program = way, torch.get_num_threads()
        if way.compiled and program not in self._programs:
            self._programs.add(program)
            self.programs.append(way.chunk)
            self.now += self._compiler(way.chunk)
        self.now += self._seconds(*way)

    def find(self, clients: int, threads: tuple[int, ...] = (1,), *, compile: bool = False) -> Plan:
        before = torch.get_num_threads()
        try:
            return find(self.run, clients, threads, CPU, compile=compile, clock=lambda: self.now)
        finally:
            self.threads_left = torch.get_num_threads()
            torch.set_num_threads(before)

    @property
    def tried(self) -> list[Way]:
        """The ways that were timed, in their order."""
        return [*dict.fromkeys(self.calls)]


def eager(milliseconds: Callable[[int], float]) -> World:
    """Make a world in which nothing is compiled."""
    return World(lambda k, _: milliseconds(k) / 1e3)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(1, []), (2, [2]), (3, [3]), (4, [4]), (10, SIZES), (100, [4, 8, 15, 25, 50, 100])],
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


# What is not compiled.

COSTS: dict[str, tuple[Callable[[int], float], int]] = {
    "a call costs more than its clients": (lambda k: 4 + 0.05 * k, 40),
    "a stack costs more than its clients": (lambda k: 1 if k == 1 else 4 * k, 1),
    "a stack costs as much as its clients": (lambda k: 0.7 * k, 1),
    "a stack is hardly worth it": (lambda k: 1 if k == 1 else 0.96 * k, 1),
    "a stack is just worth it": (lambda k: 1 if k == 1 else 0.94 * k, 4),
    "eight at once fit the cache, more do not": (lambda k: 3 + (0.1 if k <= 8 else 2) * k, 8),
}


@pytest.mark.parametrize("cost", COSTS)
def test_the_quickest_size_is_found(cost: str) -> None:
    milliseconds, best = COSTS[cost]
    plan = eager(milliseconds).find(40)
    assert plan.way == Way(best)
    assert plan.threads == 1
    assert plan.seconds_compiled is None
    assert plan.seconds_one_by_one == pytest.approx(milliseconds(1) / 1e3)
    calls = -(-40 // best)
    assert plan.seconds == pytest.approx(calls * milliseconds(best) / 40 / 1e3)


def test_a_first_call_never_counts() -> None:
    """Neither of one by one nor of a stack: imports, a user's own torch.compile, caches."""
    seen = set[int]()
    world = eager(lambda k: 1)
    quick = world.run

    def run(way: Way) -> None:
        quick(way)
        world.now += 0 if way.chunk in seen else 30
        seen.add(way.chunk)

    world.run = run  # type: ignore[method-assign]
    plan = world.find(10)
    assert plan.way != ONE_BY_ONE
    assert plan.seconds_one_by_one == pytest.approx(1e-3)
    assert plan.seconds == pytest.approx(1e-3 / plan.chunk)


@pytest.mark.parametrize(
    ("one", "largest"), [(0.05, 10), (0.1, 5), (0.4, 4), (0.6, 1), (5.0, 1), (300.0, 1)]
)
def test_heavy_work_is_tried_for_little_of_it(one: float, largest: int) -> None:
    """Its stacks would take minutes and gain nothing; what they need is not counted either."""
    world = World(lambda k, _: one * k)
    assert world.find(10).way == ONE_BY_ONE
    assert max(way.chunk for way in world.calls) == largest
    assert world.now <= 2 * one + (7 * BUDGET_S if largest > 1 else 0)


def test_long_calls_that_are_as_long_for_many_are_stacked() -> None:
    """A recurrent network of many small operations, say."""
    assert World(lambda k, _: 0.3).find(10).way == Way(10)


def test_a_short_last_chunk_is_paid_for() -> None:
    """Calls cost the same here: eleven clients need three of four at once, two of six."""
    assert [*sizes(11)] == [4, 6, 11]
    plan = eager(lambda k: 4 if k < 11 else 20).find(11)
    assert plan.way == Way(6)
    assert plan.seconds == pytest.approx(2 * 4e-3 / 11)


@pytest.mark.parametrize(("faster", "threads"), [(4.0, 2), (1.3, 2), (1.2, 1), (1.05, 1)])
def test_a_second_thread_must_be_well_worth_it(faster: float, threads: int) -> None:
    """Other programs run beside us: a fifth of the time is not enough, a quarter is."""
    world = eager(lambda k: (6 + 0.1 * k) / (faster if torch.get_num_threads() == 2 else 1))
    plan = world.find(10, (1, 2))
    assert (plan.threads, world.threads_left) == (threads, threads)


def test_what_disturbs_one_call_does_not_decide() -> None:
    """Every third call takes ten times as long: the shortest of several counts."""
    count = 0

    def milliseconds(k: int) -> float:
        nonlocal count
        count += 1
        return (2 + 0.1 * k) * (10 if count % 3 == 0 else 1)

    plan = eager(milliseconds).find(40)
    assert plan.way == Way(40)
    assert plan.seconds == pytest.approx(6e-3 / 40)


# What is compiled.


def stacks(k: int, compiled: bool) -> float:
    """Return the seconds of k clients of a small perceptron, about as they were measured."""
    eager = 0.79 if k == 1 else 0.42 + 0.6 / k
    return k * (0.32 + 0.1 / k if compiled else eager) / 1e3


QUICKEST: dict[str, tuple[Callable[[int, bool], float], Way]] = {
    "compiled stacks": (stacks, Way(10, compiled=True)),
    "a compiled stack of some": (
        lambda k, c: (1 + abs(k - 4)) * k / 1e3 if c else 9 * k / 1e3,
        Way(4, compiled=True),
    ),
    "compiled, one by one": (
        lambda k, c: (0.2 if k == 1 else 0.9 * k) / 1e3 if c else k / 1e3,
        Way(1, compiled=True),
    ),
    "a stack that is not compiled": (
        lambda k, c: (4 if c else 1 + 0.01 * k) / 1e3,
        Way(10),
    ),
    "one by one, not compiled": (
        lambda k, c: (3 if k > 1 or c else 1) * k / 1e3,
        ONE_BY_ONE,
    ),
    "one by one either way, so compiled as asked": (
        lambda k, c: (1 if k == 1 else 1.2 * k) / 1e3,
        Way(1, compiled=True),
    ),
}


@pytest.mark.parametrize("compiler", [0.0, 5.0, 30.0, 300.0])
@pytest.mark.parametrize("quickest", QUICKEST)
def test_the_quickest_is_chosen_whatever_the_compiler_takes(quickest: str, compiler: float) -> None:
    """A program of five minutes leaves no time for a second: then what was tried is compared."""
    seconds, way = QUICKEST[quickest]
    world = World(seconds, lambda k: compiler)
    plan = world.find(10, compile=True)
    shares = {each: seconds(*each) * -(-10 // each.chunk) / 10 for each in world.tried}
    if compiler < COMPILE_S:
        assert plan.way == way
    assert plan.seconds == pytest.approx(shares[plan.way])
    assert plan.seconds <= 1.06 * min(shares.values())
    assert plan.seconds_one_by_one == pytest.approx(seconds(1, False))
    compiled = [share for each, share in shares.items() if each.compiled]
    assert plan.seconds_compiled == pytest.approx(min(compiled))


@pytest.mark.parametrize("compiler", [1.0, 15.0, 25.0, 40.0, 500.0])
def test_compilers_are_started_as_long_as_they_took_no_minute(compiler: float) -> None:
    """A single client first: that is always tried."""
    world = World(lambda k, c: (2 + k) * (0.5 if c else 1) / 1e3, lambda k: compiler)
    plan = world.find(200, compile=True)
    assert world.programs[0] == 1
    assert len(world.programs) == min(int(COMPILE_S // compiler) + 1, len(world.programs))
    assert compiler * (len(world.programs) - 1) <= COMPILE_S
    if len(world.programs) > 1:
        assert plan.way == Way(200, compiled=True)


def test_few_sizes_are_compiled() -> None:
    """Of those for 200 clients: the ends, the middle, and what lies beside the best."""
    assert [*sizes(200)] == [4, 8, 16, 29, 50, 100, 200]
    world = World(
        lambda k, c: k * (0.5 + 1 / k + (k > 16) * 0.01 * k) / 1e3 if c else (5 + 0.8 * k) / 1e3,
        lambda k: 1.0,
    )
    plan = world.find(200, compile=True)
    assert plan.way == Way(16, compiled=True)
    assert world.programs[:3] == [1, 200, 16]
    assert len(world.programs) == PROGRAMS


def test_no_large_program_is_made_where_large_stacks_are_slow() -> None:
    """A processor's cache holds a few clients: of the others nothing is expected."""
    world = World(lambda k, c: k * (0.4 if c else 1 if k == 1 else 2) / 1e3)
    world.find(200, compile=True)
    assert max(world.programs) == 16


def test_heavy_work_is_compiled_once_as_asked() -> None:
    """A step of one client takes three seconds, and two as a program."""
    world = World(lambda k, c: (2 if c else 3) * k, lambda k: 40.0)
    plan = world.find(10, compile=True)
    assert plan.way == Way(1, compiled=True)
    assert world.programs == [1]
    assert world.now < 40 + 15


def test_a_single_client_can_be_compiled_too() -> None:
    world = World(lambda k, c: 0.001 if c else 0.002, lambda k: 30.0)
    assert world.find(1, compile=True).way == Way(1, compiled=True)


@pytest.mark.parametrize(("faster", "threads"), [(4.0, 2), (1.05, 1)])
def test_a_second_thread_costs_one_more_program(faster: float, threads: int) -> None:
    """It is made for a number of threads: that of the best size, and timed as such."""
    world = World(
        lambda k, c: stacks(k, c) / (faster if torch.get_num_threads() == 2 else 1), lambda k: 9.0
    )
    plan = world.find(10, (1, 2), compile=True)
    assert (plan.way, plan.threads) == (Way(10, compiled=True), threads)
    assert world.programs[-1] == 10
    assert len(world.programs) == len({*world.programs}) + 1


def test_with_a_second_thread_it_is_still_said_what_compiled_steps_take() -> None:
    world = World(lambda k, c: (0.01 if c else 0.002 / torch.get_num_threads()) * k)
    plan = world.find(2, (1, 2), compile=True)
    assert (plan.compiled, plan.threads) == (False, 2)
    assert plan.seconds_compiled == pytest.approx(0.01)


def test_steps_that_cannot_be_compiled_leave_the_others() -> None:
    world = World(lambda k, c: (1 + k) / 1e3)
    work = world.run

    def run(way: Way) -> None:
        work(way)
        if way.compiled:
            raise Untraceable("it is no list of operations")

    world.run = run  # type: ignore[method-assign]
    plan = world.find(10, (1, 2), compile=True)
    assert plan.way == Way(10)
    assert plan.untraceable == "it is no list of operations"
    assert plan.seconds_compiled is None
    assert sum(way.compiled for way in world.calls) == 1


# Memory.


@pytest.mark.parametrize("compile", [False, True])
def test_no_size_is_tried_that_does_not_fit(compile: bool) -> None:
    """A client takes a sixth of the free memory, in tensors that are counted and never filled."""
    each = free_bytes(CPU) // 6
    world = World(lambda k, c: (4 + 0.01 * k) / 1e3)
    work = world.run

    def run(way: Way) -> torch.Tensor:
        work(way)
        return torch.empty(way.chunk * each, dtype=torch.uint8, device="meta")

    world.run = run  # type: ignore[assignment]
    plan = world.find(100, compile=compile)
    assert 3 <= plan.chunk <= 5  # 0.8 · 6 = 4.8, give and take what others allocate meanwhile
    assert max(way.chunk for way in world.calls) <= 5


@pytest.mark.parametrize("compile", [False, True])
def test_a_trial_that_runs_out_of_memory_ends_with_what_fitted(compile: bool) -> None:
    world = World(lambda k, c: (4 if c else 5) / 1e3)
    work = world.run

    def run(way: Way) -> torch.Tensor:
        work(way)
        return torch.empty(1 << 60 if way.chunk > 8 - 4 * way.compiled else way.chunk)

    world.run = run  # type: ignore[assignment]
    assert world.find(40, compile=compile).way == Way(8)
    if compile:
        assert Way(4, compiled=True) in world.tried


def test_an_error_of_the_model_is_not_taken_for_a_lack_of_memory() -> None:
    world = eager(lambda k: 1)
    work = world.run

    def run(way: Way) -> torch.Tensor:
        work(way)
        return torch.ones(2) @ torch.ones(3) if way.chunk > 1 else torch.ones(1)

    world.run = run  # type: ignore[assignment]
    with pytest.raises(RuntimeError, match="size"):
        world.find(40)
