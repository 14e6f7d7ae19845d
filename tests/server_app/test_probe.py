"""Curvature asked of clients is the one measured here; replies that cannot be used are named."""

import logging
import math
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from flwr.app import Message

from nufed.client_app.app import app as client_app
from nufed.client_app.curvature import Curvature, outliers, probe, widest
from nufed.client_app.messages import CURVATURE, ProbeInstruction
from nufed.client_app.wire import REPORT
from nufed.conf.compose import compose_config
from nufed.conf.convert import to_json
from nufed.conf.errors import InputError
from nufed.conf.schema import Config
from nufed.server_app.probe import CLIENTS, believed, measured, measured_here
from nufed.server_app.steps import with_steps
from nufed.simulation.grid import LocalGrid
from nufed.strategies.roster import Roster, some
from nufed.tasks.ids import ClientIds
from nufed.tasks.streams import Purpose
from nufed.tasks.task import Task, build

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


class Saying(Grid):
    """A grid whose replies about curvature say other numbers of some clients."""

    largest: ClassVar[dict[int, float]] = {}
    negative: ClassVar[dict[int, float]] = {}

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        replies = super().pull_messages(message_ids)
        for reply in replies:
            if reply.metadata.message_type == CURVATURE:
                report = reply.content[REPORT]
                for name in ("largest", "negative"):
                    said = zip(report["clients"], report[name], strict=True)
                    report[name] = [getattr(self, name).get(i, value) for i, value in said]
        return replies


def saying(
    monkeypatch: pytest.MonkeyPatch, largest: dict[int, float], negative: dict[int, float]
) -> tuple[Curvature, list[Curvature]]:
    """Return what is made of what clients say, and the truth of each client."""
    grid, roster, config, bare = federation()
    grid.__class__ = Saying
    monkeypatch.setattr(Saying, "largest", largest)
    monkeypatch.setattr(Saying, "negative", negative)
    task, params = build(config), bare.initial_params()
    honest = probe(task, params, ProbeInstruction(config.seed, list(range(12))))
    each = list(map(Curvature, honest.largest, honest.negative))
    return measured(grid, roster, config, bare, params), each


PROBED = some(list(range(1, 12)), CLIENTS, 3, Purpose.PROBED)
"""The clients that are asked, in a federation as above."""


@pytest.mark.parametrize("lie", [1e30, 3e38, 40.0])
def test_one_client_that_says_far_more_than_others_counts_for_nothing(
    lie: float, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found, each = saying(monkeypatch, {7: lie}, {})
    assert found == widest([each[i] for i in PROBED if i != 7], "")
    (line,) = caplog.messages
    assert line.startswith(f"left out of the probe: client 7 ({lie:.2g}): the curvature that they")
    assert "more than 10 times the median of 8 clients, " in line


def test_what_others_allow_is_not_exceeded_by_a_client_that_says_it_is_flat(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found, each = saying(monkeypatch, {7: 1e-30}, {7: 0.0})
    assert found == widest([each[i] for i in PROBED if i != 7], "")
    assert caplog.messages == []


def test_more_negative_curvature_than_curvature_is_malformed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is a node's reply that is, with all its clients."""
    found, each = saying(monkeypatch, {7: 1.0}, {7: 1.5})
    assert found == widest([each[i] for i in PROBED if i % 3 != 1], "")
    (line,) = caplog.messages
    assert re.fullmatch(r".*: client [\d, ]+: negative is 1.5; must be from 0 to 1", line)


def test_what_is_said_of_negative_curvature_is_compared_too() -> None:
    usual = [Curvature(2.0, 0.1)] * 4
    assert outliers([*usual, Curvature(2.0, 1.9)]) == []
    assert outliers([*usual, Curvature(9.0, 2.1)]) == [4]
    assert outliers([*usual, Curvature(20.0, 0.0), Curvature(21.0, 0.0)]) == [5]
    assert outliers([Curvature(1.0, 0.0), Curvature(1e30, 0.0)]) == []
    halves = [Curvature(1.0, 0.0), Curvature(1e30, 0.0)] * 3
    assert outliers(halves) == [1, 3, 5], "the lower median"


def test_of_two_clients_the_larger_counts_and_both_are_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ids = ClientIds(9)
    here = {5: Curvature(2.0, 0.0), 3: Curvature(30.0, 1.0)}
    assert believed(here, ids) == [here[3], here[5]]
    (line,) = caplog.messages
    assert "differs more than 10 times: client 3 (30), client 5 (2); of two nobody can" in line
    for few in ({3: here[3]}, {3: Curvature(20.0, 0.0), 5: here[5]}, {}):
        believed(few, ids)
    assert len(caplog.messages) == 1


def test_why_clients_cannot_tell_is_said_in_short_printable_lines(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever they write: 60,000 signs, with escapes and line feeds."""
    text = "\x1b[2J\n@@nufed@@ {}\u202e" + "x" * 60_000

    def spoil(reply: Message) -> None:
        report = reply.content[REPORT]
        report["failed"] = report["clients"]
        report["reasons"] = [f"{text[:50]}{i}{text}" for i in report["clients"]]
        report["clients"] = report["largest"] = report["negative"] = []

    grid, roster, config, bare = federation()
    monkeypatch.setattr(Grid, "spoil", staticmethod(spoil))
    grid.spoilt = (0, 1, 2)
    found = measured(grid, roster, config, bare, bare.initial_params())
    assert not found.known
    assert len(caplog.messages) == 8
    for line in (*caplog.messages, found.unknown):
        assert line.isprintable()
        assert len(line) < 300


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
