"""What the exact meta-gradient costs beside the first-order one."""

from dataclasses import replace

from benchmarks.compare import compare
from benchmarks.contenders import Trainer, batched
from benchmarks.outcome import Line, Target
from benchmarks.setting import FASHION, MLP, PER_FEDAVG, setting
from benchmarks.workload import Effort, Workload

OVERRIDES = (
    *FASHION,
    "partition.num_clients=50",
    *MLP,
    *PER_FEDAVG,
    "algorithm.nu=5",
    "algorithm.tau=8",
    "algorithm.mode=exact",
)


def exact(effort: Effort, repeats: int) -> list[Line]:
    """Measure a round of 50 clients, first-order and exact."""
    given = setting(OVERRIDES, 50)
    engine = batched(given)

    def in_mode(mode: str) -> Trainer:
        job = given.job.with_algorithm(mode=mode)
        return Trainer(mode, replace(given, job=job), engine.train)

    targets = {"exact": [Target("relative_time", "≤", 2.0)]}
    return compare([in_mode("first_order"), in_mode("exact")], effort, repeats, targets)


WORKLOADS = (
    Workload("exact", "MLP 784-100-10, ν=5, τ=8, batch 40, 50 clients, batched", 5, exact),
)
