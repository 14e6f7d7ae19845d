"""Whole rounds in this process: server, grid and messages, and the clients' work."""

from collections.abc import Callable, Iterator
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.setting import Setting
from nufed.client_app.app import make_app
from nufed.conf.convert import to_json
from nufed.server_app.app import make_strategy
from nufed.server_app.rounds import rounds
from nufed.server_app.tracking import State
from nufed.simulation.batched import Batched
from nufed.simulation.grid import LocalGrid
from nufed.strategies.roster import Roster


def next_round(given: Setting, *overrides: str) -> Callable[[], float]:
    """Return what carries out one more round of a run, of all the setting's clients."""
    torch.set_num_threads(1)
    clients = len(given.job.clients)
    config = given.vary(
        f"clients_per_round={clients}",
        "evaluation.every=10000",
        "evaluation.clients=1",
        "evaluation.new_clients=0",
        *overrides,
    )
    folder = TemporaryDirectory(prefix="nufed-bench-")  # where clients keep what is theirs
    run_config = {"config": to_json(config), "run-dir": folder.name}
    grid = LocalGrid(make_app(Batched), run_config)
    roster = Roster(config.seed, config.evaluation.new_clients, given.task.data.partition)
    strategy = make_strategy(config, roster)
    roster.wait(grid, timeout=60.0)
    carried_out: Iterator[Any] = rounds(grid, strategy, config, State(-1, given.params, {}))
    next(carried_out)  # round 0 measures the initial model
    return partial(_carry_out, carried_out, clients, folder)


def _carry_out(carried_out: Iterator[Any], clients: int, folder: TemporaryDirectory[str]) -> float:
    """Carry out a round; the folder lives as long as there may be another."""
    row, _ = next(carried_out)
    if row["clients"] != clients:
        raise RuntimeError(f"{row['clients']} of {clients} clients' updates counted")
    return 0.0
