"""SuperNodes that fail in every way there is: rounds go on with the others, and say who failed.

One run on three SuperNodes, with client i on node i:

    round 1: node 1 raises an exception, the loss of node 2 is NaN
    round 2: node 1 hangs, node 0 is killed in the middle of its work
    round 3, or a later one, as long as the new process takes to register: node 0 is back under
             another node id, node 1 has recovered
    then:    Ctrl-C, where the run was submitted

A fourth SuperNode hosts nobody, and answers each question by what may be taken for records.
"""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from nufed.client_app import client
from nufed.conf.compose import compose_config
from nufed.simulation.flower_command import name_superlink
from nufed.tasks.task import build
from tests import forked
from tests.deployment.harness import Federation, wait_until
from tests.forgery import forgeries
from tests.forked import LIMIT_S
from tests.helpers import Row, training

pytestmark = pytest.mark.deployment

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

if "FORGERIES" in os.environ:
    raise OSError(Path(os.environ["FORGERIES"]).read_text())


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
    """Faulty in training: batches of four, which is not how many rows the trial of a model has."""

    def __init__(self, input_shape, num_outputs):
        super().__init__(input_shape[0], num_outputs, bias=False)

    def forward(self, x):
        return super().forward(x) * (fault() if torch.is_grad_enabled() and len(x) == 4 else 1.0)
