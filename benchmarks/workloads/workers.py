"""Two worker processes beside one thread in this process."""

import os

from benchmarks.compare import compare
from benchmarks.contenders import batched
from benchmarks.outcome import Line, Target
from benchmarks.setting import FASHION, MLP, PER_FEDAVG, setting
from benchmarks.workload import Effort, Workload

TWO = "2 workers"


def workers(effort: Effort, repeats: int) -> list[Line]:
    """Measure a round of 50 clients."""
    given = setting([*FASHION, "partition.num_clients=50", *MLP, *PER_FEDAVG], 50)
    effort.say("starting workers")
    trainers = [
        batched(given, name="in this process, 1 thread"),
        batched(given, "engine.workers=2", name=TWO),
    ]
    return compare(trainers, effort, repeats, {TWO: [Target("speedup", "≥", 1.7)]})


WORKLOADS = (
    Workload(
        "workers",
        "MLP 784-100-10, first-order, ν=1, τ=24, batch 40, 50 clients, batched",
        7,
        workers,
        needs=None if (os.cpu_count() or 1) > 1 else "two cores",
    ),
)
