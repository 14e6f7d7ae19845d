"""How many clients are stacked: found by a short trial on the real shapes, and kept on disk."""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from typing import Any, NamedTuple

import torch

from simulation.memory import SHARE, PeakMemory, free_bytes, out_of_memory
from tasks.store import home

WORTH = 0.95  # of the time one by one, that a stack must stay below
TRIAL_S = 0.01  # a size is tried at least twice, or for so long
LONG_S = 0.1  # what takes longer is tried less often
BUDGET_S = 2.0  # no larger size is begun after that: long work gains little from a stack
PASSES, PASSES_S = 3, 1.0  # the sizes are tried so often again, as long as this takes at most
PLANS = "plans.json"


class Plan(NamedTuple):
    """How the clients of a round are worked through."""

    chunk: int
    """Clients at once; 1 for one after another."""
    threads: int
    """Threads of this process."""
    seconds: float
    """A client's share of the time of what was tried."""
    seconds_one_by_one: float


def find(
    run: Callable[[int], object],
    eager: Callable[[int], object],
    clients: int,
    most: int,
    threads: list[int],
    device: torch.device,
) -> Plan:
    """Return the quickest plan for a number of clients.

    Parameters
    ----------
    run
        ``run(k)`` does a small part of the work of k clients as a stack, or of one by itself for
        k = 1.
    eager
        The same where it is not compiled, so that its tensors can be counted.
    clients, most
        Clients there are, and how many at once to try at most.
    threads
        Numbers of threads to try.
    device
        Where the work is done.
    """
    plans = []
    fitting = cache(lambda: min(most, _fitting(eager, clients, device)))
    for number in threads:
        torch.set_num_threads(number)
        plans.append(_quickest(run, clients, fitting, number, device))
    best = min(plans, key=lambda plan: plan.seconds)
    # More threads than one must be well worth it: other programs run beside us.
    if best.seconds > 0.8 * plans[0].seconds:
        best = plans[0]
    torch.set_num_threads(best.threads)
    return best


def describe(plan: Plan, done: str) -> str:
    """Say what was chosen, and why."""
    alone, stacked = f"{1e3 * plan.seconds_one_by_one:.2g} ms", f"{1e3 * plan.seconds:.2g} ms"
    threads = "1 thread" if plan.threads == 1 else f"{plan.threads} threads"
    if plan.chunk == 1:
        return f"clients are {done} one by one on {threads}: in the trial, quicker than a stack"
    return (
        f"clients are {done} {plan.chunk} at once on {threads}: "
        f"in the trial {stacked} each, one by one {alone}"
    )


def _quickest(
    run: Callable[[int], object],
    clients: int,
    fitting: Callable[[], int],
    threads: int,
    device: torch.device,
) -> Plan:
    """Try one by one, and stacks each about twice as large as the one before, if they are fitting.

    How many fit is asked for where one by one does not take too long to try more.
    """

    def share(size: int) -> float:
        """Return a client's share of the time of all, in chunks of which the last may be short."""
        return _seconds(run, size, device) * -(-clients // size) / clients

    started = time.perf_counter()
    shares = {1: share(1)}
    for size in sizes(clients):
        if time.perf_counter() - started > BUDGET_S or size > fitting():
            break
        try:
            shares[size] = share(size)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            break
        if shares[size] > 1.5 * min(shares.values()):
            break
    again = time.perf_counter()
    if again - started < BUDGET_S:
        for _ in range(PASSES):  # in turn: what slows the machine down passes, or slows down all
            for size in shares:
                if time.perf_counter() - again < PASSES_S:
                    shares[size] = min(shares[size], share(size))
    best = min(shares, key=lambda size: shares[size])
    if shares[best] > WORTH * shares[1]:
        best = 1
    return Plan(best, threads, shares[best], shares[1])


def sizes(clients: int) -> Iterator[int]:
    """Yield sizes of chunks that divide clients evenly, each about twice the one before."""
    size, target = 1, 4
    while size < clients:
        chunks = -(-clients // target)
        if -(-clients // chunks) > size:
            size = -(-clients // chunks)
            yield size
        target *= 2


def _fitting(run: Callable[[int], object], clients: int, device: torch.device) -> int:
    """Return how many clients' tensors fit into the free memory, from what 2 and 4 need."""
    if clients < 4:
        return clients
    peaks = []
    for few in (2, 4):
        with PeakMemory() as peak:
            run(few)
        peaks.append(peak.bytes)
    each = max((peaks[1] - peaks[0]) // 2, 1)
    return max(int(SHARE * free_bytes(device)) // each, 1)


def _seconds(run: Callable[[int], object], size: int, device: torch.device) -> float:
    """Return the shortest time that ``run(size)`` takes; a first time counts if it is very long."""

    def timed() -> float:
        _wait(device)
        started = time.perf_counter()
        run(size)
        _wait(device)
        return time.perf_counter() - started

    if (first := timed()) > 10 * LONG_S:
        return first
    times: list[float] = []
    while len(times) < 2 or sum(times) < TRIAL_S:
        times.append(timed())
        if times[-1] > LONG_S:
            break
    return min(times)


def _wait(device: torch.device) -> None:
    """Wait until a device that works on its own has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def key(*parts: Any) -> str:
    """Return a short digest of what a plan depends on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def recall(name: str) -> Plan | None:
    """Return the plan kept under a key; None if there is none."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        return Plan(*json.loads((home() / PLANS).read_text())[name])
    return None


def keep(name: str, plan: Plan) -> None:
    """Keep a plan, so that later runs need no trial and do the same as this one."""
    plans: Any = {}
    with suppress(OSError, ValueError):
        plans = json.loads((home() / PLANS).read_text())
    plans = {**plans, name: plan} if isinstance(plans, dict) else {name: plan}
    with suppress(OSError), tempfile.NamedTemporaryFile("w", dir=home(), delete=False) as draft:
        json.dump(plans, draft)
        draft.close()
        os.replace(draft.name, home() / PLANS)