'''
RUN = [
    *("dataset=quadratics", f"dataset.num_clients={NODES}", "dataset.seed=0", "model=custom"),
    *("model._target_=faulty.Net", "rounds=1000", "evaluation.every=100", "evaluation.steps=0"),
    *("evaluation.new_clients=0", "evaluation.clients=1", "algorithm.nu=1", "algorithm.tau=1"),
    *("algorithm.batch.support=4", "algorithm.batch.query=4", "server.round_timeout=60"),
    *("algorithm.alpha=0.03", "algorithm.beta=0.1"),
]


def start_node(federation: Federation, i: int) -> None:
    """Start SuperNode `i`, which reads its faults from node<i>.txt."""
    env = {"FAULTS": str(federation.folder / f"node{i}.txt")}
    federation.start_node(f"node{i}", f"partition-id={i} num-partitions={NODES}", env=env)


class Interrupted(NamedTuple):
    """A run that went through all of it."""

    federation: Federation
    folder: Path
    rows: list[Row]
    status: int
    out: str
    err: str


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Interrupted]:
    """Run it all."""
    folder = tmp_path_factory.mktemp("faults")
    federation = Federation(folder / "federation")
    try:
        (federation.code / "faulty.py").write_text(NET)
        for i, faults in enumerate(("ok hang", "raise hang", "nan")):
            (federation.folder / f"node{i}.txt").write_text(faults)
            start_node(federation, i)
        said = federation.folder / "forgeries.txt"
        said.write_text("\n".join(forgeries(100)))
        nobody = f"partition-id={NODES} num-partitions={NODES + 1}"
        federation.start_node("forger", nobody, env={"FORGERIES": str(said)})
        nufed = federation.start_nufed(*RUN, f"hydra.run.dir={folder / 'run'}", cwd=folder)
        for i in (0, 1):
            hangs = federation.folder / f"node{i}.hangs"
            wait_until(hangs.exists, LIMIT_S, f"node {i} hangs", nufed)
        federation.kill_node("node0")
        start_node(federation, 0)
        rows = folder / "run" / "metrics.jsonl"
        wait_until(lambda: rows.read_text().count("\n") == 3, LIMIT_S, "round 2 ends", nufed)
        (federation.folder / "node1.release").touch()
        wait_until(lambda: '"clients": 3' in rows.read_text(), LIMIT_S, "all are back", nufed)
        nufed.process.send_signal(signal.SIGINT)
        done = nufed.done()
        record = [json.loads(line) for line in rows.read_text().splitlines()]
        yield Interrupted(federation, folder / "run", record, *done)
    finally:
        federation.close()


def reasons(run: Interrupted, round: int) -> dict[int, str]:
    """Return why clients failed in a round."""
    return {failure["client"]: failure["reason"] for failure in run.rows[round]["failures"]}


def test_a_node_that_raises_and_one_that_sends_nan_are_named(run: Interrupted) -> None:
    """The round ends with the third one's update."""
    assert run.rows[1]["clients"] == 1
    why = reasons(run, 1)
    assert why.keys() == {1, 2}
    assert why[1] == "OSError: the sensor is unplugged"
    assert "finite" in why[2] or "diverged" in why[2]


def test_a_node_that_hangs_and_one_that_was_killed_hold_a_round_up_for_its_timeout_only(
    run: Interrupted,
) -> None:
    assert run.rows[2]["clients"] == 1
    why = reasons(run, 2)
    assert why.keys() == {0, 1}
    assert why[1] == "no reply in time"
    assert why[0] == "no reply in time" or "Unavailable" in why[0]
    assert run.rows[2]["train_s"] >= 60


def test_a_node_that_comes_back_is_known_by_its_partition_id(run: Interrupted) -> None:
    """Under another node id, beside the old one, which Flower still takes for online."""
    last = next(row for row in run.rows[3:] if row["clients"] == 3)
    assert last["failures"] == []
    assert last["update_norm"] > 0
    assert run.federation.log("node0").count("Starting Flower SuperNode") == 2


def test_a_supernode_draws_the_batches_that_every_engine_draws(run: Interrupted) -> None:
    """Round 1 has the update of client 0 alone: its loss and norm, computed here."""
    plain = [word for word in RUN if "model" not in word]
    config = compose_config([*plain, "model=linear"])
    task = build(config)
    job = training(config, [0])
    made = client.train(task, task.initial_params(), job, 0)
    norm = float(torch.cat([p.flatten() for p in made.update.values()]).norm())
    assert run.rows[1]["train_loss"] == pytest.approx(made.loss, abs=1e-5)
    assert run.rows[1]["update_norm"] == pytest.approx(norm, abs=1e-5)


def test_what_a_node_says_is_no_record(run: Interrupted) -> None:
    """It is left out, in a line that is short and plain; the folder is the server's own."""
    lines = run.out.splitlines()
    (told,) = {line for line in lines if "is left out: " in line}
    assert "forged" in told
    assert "@@nufed@@" in told
    assert len(told) < 400
    assert all(line.isprintable() for line in lines)
    assert [row["round"] for row in run.rows] == list(range(len(run.rows)))
    there = json.loads((run.folder / "summary.json").read_text())["server_run_folder"]
    theirs = (Path(there) / "metrics.jsonl").read_text()
    assert theirs.startswith((run.folder / "metrics.jsonl").read_text())


def test_ctrl_c_stops_the_run_and_says_how_to_go_on(run: Interrupted) -> None:
    """A real SIGINT: what came stays here, and the server has a checkpoint."""
    assert run.status == 130
    assert run.err.count("\n") == 1, run.err
    done = run.rows[-1]["round"]
    assert run.err.startswith(f"nufed: interrupted; the run was stopped after round {done}; ")
    assert f"go on with: nufed resume={run.folder}\n" in run.err
    summary = json.loads((run.folder / "summary.json").read_text())
    assert run.err.startswith(f"nufed: {summary['stopped']}; ")
    there = Path(summary["server_run_folder"])
    wait_until(lambda: any(there.glob("checkpoint/*")), LIMIT_S, "the server saves a checkpoint")
    name_superlink(run.federation.home, "here", address=run.federation.address, insecure=True)
    run_id = json.loads((run.folder / "submitted.json").read_text())["run_id"]
    words = ["flwr", "ls", "here", "--run-id", run_id, "--format", "json"]
    listed = forked.run(words, run.folder, run.federation.environment())
    assert json.loads(listed.out)["runs"][0]["status"] == "finished:stopped"
