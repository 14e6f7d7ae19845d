"""SuperNodes that fail in every way there is: rounds go on with the others, and say who failed.

One run on three SuperNodes, with client i on node i:

    round 1: node 1 raises an exception, the loss of node 2 is NaN
    round 2: node 1 hangs, node 0 is killed in the middle of its work
    round 3: node 0 is back under another node id, node 1 has recovered
"""

from collections.abc import Iterator

import pytest
import torch

from tests.deployment.harness import Federation, wait_until
from tests.helpers import RunResult, read_run

NODES = 3
NET = '''
"""A linear model that does what a SuperNode's file of faults says, a word for each message."""

import functools
import math
import os
import time
from pathlib import Path

import torch
from torch import nn


@functools.cache  # a message is a process
def fault():
    file = Path(os.environ.get("FAULTS", os.devnull))
    word, _, rest = file.read_text().partition(" ")
    if word:
        file.write_text(rest)
    if word == "raise":
        raise OSError("the sensor is unplugged")
    if word == "hang":
        file.with_suffix(".hangs").touch()
        while not file.with_suffix(".release").exists():
            time.sleep(0.05)
    return math.nan if word == "nan" else 1.0


class Net(nn.Linear):
    def __init__(self, input_shape, num_outputs):
        super().__init__(input_shape[0], num_outputs, bias=False)

    def forward(self, x):
        return super().forward(x) * (fault() if torch.is_grad_enabled() else 1.0)
'''
RUN = [
    *("dataset=quadratics", f"dataset.num_clients={NODES}", "dataset.seed=0", "model=custom"),
    *("model._target_=faulty.Net", "rounds=3", "evaluation.every=100", "evaluation.steps=0"),
    *("evaluation.new_clients=0", "evaluation.clients=1", "algorithm.nu=1", "algorithm.tau=1"),
    *("algorithm.batch.support=null", "algorithm.batch.query=null", "server.round_timeout=60"),
]


def start_node(federation: Federation, i: int) -> None:
    """Start SuperNode `i`, which reads its faults from node<i>.txt."""
    env = {"FAULTS": str(federation.folder / f"node{i}.txt")}
    federation.start_node(f"node{i}", f"partition-id={i} num-partitions={NODES}", env=env)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunResult]:
    """Run it all."""
    folder = tmp_path_factory.mktemp("faults")
    federation = Federation(folder / "federation")
    try:
        (federation.code / "faulty.py").write_text(NET)
        for i, faults in enumerate(("ok hang", "raise hang", "nan")):
            (federation.folder / f"node{i}.txt").write_text(faults)
            start_node(federation, i)
        process = federation.start_nufed(*RUN, f"hydra.run.dir={folder / 'run'}", cwd=folder)
        for i in (0, 1):
            hangs = federation.folder / f"node{i}.hangs"
            wait_until(hangs.exists, 300, f"node {i} hangs", process)
        federation.kill_node("node0")
        start_node(federation, 0)
        rows = folder / "run" / "metrics.jsonl"
        wait_until(lambda: rows.read_text().count("\n") == 3, 200, "round 2 ends", process)
        (federation.folder / "node1.release").touch()
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        yield read_run(folder / "run")
    finally:
        federation.stop()


def reasons(run: RunResult, round: int) -> dict[int, str]:
    """Return why clients failed in a round."""
    return {failure["client"]: failure["reason"] for failure in run.rows[round]["failures"]}


def test_a_node_that_raises_and_one_that_sends_nan_are_named(run: RunResult) -> None:
    """The round ends with the third one's update."""
    assert run.rows[1]["clients"] == 1
    why = reasons(run, 1)
    assert why.keys() == {1, 2}
    assert why[1] == "OSError: the sensor is unplugged"
    assert "finite" in why[2] or "diverged" in why[2]


def test_a_node_that_hangs_and_one_that_was_killed_hold_a_round_up_for_its_timeout_only(
    run: RunResult,
) -> None:
    assert run.rows[2]["clients"] == 1
    why = reasons(run, 2)
    assert why.keys() == {0, 1}
    assert why[1] == "no reply in time"
    assert why[0] == "no reply in time" or "Unavailable" in why[0]
    assert run.rows[2]["train_s"] < 75


def test_a_node_that_comes_back_is_known_by_its_partition_id(run: RunResult) -> None:
    """Under another node id, beside the old one, which Flower still takes for online."""
    assert run.rows[3]["clients"] == 3
    assert run.rows[3]["failures"] == []
    assert all(bool(torch.isfinite(p).all()) for p in run.model.values())
    assert "stopped" not in run.summary
