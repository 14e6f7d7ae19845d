"""Measure contenders in turns, A, B, A, B, …, so that what disturbs one disturbs the others too."""

import gc
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

import torch

from nufed.simulation.memory import PeakMemory

CPU = torch.device("cpu")


class Contender(NamedTuple):
    """One way of doing a piece of work."""

    name: str
    run: Callable[[], float]
    """Does it, and returns the CPU seconds that other processes spent on it."""


class Timing(NamedTuple):
    """What one run took, in seconds."""

    wall: float
    cpu: float
    """Of all threads, and of the other processes that took part."""


Samples = dict[str, list[Timing]]
"""Name of a contender -> what each repeat took."""


def interleaved(
    contenders: Sequence[Contender],
    repeats: int,
    *,
    device: torch.device = CPU,
    threads: int = 1,
    say: Callable[[str], None] = lambda _: None,
) -> Samples:
    """Time each contender once a repeat, in the given order.

    Parameters
    ----------
    contenders
        Warm already: a first run may compile, calibrate or start processes.
    repeats
        Times that each is run.
    device
        Waited for before the clock is read.
    threads
        Threads of this process.
    say
        Told what is being run.
    """
    samples: Samples = {contender.name: [] for contender in contenders}
    for repeat in range(repeats):
        for contender in contenders:
            say(f"{contender.name}, {repeat + 1} of {repeats}")
            torch.set_num_threads(threads)
            samples[contender.name].append(timed(contender.run, device))
    return samples


def timed(run: Callable[[], float], device: torch.device = CPU) -> Timing:
    """Run once, by the clock."""
    gc.collect()
    _wait(device)
    wall, cpu = time.perf_counter(), time.process_time()
    elsewhere = run()
    _wait(device)
    return Timing(time.perf_counter() - wall, time.process_time() - cpu + elsewhere)


def medians(samples: Samples, name: str, reference: str | None = None) -> dict[str, float]:
    """Return a contender's figures.

    Returns
    -------
    dict of str to float
        ``wall_s`` and ``cpu_s``, medians over the repeats; and with a `reference`, medians over
        the repeats' own ratios: ``speedup``, how many times as quick as it, and ``relative_time``,
        how many times as long.
    """
    own = samples[name]
    figures = {"wall_s": median(t.wall for t in own), "cpu_s": median(t.cpu for t in own)}
    if reference is not None:
        pairs = list(zip(samples[reference], own, strict=True))
        figures["speedup"] = median(other.wall / mine.wall for other, mine in pairs)
        figures["relative_time"] = median(mine.wall / other.wall for other, mine in pairs)
    return figures


def cpu_ratio(samples: Samples, name: str, of: str) -> float:
    """Return how many times the CPU seconds of another a contender takes: median of ratios."""
    pairs = zip(samples[name], samples[of], strict=True)
    return median(mine.cpu / other.cpu for mine, other in pairs)


def peak_bytes(run: Callable[[], object], device: torch.device = CPU) -> int:
    """Return the most bytes of tensors that `run` made and had alive at once."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    with PeakMemory() as peak:
        run()
    return peak.bytes


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
