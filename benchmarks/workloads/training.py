"""A round of training: the batched engine beside the plain loop."""

from collections.abc import Callable, Sequence
from functools import partial

import torch

from benchmarks.compare import compare
from benchmarks.contenders import (
    COMPILED,
    EAGER,
    Trainer,
    batched,
    compiled,
    one_by_one,
    plain_loop,
)
from benchmarks.flower import flower_ray
from benchmarks.outcome import Line, Target
from benchmarks.setting import FASHION, MLP, PER_FEDAVG, Setting, setting
from benchmarks.workload import Effort, Workload

ALL = (plain_loop, one_by_one, batched, compiled)
FIFTY = "partition.num_clients=50"
LOGISTIC = (
    *FASHION,
    "partition.num_clients=200",
    "model=logistic",
    *PER_FEDAVG,
    "algorithm.mode=exact",
    "algorithm.tau=10",
)


def training(
    overrides: Sequence[str],
    clients: int,
    makers: Sequence[Callable[[Setting], Trainer]],
    targets: dict[str, float],
    effort: Effort,
    repeats: int,
    *,
    flower: bool = False,
) -> list[Line]:
    """Measure a round of `clients` clients.

    Parameters
    ----------
    overrides
        The configuration.
    clients
        Clients a round.
    makers
        Of the contenders, the reference first.
    targets
        Contender -> how many times as quick as the reference it must be.
    effort, repeats
        How often.
    flower
        Whether to run the same round on Flower's Ray engine too.
    """
    given = setting(overrides, clients)
    bounds = {name: [Target("speedup", "≥", bound)] for name, bound in targets.items()}
    lines = compare([make(given) for make in makers], effort, repeats, bounds)
    return [*lines, flower_ray(given, lines[0], effort)] if flower else lines


def _gpu_lacking() -> str | None:
    return None if torch.cuda.is_available() else "a CUDA GPU"


_TWO = (plain_loop, batched)
_MLP50 = (*FASHION, FIFTY, *MLP, *PER_FEDAVG)
_CNN = (*FASHION, FIFTY, "model=cnn", *PER_FEDAVG)
_CUDA = "device=cuda"

WORKLOADS = (
    Workload(
        "mlp10",
        "MLP 784-100-10, first-order, ν=1, τ=24, batch 40, 10 clients",
        7,
        partial(training, _MLP50, 10, ALL, {EAGER: 1.0, COMPILED: 2.2}, flower=True),
    ),
    Workload(
        "mlp50",
        "MLP 784-100-10, first-order, ν=1, τ=24, batch 40, 50 clients",
        5,
        partial(training, _MLP50, 50, ALL, {EAGER: 1.4, COMPILED: 2.4}),
    ),
    Workload(
        "logistic",
        "logistic regression 784-10, exact, ν=1, τ=10, batch 40, 200 clients",
        5,
        partial(training, LOGISTIC, 200, ALL, {EAGER: 5.0, COMPILED: 8.0}),
    ),
    Workload(
        "cnn",
        "CNN of 582,026 parameters, first-order, ν=1, τ=24, batch 40, 10 clients",
        3,
        partial(training, _CNN, 10, _TWO, {EAGER: 0.97}),
    ),
    Workload(
        "gpu",
        "MLP 784-100-10 on one GPU, first-order, ν=1, τ=24, batch 40, 50 clients",
        5,
        partial(training, (*_MLP50, _CUDA), 50, ALL, {COMPILED: 25.0}),
        needs=_gpu_lacking(),
    ),
    Workload(
        "gpu-logistic",
        "logistic regression 784-10 on one GPU, exact, ν=1, τ=10, batch 40, 200 clients",
        5,
        partial(training, (*LOGISTIC, _CUDA), 200, ALL, {}),
        needs=_gpu_lacking(),
    ),
    Workload(
        "gpu-cnn",
        "CNN on one GPU, first-order, ν=1, τ=24, batch 40, 10 clients",
        5,
        partial(training, (*_CNN, _CUDA), 10, (plain_loop, batched, compiled), {}),
        needs=_gpu_lacking(),
    ),
)
