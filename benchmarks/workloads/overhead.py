"""What a round takes beside the clients' arithmetic: server, grid, messages, drawing, gathering."""

import time
from collections.abc import Iterator
from statistics import median
from typing import NamedTuple

import torch

from benchmarks.flower import flower_ray
from benchmarks.outcome import Line, Target
from benchmarks.setting import FASHION, PER_FEDAVG, Setting, setting
from benchmarks.workload import Effort, Workload
from nufed.client_app.algorithm import Batches, Carry, Step
from nufed.client_app.app import make_app
from nufed.client_app.executor import Executor
from nufed.client_app.work import Training
from nufed.conf.convert import to_json
from nufed.conf.schema import Config
from nufed.server_app.app import make_strategy
from nufed.server_app.rounds import rounds
from nufed.server_app.tracking import State
from nufed.simulation.batched import Batched
from nufed.simulation.compiled import LocalStep
from nufed.simulation.device_executor import DeviceExecutor
from nufed.simulation.grid import LocalGrid
from nufed.strategies.roster import Roster
from nufed.tasks.task import Task

CLIENTS, WARM_UP = 1000, 2
OVERRIDES = (
    *FASHION,
    f"partition.num_clients={CLIENTS}",
    "model=mlp",
    "model.hidden=[126]",
    *PER_FEDAVG,
    "algorithm.tau=1",
    "algorithm.batch.support=10",
    "algorithm.batch.query=10",
)
WHOLE = "whole round in this process"


class TimedDeviceExecutor(DeviceExecutor):
    """Keeps the time of its local steps: the clients' arithmetic, and nothing else."""

    steps_s = 0.0

    def step(self, job: Training, compile: bool) -> LocalStep:
        """Return one local step of a stack of clients, timed."""
        step = super().step(job, compile)

        def timed(carry: Carry, batches: Batches) -> Step:
            started = time.perf_counter()
            result = step(carry, batches)
            self.steps_s += time.perf_counter() - started
            return result

        return timed


class RoundTime(NamedTuple):
    """Seconds of one round."""

    whole: float
    cpu: float
    steps: float


def overhead(effort: Effort, repeats: int) -> list[Line]:
    """Measure rounds of 1000 clients through server, grid and messages."""
    given = setting(OVERRIDES, CLIENTS)
    effort.say(WHOLE)
    times = list(_rounds(given, repeats))
    whole = Line(
        WHOLE,
        {
            "wall_s": median(t.whole for t in times),
            "cpu_s": median(t.cpu for t in times),
            "outside_s": median(t.whole - t.steps for t in times),
        },
        [Target("outside_s", "≤", 0.1)],
    )
    steps = Line("its local steps alone", {"wall_s": median(t.steps for t in times)})
    return [whole, steps, flower_ray(given, whole, effort)]


def _rounds(given: Setting, repeats: int) -> Iterator[RoundTime]:
    """Run a ServerApp's rounds as `nufed` does, and yield the times of all but the first."""
    torch.set_num_threads(1)
    config = given.vary(
        f"rounds={WARM_UP + repeats}",
        f"clients_per_round={CLIENTS}",
        "evaluation.every=1000",
        "evaluation.clients=1",
        "evaluation.new_clients=0",
    )
    executors: list[TimedDeviceExecutor] = []

    def timed(config: Config, task: Task) -> Executor:
        engine = Batched(config, task)
        engine.executor = TimedDeviceExecutor(task)
        executors.append(engine.executor)
        return engine

    grid = LocalGrid(make_app(timed), {"config": to_json(config)})
    roster = Roster(config.seed, config.evaluation.new_clients, given.task.data.partition)
    strategy = make_strategy(config, roster)
    roster.wait(grid, timeout=60.0)
    (executor,) = executors
    for row, _ in rounds(grid, strategy, config, State(-1, given.params, {})):
        steps_s, executor.steps_s = executor.steps_s, 0.0
        if row["round"] > WARM_UP:
            if steps_s == 0.0:
                raise RuntimeError("clients went one by one: their steps were not timed")
            yield RoundTime(row["train_s"], row["train_cpu_s"], steps_s)


WORKLOADS = (
    Workload(
        "overhead",
        "MLP 784-126-10 (100,180 parameters), first-order, ν=1, τ=1, batch 10, 1000 clients",
        7,
        overhead,
    ),
)
