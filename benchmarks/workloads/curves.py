"""Personalization curves of many clients beside a round of training."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.contenders import batched
from benchmarks.measure import Contender, interleaved, medians, peak_bytes
from benchmarks.outcome import Line, Target
from benchmarks.plain_loop import PlainLoop
from benchmarks.setting import FASHION, MLP, PER_FEDAVG, Setting, setting
from benchmarks.workload import Effort, Workload
from nufed.client_app.work import Measuring
from nufed.simulation.batched import Batched
from nufed.tasks.task import Task

CLIENTS, STEPS, ROWS = 60, 5, 40
PER_CLIENT = 70_000 / CLIENTS
OVERRIDES = (*FASHION, f"partition.num_clients={CLIENTS}", *MLP, *PER_FEDAVG)
SHORT = f"partition.test_fraction={ROWS / PER_CLIENT:.5f}"
TRAINING = "a round of training, 10 clients"


def curves(effort: Effort, repeats: int) -> list[Line]:
    """Measure the curves k = 0 … 5 of all clients, on short and on long test splits."""
    short, long = (setting([*OVERRIDES, *some], 10) for some in ([SHORT], []))
    contenders = [
        _training(short),
        _curves(short, "curves"),
        _curves(long, "curves"),
        _plain(short, "plain loop's curves"),
    ]
    peaks = []
    for contender in contenders:
        effort.say(f"{contender.name}: warming up")
        contender.run()
        peaks.append(peak_bytes(contender.run) / 1e6)
    samples = interleaved(contenders, repeats, say=effort.say)
    return [
        Line(
            contender.name,
            medians(samples, contender.name, TRAINING) | {"peak_mb": peak},
            [Target("relative_time", "≤", 1.0)] if contender is contenders[1] else [],
        )
        for contender, peak in zip(contenders, peaks, strict=True)
    ]


def _training(given: Setting) -> Contender:
    trainer = batched(given)
    return Contender(TRAINING, lambda: trainer.train(given.job))


def _curves(given: Setting, name: str) -> Contender:
    """Return the batched engine's curves."""
    torch.set_num_threads(1)
    engine = Batched(given.config, given.task)
    algorithm = given.job.algorithm.with_numbers({"alpha": 0.01})
    job = Measuring(algorithm, given.config.seed, list(range(CLIENTS)), STEPS, ROWS)

    def run() -> float:
        report = engine.evaluate(given.params, job)
        if len(report.clients) < CLIENTS:
            raise RuntimeError(f"clients failed: {report.reasons}")
        return 0.0

    return Contender(f"{name}, {_test_rows(given.task)} test rows a client", run)


def _plain(given: Setting, name: str) -> Contender:
    """Return the plain loop's curves."""
    task, job = given.task, given.job.algorithm
    part = task.data.partition
    loop = PlainLoop(task.module, nu=0, alpha=job.alpha, tau=1, beta=job.beta, batch=ROWS)
    rows = [
        (_pair(task, part.train_rows(client)), _pair(task, part.test_rows(client)))
        for client in range(CLIENTS)
    ]

    def run() -> float:
        loop.curves(given.params, rows, STEPS)
        return 0.0

    return Contender(f"{name}, {_test_rows(task)} test rows a client", run)


def _test_rows(task: Task) -> int:
    """Return the most test rows that a client has."""
    part = task.data.partition
    return int((part.offset[1:] - part.offset[:-1] - part.train).max())


def _pair(task: Task, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    x, y = task.batch(rows)
    return x, y


WORKLOADS = (
    Workload("curves", "MLP 784-100-10: curves k = 0 … 5 of 60 clients, batch 40", 7, curves),
)
