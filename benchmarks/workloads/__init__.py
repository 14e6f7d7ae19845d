"""Every row of the table, in order: one family a file."""

from benchmarks.workload import Workload
from benchmarks.workloads import (
    curves,
    exact,
    many_clients,
    overhead,
    recompute,
    rules,
    start_up,
    stateful,
    training,
    whole_rounds,
    workers,
)

WORKLOADS: tuple[Workload, ...] = (
    *training.WORKLOADS,
    *whole_rounds.WORKLOADS,
    *exact.WORKLOADS,
    *recompute.WORKLOADS,
    *curves.WORKLOADS,
    *overhead.WORKLOADS,
    *rules.WORKLOADS,
    *many_clients.WORKLOADS,
    *stateful.WORKLOADS,
    *start_up.WORKLOADS,
    *workers.WORKLOADS,  # last: it leaves Ray's threads behind
)
