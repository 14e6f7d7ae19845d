"""The quickest way to work through a round's clients, found by a short trial on the real shapes."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import pairwise

import torch

from nufed.conf.errors import reason
from nufed.simulation.compiled import Untraceable
from nufed.simulation.memory import SHARE, PeakMemory, free_bytes, out_of_memory
from nufed.simulation.plan import ONE_BY_ONE, Plan, Way

WORTH = 0.95  # of the time of what was asked for, that another way must stay below
TRIAL_S = 0.01  # a way is timed at least twice, or for so long
LONG_S = 0.1  # what takes longer is timed once
BUDGET_S = 3.0  # of work, that no larger stack may go beyond: long work gains little from one
PROGRAMS = 5  # sizes of compiled stacks to try at most
COMPILE_S = 60.0  # no other program is begun once compilers took that long
COMPILED_MOST = 16  # clients at once that are compiled even where eager stacks are slow
PASSES, PASSES_S = 3, 1.0  # all ways are timed so often again, as long as this takes at most

Run = Callable[[Way], object]
"""Does a small part of the work of a chunk of clients; of one by itself for `ONE_BY_ONE`."""
Clock = Callable[[], float]
"""Returns seconds, as `time.perf_counter` does."""


def find(
    run: Run,
    clients: int,
    threads: Sequence[int],
    device: torch.device,
    *,
    compile: bool = False,
    clock: Clock = time.perf_counter,
) -> Plan:
    """Return the quickest plan for a number of clients.

    Parameters
    ----------
    run
        What is timed.
    clients
        Clients there are.
    threads
        Numbers of threads to try, 1 first.
    device
        Where the work is done.
    compile
        Whether compiled steps are tried too.
    clock
        What is read before and after each piece of work.
    """
    fits = cache(lambda: fitting(run, clients, device))
    plans: list[Plan] = []
    for number in threads:
        torch.set_num_threads(number)
        trial = Trial(run, clients, fits, device, clock)
        trial.eager()
        if compile and not plans:
            trial.compiled([1, *sizes(clients)])
        elif plans and plans[0].compiled:  # a program is made for a number of threads: one more
            trial.compiled([plans[0].chunk])
        trial.again()
        plans.append(trial.plan(number))
    best = min(plans, key=lambda plan: plan.seconds)
    # More threads than one must be well worth it: other programs run beside us.
    if best.seconds > 0.8 * plans[0].seconds:
        best = plans[0]
    torch.set_num_threads(best.threads)
    if best.seconds_compiled is None:
        first = plans[0]
        best = best._replace(seconds_compiled=first.seconds_compiled, untraceable=first.untraceable)
    return best


class Trial:
    """Ways that are timed with one number of threads.

    What a first call takes beyond those that follow is the compiler's, or imports'. It never counts
    as work, and has a budget of its own.

    Parameters
    ----------
    run, clients, device, clock
        As in `find`.
    fitting
        Returns how many clients at once fit into the memory; asked only where a stack is due.
    """

    def __init__(
        self,
        run: Run,
        clients: int,
        fitting: Callable[[], int],
        device: torch.device,
        clock: Clock,
    ) -> None:
        self._run, self._clients, self._fitting = run, clients, fitting
        self._device, self._clock = device, clock
        self._seconds: dict[Way, float] = {}  # the shortest call of each
        self._work_s = self._compile_s = 0.0
        self._untraceable: str | None = None

    def eager(self) -> None:
        """Time one by one, and stacks each about twice as large as the one before."""
        self._time(ONE_BY_ONE)
        last = ONE_BY_ONE
        for size in sizes(self._clients):
            way, expected = Way(size), self._seconds[last] * size / last.chunk
            if not (self._affordable(size, expected) and self._time(way)):
                break
            if self._share(way) > 1.5 * min(map(self._share, self._seconds)):
                break
            last = way

    def compiled(self, ladder: Sequence[int]) -> None:
        """Time compiled stacks: the smallest, whatever it takes, the largest, some between.

        Each is a program: the compiler's seconds, or minutes, unless it is on disk.
        """
        self._work_s = self._compile_s = 0.0
        most = max(COMPILED_MOST, self._best(compiled=False).chunk)
        ladder = [ladder[0], *(size for size in ladder[1:] if size <= most)]
        smallest = Way(ladder[0], compiled=True)
        while (size := self._next(ladder)) is not None:
            way = Way(size, compiled=True)
            if way != smallest:
                alike = self._seconds[smallest] * size / smallest.chunk
                if not self._affordable(size, self._seconds.get(Way(size), alike)):
                    ladder = [s for s in ladder if s < size]
                    continue
            if not self._time(way):
                ladder = [s for s in ladder if s < size]

    def again(self) -> None:
        """Time all of them in turn: what slows the machine down passes, or slows down all."""
        if self._work_s > BUDGET_S or len(self._seconds) == 1:
            return
        started = self._clock()
        for _ in range(PASSES):
            for way in self._seconds:
                if self._clock() - started < PASSES_S:
                    self._seconds[way] = min(self._seconds[way], self._shortest(way))

    def plan(self, threads: int) -> Plan:
        """Return the quickest; what was not asked for must be well worth it."""
        alone = self._share(ONE_BY_ONE)
        best = self._best(compiled=False)
        if self._share(best) > WORTH * alone:
            best = ONE_BY_ONE
        seconds_compiled = None
        if any(way.compiled for way in self._seconds):
            compiled = self._best(compiled=True)
            seconds_compiled = self._share(compiled)
            if WORTH * seconds_compiled <= self._share(best):
                best = compiled
        return Plan(*best, threads, self._share(best), alone, seconds_compiled, self._untraceable)

    def _next(self, ladder: Sequence[int]) -> int | None:
        """Return the size of a stack to compile next: both ends, then beside the best."""
        tried = [i for i, size in enumerate(ladder) if Way(size, compiled=True) in self._seconds]
        enough = len(tried) == PROGRAMS or self._compile_s > COMPILE_S
        if not ladder or enough or self._untraceable is not None:
            return None
        for end in (0, len(ladder) - 1):
            if end not in tried:
                return ladder[end]
        best = ladder.index(self._best(compiled=True).chunk)
        gaps = [(b - a, a) for a, b in pairwise(tried) if best in (a, b) and b - a > 1]
        wide, start = max(gaps, default=(0, 0))
        return ladder[start + wide // 2] if gaps else None

    def _best(self, *, compiled: bool) -> Way:
        return min((w for w in self._seconds if w.compiled == compiled), key=self._share)

    def _share(self, way: Way) -> float:
        """Return a client's share of the time of all, in chunks of which the last may be short."""
        return self._seconds[way] * -(-self._clients // way.chunk) / self._clients

    def _affordable(self, size: int, expected: float) -> bool:
        """Tell whether a stack may be tried that is expected to take so many seconds."""
        in_time = self._work_s + expected <= BUDGET_S and self._compile_s <= COMPILE_S
        return in_time and size <= self._fitting()

    def _time(self, way: Way) -> bool:
        """Time a way; return whether that was possible."""
        try:
            first = self._once(way)
            seconds = self._seconds[way] = self._shortest(way)
        except Untraceable as error:
            self._untraceable = reason(error)
            return False
        except (RuntimeError, MemoryError) as error:
            if way == ONE_BY_ONE or not out_of_memory(error):
                raise
            return False
        self._work_s += min(first, seconds)
        self._compile_s += max(first - seconds, 0.0)
        return True

    def _shortest(self, way: Way) -> float:
        """Return the shortest of a few calls, of a way that was called before."""
        times: list[float] = []
        while len(times) < 2 or sum(times) < TRIAL_S:
            times.append(self._once(way))
            if times[-1] > LONG_S:
                break
        self._work_s += sum(times)
        return min(times)

    def _once(self, way: Way) -> float:
        _wait(self._device)
        started = self._clock()
        self._run(way)
        _wait(self._device)
        return self._clock() - started


def sizes(clients: int) -> Iterator[int]:
    """Yield sizes of chunks that divide clients evenly, each about twice the one before."""
    size, target = 1, 4
    while size < clients:
        chunks = -(-clients // target)
        if -(-clients // chunks) > size:
            size = -(-clients // chunks)
            yield size
        target *= 2


def fitting(run: Run, clients: int, device: torch.device) -> int:
    """Return how many clients' tensors fit into the free memory, from what 2 and 4 need."""
    if clients < 4:
        return clients
    peaks = []
    for few in (2, 4):
        with PeakMemory() as peak:
            run(Way(few))  # not compiled: tensors are counted where torch makes them
        peaks.append(peak.bytes)
    each = max((peaks[1] - peaks[0]) // 2, 1)
    return max(int(SHARE * free_bytes(device)) // each, 1)


def _wait(device: torch.device) -> None:
    """Wait until a device that works on its own has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
