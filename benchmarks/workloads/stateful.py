"""What it costs that clients keep a state on the disk: Ditto beside a FedAvg that computes as much.

Ditto takes τ steps of the shared model and τ of the client's own, FedAvg 2τ of the shared one: as
many gradients a client, of batches as large.
"""

import tempfile
from pathlib import Path

from benchmarks.child import Run, nufed
from benchmarks.outcome import Line, Target
from benchmarks.workload import Effort, Workload
from benchmarks.workloads.many_clients import (
    A_ROUND,
    FEATURES,
    FEDERATION,
    MANY,
    figures,
    write,
)

TAU = 5
STATELESS: tuple[str, ...] = ("algorithm=fedavg", f"algorithm.tau={2 * TAU}")
STATEFUL: tuple[str, ...] = ("algorithm=ditto", f"algorithm.tau={TAU}")
ROUNDS = 9


def stateful(effort: Effort, repeats: int) -> list[Line]:
    """Run both from the command line: of many clients, and of so few that all are drawn."""
    with tempfile.TemporaryDirectory(prefix="nufed-bench-") as name:
        folder = Path(name)
        environment = {"NUFED_DATA": str(folder / "data"), "OMP_NUM_THREADS": "1"}

        def run(clients: int, algorithm: tuple[str, ...], rounds: int) -> Run:
            data = f"dataset.path={folder / f'{clients}.npz'}"
            given = [*FEDERATION, *algorithm, data, f"rounds={rounds}"]
            return nufed(given, environment=environment)

        runs: dict[tuple[int, tuple[str, ...]], list[Run]] = {
            (clients, algorithm): []
            for clients in (MANY, A_ROUND)
            for algorithm in (STATELESS, STATEFUL)
        }
        for clients in (MANY, A_ROUND):
            effort.say(f"preparing {clients:,} clients")
            write(folder / f"{clients}.npz", clients)
            for algorithm in (STATELESS, STATEFUL):
                run(clients, algorithm, 0)
        for repeat in range(repeats):
            for (clients, algorithm), done in runs.items():
                said = f"{clients:,} clients, {algorithm[0]}"
                effort.say(f"{said}, {repeat + 1} of {repeats}")
                done.append(run(clients, algorithm, ROUNDS))
    target = Target("relative_time", "≤", 1.5)
    return [
        line
        for clients, who in ((MANY, f"{MANY:,} clients"), (A_ROUND, f"{A_ROUND:,}, all drawn"))
        for line in (
            Line(f"{who}: FedAvg", figures(runs[clients, STATELESS], runs[clients, STATELESS])),
            Line(
                f"{who}: Ditto",
                figures(runs[clients, STATEFUL], runs[clients, STATELESS]),
                [target] if clients == MANY else [],
            ),
        )
    ]


WORKLOADS = (
    Workload(
        "stateful",
        f"{A_ROUND:,} clients a round; MLP {FEATURES}-100-10, batch 5: Ditto, τ={TAU}, "
        f"beside FedAvg, τ={2 * TAU}",
        3,
        stateful,
    ),
)
