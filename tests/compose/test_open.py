"""The plain profile: the run of the in-process engine, what dies, and what a container may do."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compose.confined import MEMORY, require_confined
from tests.compose.stack import Stack, docker, inspect, running, said, wait_until
from tests.forked import LIMIT_S
from tests.helpers import distance, read_run

pytestmark = pytest.mark.compose
SMALL = ["partition.num_clients=4", "clients_per_round=4", "evaluation.new_clients=[]"]


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running("open", NUFED_MEMORY=str(MEMORY)) as stack:
        yield stack


def test_each_supernode_has_a_partition_of_its_own(stack: Stack) -> None:
    hosted = re.findall(r"hosting partition (\d) of 2", stack.log("supernode"))
    assert sorted(hosted) == ["0", "1"]


def test_the_image_has_no_torchvision_and_no_ray(stack: Stack) -> None:
    look = "import importlib.util as u; print(*map(u.find_spec, ('torchvision', 'ray')))"
    done = stack.compose("exec", "--no-TTY", "superlink", "python", "-c", look)
    assert done.stdout.split() == ["None", "None"]


def test_its_user_can_change_nothing_in_the_image() -> None:
    """Where its root filesystem is not read-only either."""
    look = "id -u; find / -xdev -writable ! -type l 2>/dev/null"  # not /proc and /dev
    done = docker("run", "--rm", "nufed", "sh", "-c", look, check=False)
    user, *found = done.stdout.decode().split()
    temporary = ("/home/nufed", "/tmp", "/var/tmp", "/run/lock")
    assert user == "1000"
    assert {path for path in found if not path.startswith(temporary)} == {
        *("/data", "/runs", "/state", "/partitions"),
        *("/keys", "/keys/ca", "/keys/server", "/keys/nodes", "/keys/public"),
    }


def test_every_service_is_confined(stack: Stack) -> None:
    said = stack.compose("--profile", "*", "config", "--format", "json").stdout
    services = json.loads(said)["services"]
    assert len(services) == 9
    for name, of in services.items():
        assert (of["cap_drop"], of["read_only"]) == (["ALL"], True), name
        assert of["security_opt"] == ["no-new-privileges:true"], name
        assert int(of["mem_limit"]) == int(of["memswap_limit"]) == MEMORY, name
        assert of["pids_limit"] == 4096, name
        assert not {"cap_add", "privileged", "devices", "network_mode", "pid"} & set(of), name


def test_what_runs_in_a_container_is_confined(stack: Stack) -> None:
    for service in ("superlink", "supernode"):
        require_confined(stack, "exec", "--no-TTY", service, "python")
    require_confined(stack, "run", "--rm", "--no-TTY", "--entrypoint", "python", "nufed")


def test_data_are_brought_into_a_volume_and_nowhere_else(stack: Stack, tmp_path: Path) -> None:
    (file := tmp_path / "mine.npz").write_bytes(b"rows")
    stack.compose("cp", str(file), "supernode:/data/")
    seen = stack.compose("exec", "--no-TTY", "supernode", "cat", "/data/mine.npz")
    assert seen.stdout == "rows"
    refused = stack.compose("cp", str(file), "supernode:/opt/", check=False)
    assert refused.returncode != 0
    assert "read-only" in refused.stderr


def test_what_wants_more_memory_than_its_container_has_dies_alone(stack: Stack) -> None:
    """As a ClientApp would: the others of its container, and the other containers, go on."""
    containers = [c for service in ("superlink", "supernode") for c in stack.containers(service)]
    alive = "{{.State.Running}} {{.State.StartedAt}} {{.RestartCount}}"
    before = [inspect(container, alive) for container in containers]
    greedy = f"len(b'1' * {2 * MEMORY})"
    done = docker("exec", containers[-1], "python", "-c", greedy, check=False)
    assert done.returncode == 128 + 9
    assert [inspect(container, alive) for container in containers] == before
    assert {each.split()[0] for each in before} == {"true"}


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


def test_a_spare_takes_the_place_of_one_that_is_gone(stack: Stack) -> None:
    hosts = stack.containers("supernode")
    stack.compose("up", "--detach", "--no-recreate", "--scale", "supernode=3", "supernode")
    (spare,) = set(stack.containers("supernode")) - set(hosts)
    wait_until(lambda: "waiting as a spare" in said(spare), "the third is a spare")
    docker("kill", hosts[0])
    (partition,) = set(re.findall(r"hosting partition (\d) of 2", said(hosts[0])))
    wait_until(lambda: f"hosting partition {partition} of 2" in said(spare), "it takes over")
    wait_until(lambda: "SuperNode ID" in said(spare), "it is connected")
