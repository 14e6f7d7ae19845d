"""Whole rounds under other rules than the mean: clipped, private, against hostile clients."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from benchmarks.measure import Contender, interleaved, medians
from benchmarks.outcome import Line, Target
from benchmarks.setting import FASHION, MLP, PER_FEDAVG, Setting, setting
from benchmarks.workload import Effort, Workload
from nufed.client_app.app import make_app
from nufed.conf.convert import to_json
from nufed.server_app.app import make_strategy
from nufed.server_app.rounds import rounds
from nufed.server_app.tracking import State
from nufed.simulation.executor import Batched
from nufed.simulation.grid import LocalGrid
from nufed.strategies.roster import Roster

CLIENTS = 50
MEAN = "mean"
RULES = {
    MEAN: ((), None),
    "clipped": (("strategy.clip_norm=0.5",), 1.15),
    "central_dp": (("privacy=central_dp", "privacy.clipping_norm=0.5"), 1.15),
    "krum": (("rule=krum", "rule.num_malicious=5"), 1.5),
    "median": (("rule=median",), 1.5),
    "trimmed mean": (("rule=trimmed_mean",), 1.5),
}
"""Name -> overrides, and how many times as long as the mean a round may take."""
OVERRIDES = (*FASHION, f"partition.num_clients={CLIENTS}", *MLP, *PER_FEDAVG)


def rules(effort: Effort, repeats: int) -> list[Line]:
    """Measure rounds of all clients through server, grid and messages, in this process."""
    given = setting(OVERRIDES, CLIENTS)
    contenders = [Contender(name, _next_round(given, *said)) for name, (said, _) in RULES.items()]
    for contender in contenders:
        effort.say(f"{contender.name}: warming up")
        contender.run()
    samples = interleaved(contenders, repeats, say=effort.say)
    return [
        Line(
            name,
            medians(samples, name, MEAN),
            [] if most is None else [Target("relative_time", "≤", most)],
        )
        for name, (_, most) in RULES.items()
    ]


def _next_round(given: Setting, *overrides: str) -> Any:
    """Return what carries out one more round of a run."""
    torch.set_num_threads(1)
    config = given.vary(
        *overrides,
        "rounds=1000",
        f"clients_per_round={CLIENTS}",
        "evaluation.every=1000",
        "evaluation.clients=1",
        "evaluation.new_clients=0",
        "engine.compile=false",
    )
    grid = LocalGrid(make_app(Batched), {"config": to_json(config)})
    roster = Roster(config.seed, config.evaluation.new_clients, given.task.data.partition)
    strategy = make_strategy(config, roster)
    roster.wait(grid, timeout=60.0)
    carried_out: Iterator[Any] = rounds(grid, strategy, config, State(-1, given.params, {}))
    next(carried_out)  # round 0 measures the initial model
    return partial(_carry_out, carried_out)


def _carry_out(carried_out: Iterator[Any]) -> float:
    row, _ = next(carried_out)
    if row["clients"] != CLIENTS:
        raise RuntimeError(f"{row['clients']} of {CLIENTS} clients' updates counted")
    return 0.0


WORKLOADS = (
    Workload(
        "rules",
        "MLP 784-100-10, first-order, ν=1, τ=24, batch 40, whole rounds of 50 clients",
        5,
        rules,
    ),
)
