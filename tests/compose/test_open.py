"""The plain profile: the run of the in-process engine, and a SuperNode that dies and comes back."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compose.stack import Stack, docker, inspect, running, said, wait_until
from tests.forked import LIMIT_S
from tests.helpers import distance, read_run

pytestmark = pytest.mark.compose
SMALL = ["partition.num_clients=4", "clients_per_round=4", "evaluation.new_clients=[]"]


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running("open") as stack:
        yield stack


def test_each_supernode_has_a_partition_of_its_own(stack: Stack) -> None:
    hosted = re.findall(r"hosting partition (\d) of 2", stack.log("supernode"))
    assert sorted(hosted) == ["0", "1"]


def test_the_image_has_no_torchvision_and_runs_as_nobody_special(stack: Stack) -> None:
    look = "import importlib.util as u, os; print(u.find_spec('torchvision'), os.getuid())"
    for service in ("superlink", "supernode"):
        done = stack.compose("exec", "--no-TTY", service, "python", "-c", look)
        assert done.stdout.split() == ["None", "1000"]


def test_only_this_machine_can_reach_it(stack: Stack) -> None:
    (container,) = stack.containers("superlink")
    ports = json.loads(inspect(container, "{{json .NetworkSettings.Ports}}"))
    bound = [binding["HostIp"] for bindings in ports.values() for binding in bindings or []]
    assert bound == ["127.0.0.1"]


def test_the_model_is_that_of_the_engine_in_one_process(stack: Stack, tmp_path: Path) -> None:
    rounds = [*SMALL, "rounds=2", "evaluation.every=2"]
    printed = stack.compose("run", "--rm", "--no-TTY", "nufed", *rounds).stdout
    (folder,) = re.findall(r"server's run folder: (\S+)", printed)
    command = ["run", "--rm", "--no-TTY", "--volume", f"{stack.volume('runs')}:/runs"]
    alone = [*command, "--entrypoint", "nufed", "nufed", "hydra.run.dir=/runs/alone"]
    stack.compose(*alone, *rounds)
    run = read_run(stack.fetch("superlink", folder, tmp_path))
    reference = read_run(stack.fetch("superlink", "/runs/alone", tmp_path))
    assert distance(run.model, reference.model) < 1e-5
    assert [row["round"] for row in run.rows] == [0, 1, 2]
    for mine, theirs in zip(run.rows[1:], reference.rows[1:], strict=True):
        assert (mine["clients"], mine["failures"]) == (4, [])
        assert mine["train_loss"] == pytest.approx(theirs["train_loss"], abs=1e-5)
    for key in ("accuracy", "loss"):
        curve = reference.summary["participating"][key]
        assert run.summary["participating"][key] == pytest.approx(curve, abs=1e-4)


def test_a_supernode_that_dies_within_a_round_comes_back_and_is_used(
    stack: Stack, tmp_path: Path
) -> None:
    victim = stack.containers("supernode")[0]
    started = inspect(victim, "{{.State.StartedAt}}")
    before = said(victim).count("Receiving: train")
    job = stack.start("run", "--rm", "--no-TTY", "nufed", *SMALL, "rounds=4", "evaluation.every=4")
    try:
        wait_until(lambda: said(victim).count("Receiving: train") > before, "a round begins")
        # All its processes at once, as a crash would; its restart policy does the rest. (`docker
        # kill` counts as a wish of the operator's, and is not undone by it.)
        docker("exec", victim, "python", "-c", "import os; os.kill(-1, 9)", check=False)
        output, _ = job.communicate(timeout=LIMIT_S)
    finally:
        job.kill()
    assert job.returncode == 0, output
    assert inspect(victim, "{{.RestartCount}}") == "1"
    assert inspect(victim, "{{.State.StartedAt}}") > started
    (folder,) = re.findall(r"server's run folder: (\S+)", output)
    rows = read_run(stack.fetch("superlink", folder, tmp_path)).rows[1:]
    assert [row["round"] for row in rows] == [1, 2, 3, 4]
    assert 2 in [row["clients"] for row in rows], "its clients were never missing"
    assert rows[-1]["clients"] == 4, "it was not used again"
