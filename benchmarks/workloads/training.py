"""A round of training: the batched engine beside the plain loop."""

from collections.abc import Callable, Sequence
from functools import partial

import torch

from benchmarks import published
from benchmarks.compare import beside, compare
from benchmarks.contenders import (
    CHOSEN,
    COMPILED,
    EAGER,
    PLAIN,
    Trainer,
    batched,
    chosen,
    compiled,
    one_by_one,
    opponents,
    plain_loop,
)
from benchmarks.flower import flower_ray
from benchmarks.opponents.given import given as work_of
from benchmarks.outcome import Line, Target
from benchmarks.setting import FASHION, MLP, PER_FEDAVG, Setting, setting
from benchmarks.workload import Effort, Workload

ALL = (plain_loop, one_by_one, batched, compiled)
OURS = (plain_loop, one_by_one, batched, chosen)
FIFTY = "partition.num_clients=50"
LOGISTIC = (
    *FASHION,
    "partition.num_clients=200",
    "model=logistic",
    *PER_FEDAVG,
    "algorithm.mode=exact",
    "algorithm.tau=10",
)
AHEAD = {PLAIN: 1.0, "JAX, jitted": 1.0, "pfl-research": 3.0, "BlazeFL": 3.0}
"""Contender -> how many times the CPU seconds of NuFed it is to take."""


def training(
    overrides: Sequence[str],
    clients: int,
    makers: Sequence[Callable[[Setting], Trainer]],
    targets: dict[str, float],
    effort: Effort,
    repeats: int,
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
    """
    given = setting(overrides, clients)
    bounds = {name: [Target("speedup", "≥", bound)] for name, bound in targets.items()}
    return compare([make(given) for make in makers], effort, repeats, bounds)


def against_all(
    overrides: Callable[[], Sequence[str]],
    clients: int,
    makers: Sequence[Callable[[Setting], Trainer]],
    ahead: dict[str, float],
    effort: Effort,
    repeats: int,
    *,
    flower: bool = False,
) -> list[Line]:
    """Measure a round of `clients` clients, by other engines too.

    Parameters
    ----------
    overrides
        Gives the configuration.
    clients, makers, effort, repeats
        As for `training`.
    ahead
        Contender -> how many times the CPU seconds of `CHOSEN`, one of the makers', it is to take.
    flower
        Whether to run the same round on Flower's Ray engine too.
    """
    given = setting(overrides(), clients)
    targets = beside(ahead) | {EAGER: [Target("speedup", "≥", 1.0)]}
    with opponents(work_of(given), given, effort.say, targets) as (others, missing):
        trainers = [*(make(given) for make in makers), *others]
        lines = compare(trainers, effort, repeats, targets, CHOSEN)
    ray = [flower_ray(given, lines[0], effort)] if flower else []
    return [*lines, *missing, *ray]


def _gpu_lacking() -> str | None:
    return None if torch.cuda.is_available() else "a CUDA GPU"


_TWO = (plain_loop, batched)
_MLP50 = (*FASHION, FIFTY, *MLP, *PER_FEDAVG)
_CNN = (*FASHION, FIFTY, "model=cnn", *PER_FEDAVG)
_CUDA = "device=cuda"
_NU5 = (*_MLP50, "algorithm.nu=5", "algorithm.tau=8")

WORKLOADS = (
    Workload(
        "mlp10",
        "MLP 784-100-10, first-order, ν=1, τ=24, batch 40, 10 clients",
        7,
        partial(against_all, lambda: _MLP50, 10, OURS, AHEAD, flower=True),
    ),
    Workload(
        "mlp50",
        "MLP 784-100-10, first-order, ν=1, τ=24, batch 40, 50 clients",
        5,
        partial(against_all, lambda: _MLP50, 50, OURS, AHEAD),
    ),
    Workload(
        "logistic",
        "logistic regression 784-10, exact, ν=1, τ=10, batch 40, 200 clients",
        5,
        partial(against_all, lambda: LOGISTIC, 200, OURS, AHEAD),
    ),
    Workload(
        "fo5",
        "MLP 784-100-10, first-order, ν=5, τ=8, batch 40, 50 clients",
        5,
        partial(against_all, lambda: _NU5, 50, OURS, AHEAD),
    ),
    Workload(
        "exact5",
        "MLP 784-100-10, exact, ν=5, τ=8, batch 40, 50 clients",
        5,
        partial(
            against_all,
            lambda: (*_NU5, "algorithm.mode=exact"),
            50,
            OURS,
            AHEAD,
            flower=True,
        ),
    ),
    Workload(
        "published",
        "pfl-research's: CIFAR-10's shape, CNN, FedAvg, 50 users of 50 rows, an epoch, batch 10",
        3,
        partial(
            against_all,
            published.overrides,
            published.USERS,
            (plain_loop, chosen),
            dict.fromkeys(AHEAD, 1.0),
            flower=True,
        ),
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
