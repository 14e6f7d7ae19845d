"""Curvature asked of clients is the one measured here; replies that cannot be used are named."""

import logging
import math
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Message

from client_app.app import app as client_app
from client_app.messages import CURVATURE, REPORT
from conf.compose import compose_config
from conf.convert import to_json
from conf.errors import InputError
from conf.schema import Config
from server_app.probe import measured, measured_here
from server_app.steps import with_steps
from simulation.grid import LocalGrid
from strategies.roster import Roster
from tasks.task import Task, build

OVERRIDES = ["partition=iid", "partition.num_clients=12", "evaluation.new_clients=[0]", "seed=3"]


class Grid(LocalGrid):
    """Three SuperNodes, whose replies about curvature a test may spoil, by their number."""

    spoilt: tuple[int, ...] = ()

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        replies = super().pull_messages(message_ids)
        for reply in replies:
            about = reply.metadata.message_type == CURVATURE
            if about and reply.metadata.src_node_id - min(self.nodes) in self.spoilt:
                self.spoil(reply)
        return replies

    @staticmethod
    def spoil(reply: Message) -> None:
        report = reply.content[REPORT]
        report["largest"] = [math.nan for _ in report["clients"]]


def federation() -> tuple[Grid, Roster, Config, Task]:
    """Return clients 0 … 11 on three nodes, and what the server has: no row."""
    config = compose_config(OVERRIDES)
    grid = Grid(client_app, {"config": to_json(config)}, num_supernodes=3)
    task = build(config)
    roster = Roster(config.seed, config.evaluation.new_clients, task.data.partition)
    roster.wait(grid, timeout=0)
    return grid, roster, config, replace(task, data=replace(task.data, x=task.data.x[:0]))


def test_what_clients_say_is_what_one_measures_here(caplog: pytest.LogCaptureFixture) -> None:
    """Of the same clients and rows, to the last bit."""
    grid, roster, config, bare = federation()
    params = bare.initial_params()
    asked = measured(grid, roster, config, bare, params)
    assert asked.known
    assert asked == measured_here(config, build(config), params)
    assert caplog.messages == []


def test_a_node_that_lies_is_named_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "nufed")
    grid, roster, config, bare = federation()
    params = bare.initial_params()
    grid.spoilt = (1,)
    found = measured(grid, roster, config, bare, params)
    assert found.known
    (message,) = caplog.messages
    named = re.fullmatch(r"left out of the probe: client ([\d, ]+): largest is nan; .*", message)
    assert named is not None
    assert {int(client) % 3 for client in named[1].split(", ")} == {1}


def test_nobody_can_tell(caplog: pytest.LogCaptureFixture) -> None:
    grid, roster, config, bare = federation()
    grid.spoilt = (0, 1, 2)
    assert not measured(grid, roster, config, bare, bare.initial_params()).known
    assert len(caplog.messages) == 1


def test_clients_that_cannot_tell_are_called_by_their_ids(tmp_path: Path) -> None:
    client, y = np.repeat([2, 5, 8], 10), np.tile([0.0, 1.0], 15)
    np.savez(tmp_path / "steep.npz", x=np.full((30, 2), 1e30, np.float32), y=y, client=client)
    data = ["dataset=npz", f"dataset.path={tmp_path}/steep.npz", "partition=natural"]
    config = compose_config([*data, "evaluation.new_clients=0"])
    task = build(config)
    with pytest.raises(InputError, match=r"no client could tell how .* \(client [258]: the curv"):
        with_steps(config, lambda: measured_here(config, task, task.initial_params()))
