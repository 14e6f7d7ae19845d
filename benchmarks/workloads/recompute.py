"""How much memory a further inner step takes in the exact meta-gradient."""

from functools import partial

import torch

from benchmarks.measure import Contender, interleaved, medians, peak_bytes
from benchmarks.outcome import Line, Target
from benchmarks.setting import FASHION, setting
from benchmarks.workload import Effort, Workload
from nufed.client_app.meta_gradient import meta_gradient

FEW, MANY, ROWS = 2, 6, 40
KEPT, RECOMPUTED = "graphs kept", "recompute"


def recompute(effort: Effort, repeats: int) -> list[Line]:
    """Measure one client's meta-gradient at a few and at more inner steps."""
    given = setting([*FASHION, "model=cnn"], 1)
    task, parameters = given.task, sum(p.nbytes for p in given.params.values())
    rows = task.data.partition.train_rows(0)[: ROWS * (MANY + 1)].reshape(MANY + 1, ROWS)
    x, y = task.batch(rows)  # made beforehand: its bytes do not count

    def run(nu: int, again: bool) -> float:
        support, query = (x[:nu], y[:nu]), (x[-1], y[-1])
        meta_gradient(task.loss, given.params, support, query, alpha=0.01, recompute=again)
        return 0.0

    ways = {KEPT: False, RECOMPUTED: True}
    contenders = [Contender(name, partial(run, MANY, again)) for name, again in ways.items()]
    torch.set_num_threads(1)
    peaks = {
        name: [peak_bytes(partial(run, nu, again)) for nu in (FEW, MANY)]
        for name, again in ways.items()
    }
    samples = interleaved(contenders, repeats, say=effort.say)
    lines = []
    for name, (low, high) in peaks.items():
        figures = medians(samples, name, KEPT)
        figures["peak_mb"] = high / 1e6
        figures["copies"] = (high - low) / (MANY - FEW) / parameters
        targets = [Target("copies", "≤", 1.3)] if name == RECOMPUTED else []
        lines.append(Line(name, figures, targets))
    return lines


WORKLOADS = (
    Workload(
        "recompute",
        f"CNN of 582,026 parameters, exact, one client, batch 40: memory of ν={FEW} to ν={MANY}",
        3,
        recompute,
    ),
)
