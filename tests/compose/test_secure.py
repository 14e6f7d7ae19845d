"""The secure profile: it trains, and whoever cannot prove who they are is refused."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compose.confined import MEMORY, require_confined
from tests.compose.stack import Stack, docker, inspect, running, said, wait_until
from tests.helpers import read_run

pytestmark = pytest.mark.compose


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running("secure", NUFED_MEMORY=str(MEMORY)) as stack:
        yield stack


def test_it_trains(stack: Stack, tmp_path: Path) -> None:
    small = ["rounds=1", "partition.num_clients=4", "clients_per_round=4", "evaluation.every=1"]
    done = stack.compose(
        "run", "--rm", "--no-TTY", "nufed-secure", *small, "evaluation.new_clients=[]"
    )
    (folder,) = re.findall(r"server's run folder: (\S+)", done.stdout)
    run = read_run(stack.fetch("superlink-secure", folder, tmp_path))
    assert (run.rows[1]["clients"], run.rows[1]["failures"]) == (4, [])


def test_what_runs_in_a_container_is_confined(stack: Stack) -> None:
    for service in ("superlink-secure", "supernode-secure"):
        require_confined(stack, "exec", "--no-TTY", service, "python")
    for service in ("keys", "register"):
        require_confined(stack, "run", "--rm", "--no-deps", "--no-TTY", service, "python")


def test_plain_text_is_refused(stack: Stack) -> None:
    command = ["run", "--rm", "--no-TTY", "nufed", "rounds=1"]
    done = stack.compose(*command, check=False)
    assert done.returncode == 2
    assert "it does not speak plain HTTP" in done.stderr


def test_another_ca_is_refused(stack: Stack) -> None:
    key = "--auth-supernode-private-key /tmp/k/nodes/node-0"
    options = f"--root-certificates /tmp/k/public/ca.crt {key}"
    strange_node(stack, "--nodes 1", options, "certificate verify failed")


def test_a_key_that_is_not_registered_is_refused(stack: Stack) -> None:
    key = "--auth-supernode-private-key /tmp/k/nodes/node-0"
    options = f"--root-certificates /keys/public/ca.crt {key}"
    said = strange_node(stack, "--node 0", options, "activat")
    assert "SuperNode ID" not in said


def test_a_supernode_without_a_key_is_refused(stack: Stack) -> None:
    said = strange_node(stack, "--node 0", "--root-certificates /keys/public/ca.crt", "regist")
    assert "SuperNode ID" not in said


def test_secrets_are_where_they_are_needed_alone(stack: Stack) -> None:
    """Nowhere else, and readable by their owner alone."""
    look = "cd /keys && find . -type f -exec stat -c '%a %n' {} + | sort -k 2"
    seen = {
        service: set(
            stack.compose("exec", "--no-TTY", service, "sh", "-c", look).stdout.split("\n")
        )
        for service in ("superlink-secure", "supernode-secure")
    }
    public = {"", "644 ./public/ca.crt", "644 ./public/node-0.pub", "644 ./public/node-1.pub"}
    assert seen["superlink-secure"] - public == {
        "600 ./server/server.key",
        "644 ./server/server.crt",
    }
    assert seen["supernode-secure"] - public == {"600 ./nodes/node-0", "600 ./nodes/node-1"}
    image = docker("run", "--rm", "nufed", "find", "/keys", "-type", "f").stdout
    assert image == b""


def strange_node(stack: Stack, keys: str, options: str, refusal: str) -> str:
    """Start a SuperNode of someone else's, and return what it says once it says `refusal`."""
    node = f"flower-supernode --superlink superlink:8000 --max-retries 2 {options}"
    container = docker(
        "run", "--detach", "--network", f"{stack.project}_default",
        "--volume", f"{stack.volume('public')}:/keys/public:ro", "nufed",
        "sh", "-c", f"nufed-keys /tmp/k {keys} && {node} 2>&1",
    ).stdout.decode().strip()  # fmt: skip

    def refused() -> bool:
        if inspect(container, "{{.State.Running}}") == "false":
            assert inspect(container, "{{.State.ExitCode}}") != "0", said(container)
            assert refusal in said(container), said(container)
        return refusal in said(container)

    try:
        wait_until(refused, f"the SuperNode says {refusal!r}")
        return said(container)
    finally:
        docker("rm", "--force", container)
