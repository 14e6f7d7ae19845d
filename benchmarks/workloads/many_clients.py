"""A federation of 100,000 clients beside one of 1000, with as many clients a round."""

import tempfile
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.child import Run, nufed
from benchmarks.outcome import Line, Target
from benchmarks.workload import Effort, Workload
from nufed.tasks.streams import Purpose, stream

FEW, MANY, A_ROUND, ROWS, FEATURES = 1_000, 100_000, 1_000, 10, 64
FEDERATION = (
    "dataset=npz",
    "dataset.one_class=keep",
    "algorithm.batch.query=5",
    f"clients_per_round={A_ROUND}",
    "evaluation.new_clients=0",
    "evaluation.every=1000",
    "evaluation.clients=10",
)
OVERRIDES = (*FEDERATION, "algorithm=per_fedavg", "algorithm.batch.support=5")


def many_clients(effort: Effort, repeats: int) -> list[Line]:
    """Run both federations from the command line, on data prepared beforehand."""
    with tempfile.TemporaryDirectory(prefix="nufed-bench-") as name:
        folder = Path(name)
        environment = {"NUFED_DATA": str(folder / "data"), "OMP_NUM_THREADS": "1"}

        def run(clients: int, rounds: int) -> Run:
            given = [*OVERRIDES, f"dataset.path={folder / f'{clients}.npz'}", f"rounds={rounds}"]
            return nufed(given, environment=environment)

        for clients in (FEW, MANY):
            effort.say(f"preparing {clients:,} clients")
            write(folder / f"{clients}.npz", clients)
            run(clients, 0)
        runs: dict[int, list[Run]] = {FEW: [], MANY: []}
        for repeat in range(repeats):
            for clients in (FEW, MANY):
                effort.say(f"{clients:,} clients, {repeat + 1} of {repeats}")
                runs[clients].append(run(clients, 9))
    targets = [
        Target("start_s", "<", 20.0),
        Target("relative_time", "≤", 1.2),
        Target("rss_gb", "<", 3.0),
    ]
    return [
        Line(f"{FEW:,} clients", figures(runs[FEW], runs[FEW])),
        Line(f"{MANY:,} clients", figures(runs[MANY], runs[FEW]), targets),
    ]


def figures(runs: list[Run], reference: list[Run]) -> dict[str, float]:
    """Return medians over runs of a round's time, the start and the memory."""
    ratios = [a.round_s() / b.round_s() for a, b in zip(runs, reference, strict=True)]
    return {
        "wall_s": median(run.round_s() for run in runs),
        "cpu_s": median(run.round_cpu_s() for run in runs),
        "speedup": median(1 / ratio for ratio in ratios),
        "relative_time": median(ratios),
        "start_s": median(run.first_round_s for run in runs),
        "rss_gb": max(run.peak_rss_gb for run in runs),
    }


def write(path: Path, clients: int) -> None:
    """Write random rows, as many for each client."""
    random = stream(Purpose.DATA, 0)
    rows = clients * ROWS
    np.savez(
        path,
        x=random.integers(0, 256, (rows, FEATURES), dtype=np.uint8),
        y=random.integers(0, 10, rows),
        client=np.repeat(np.arange(clients), ROWS),
    )


WORKLOADS = (
    Workload(
        "many-clients",
        f"1,000 clients a round, of 1,000 or 100,000; MLP {FEATURES}-100-10, ν=1, τ=5, batch 5",
        2,
        many_clients,
    ),
)
