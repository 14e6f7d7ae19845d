"""Whole rounds beside those of other engines, where the server or a client's memory has a part."""

from benchmarks.compare import beside, compare
from benchmarks.contenders import CHOSEN, ROUNDS, Trainer, opponents
from benchmarks.flower import flower_ray
from benchmarks.opponents.given import given as work_of
from benchmarks.outcome import Line, Target
from benchmarks.setting import FASHION, MLP, Setting, setting
from benchmarks.whole_round import next_round
from benchmarks.workload import Effort, Workload

CLIENTS, CLIP, NOISE = 50, 0.5, 1.0
STEPS = (
    *FASHION,
    f"partition.num_clients={CLIENTS}",
    *MLP,
    "algorithm.tau=24",
    "algorithm.batch.support=40",
    "algorithm.batch.query=40",
    "algorithm.beta=0.01",
)
FEDAVG = (*STEPS, "algorithm=fedavg", "algorithm.alpha=0.01")
PRIVATE = (
    "privacy=central_dp",
    f"privacy.clipping_norm={CLIP}",
    f"privacy.noise_multiplier={NOISE}",
)
DITTO = (*STEPS, "algorithm=ditto", "algorithm.alpha=0.01")
PLAIN = "NuFed, without clipping and noise"
BOUNDS = {"JAX, jitted": 1.0, "pfl-research": 3.0}
"""Opponent -> how many times the CPU seconds of NuFed it is to take."""


def dp(effort: Effort, repeats: int) -> list[Line]:
    """Measure FedAvg with clipped updates and a noisy sum, and what these cost."""
    given = setting(FEDAVG, CLIENTS)
    trainers = [_whole(PLAIN, given), _whole(CHOSEN, given, *PRIVATE)]
    costs = {CHOSEN: [Target("relative_time", "≤", 1.15)]}
    work = work_of(given, clip=CLIP, noise=NOISE)
    targets = costs | beside(BOUNDS)
    with opponents(work, given, effort.say, targets) as (others, missing):
        lines = compare([*trainers, *others], effort, repeats, targets, CHOSEN)
    return [*lines, *missing, flower_ray(given, lines[0], effort, *PRIVATE)]


def ditto(effort: Effort, repeats: int) -> list[Line]:
    """Measure rounds whose clients keep personal models."""
    given = setting(DITTO, CLIENTS)
    targets = beside(BOUNDS)
    with opponents(work_of(given), given, effort.say, targets) as (others, missing):
        lines = compare([_whole(CHOSEN, given), *others], effort, repeats, targets, CHOSEN)
    return [*lines, *missing, flower_ray(given, lines[0], effort)]


def _whole(name: str, given: Setting, *overrides: str) -> Trainer:
    """Return whole rounds, as `nufed` without flags has them in a long run, as a contender."""
    carry_out = next_round(given, f"rounds={ROUNDS}", *overrides)
    return Trainer(name, given, lambda _: carry_out(), elsewhere=True)


WORKLOADS = (
    Workload(
        "dp",
        "MLP 784-100-10, FedAvg, τ=24, batch 40, clipped and noisy, whole rounds of 50 clients",
        5,
        dp,
    ),
    Workload(
        "ditto",
        "MLP 784-100-10, Ditto, τ=24 of both models, batch 40, whole rounds of 50 clients",
        5,
        ditto,
    ),
)
