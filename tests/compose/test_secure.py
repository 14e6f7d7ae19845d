"""The secure profile: it trains, and whoever cannot prove who they are is refused."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compose.stack import Stack, docker, running, wait_until
from tests.helpers import read_run

pytestmark = pytest.mark.compose
SUPERLINK = "superlink:8000"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running("secure") as stack:
        yield stack


def test_it_trains(stack: Stack, tmp_path: Path) -> None:
    small = ["rounds=1", "partition.num_clients=4", "clients_per_round=4", "evaluation.every=1"]
    done = stack.compose(
        "run", "--rm", "--no-TTY", "nufed-secure", *small, "evaluation.new_clients=[]"
    )
    (folder,) = re.findall(r"server's run folder: (\S+)", done.stdout)
    run = read_run(stack.fetch("superlink-secure", folder, tmp_path))
    assert (run.rows[1]["clients"], run.rows[1]["failures"]) == (4, [])


def test_plain_text_is_refused(stack: Stack) -> None:
    command = ["run", "--rm", "--no-TTY", "nufed", "rounds=1"]
    done = stack.compose(*command, check=False)
    assert done.returncode == 2
    assert "it does not speak plain HTTP" in done.stderr


def test_another_ca_is_refused(stack: Stack) -> None:
    done = strange_node(stack, "nufed-keys /tmp/k --nodes 1 && exec flower-supernode "
        "--root-certificates /tmp/k/public/ca.crt --auth-supernode-private-key /tmp/k/nodes/node-0")  # fmt: skip
    assert "certificate verify failed" in done


def test_a_key_that_is_not_registered_is_refused(stack: Stack) -> None:
    done = strange_node(stack, "nufed-keys /tmp/k --node 0 && exec flower-supernode "
        "--root-certificates /keys/public/ca.crt --auth-supernode-private-key /tmp/k/nodes/node-0")  # fmt: skip
    assert re.search(r"exit code: 30\d|could not be activated|SuperNode.*not", done, re.IGNORECASE)
    assert "SuperNode ID" not in done


def test_a_supernode_without_a_key_is_refused(stack: Stack) -> None:
    done = strange_node(stack, "exec flower-supernode --root-certificates /keys/public/ca.crt")
    assert "SuperNode ID" not in done


def test_secrets_are_where_they_are_needed_alone(stack: Stack) -> None:
    """Nowhere else, and readable by their owner alone."""
    look = "cd /keys && find . -type f -exec stat -c '%a %n' {} + | sort -k 2"
    seen = {
        service: set(stack.compose("exec", "--no-TTY", service, "sh", "-c", look).stdout.split("\n"))
        for service in ("superlink-secure", "supernode-secure")
    }
    public = {"", "644 ./public/ca.crt", "644 ./public/node-0.pub", "644 ./public/node-1.pub"}
    assert seen["superlink-secure"] - public == {"600 ./server/server.key", "644 ./server/server.crt"}
    assert seen["supernode-secure"] - public == {"600 ./nodes/node-0", "600 ./nodes/node-1"}
    image = docker("run", "--rm", "nufed", "find", "/keys", "-type", "f").stdout
    assert image == b""


def strange_node(stack: Stack, command: str) -> str:
    """Return what a SuperNode of someone else's says, until it gives up or is stopped."""
    line = f"timeout 40 sh -c '{command} --superlink {SUPERLINK} --max-retries 2' 2>&1"
    done = docker(
        "run", "--rm", "--network", f"{stack.project}_default",
        "--volume", f"{stack.volume('public')}:/keys/public:ro", "nufed", "sh", "-c", line,
        check=False,
    )  # fmt: skip
    assert done.returncode != 0
    return (done.stdout + done.stderr).decode()
