"""docs/deployment.md: its containers, section by section, as typed but for ports and rounds.

Its several machines are projects of their own on this one; they meet at the address by which
containers reach the machine that they run on.
"""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nufed.simulation.flower_command import free_ports
from tests.compose.stack import ROOT, docker, wait_until
from tests.docs.commands import COMPOSED, commands, place
from tests.docs.pages import environment, sections
from tests.forked import LIMIT_S

pytestmark = pytest.mark.compose

TEXT = sections("deployment.md")
SERVER = "server.example"  # as the page calls the machine of the SuperLink
ROUNDS = "rounds=3"


class Shell:
    """A terminal on one machine: a project of its own, and a folder in which one is."""

    def __init__(self, folder: Path, port: int, address: str = "127.0.0.1") -> None:
        self.folder, self.address, self.port = folder, address, port
        self.project = f"nufed-page-{folder.name}-{os.getpid()}"
        self.environment = environment() | {
            "COMPOSE_PROJECT_NAME": self.project,
            "COMPOSE_FILE": str(ROOT / "docker-compose.yml"),
            "NUFED_LISTEN": f"127.0.0.1:{port}",
        }
        folder.mkdir()

    def type_in(self, block: str) -> str:
        """Run a block of commands with this terminal's ports, and return what it prints."""
        block = block.replace(f"{SERVER}:8000", f"{self.address}:{self.port}")
        block = block.replace(SERVER, self.address).replace(":8000\n", f":{self.port}\n")
        block = block.replace(ROUNDS, "rounds=1")
        done = subprocess.run(
            ["bash", "-ec", block],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def close(self) -> None:
        """Take everything down, its volumes too."""
        self.type_in('docker compose --profile "*" down --volumes --timeout 3 --remove-orphans')


def blocks(heading: str) -> list[str]:
    return re.findall(r"```sh\n(.*?)```", TEXT[heading], re.DOTALL)


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path / "one", *free_ports(1))
    yield shell
    shell.close()


def trained(printed: str) -> bool:
    return bool(re.search(r"^server's run folder: /runs/\S+$", printed, re.MULTILINE))


def test_one_machine(one: Shell) -> None:
    (block,) = blocks("One machine")
    assert trained(one.type_in(block))
    (summary,) = (one.folder / "server-runs").rglob("summary.json")
    assert json.loads(summary.read_text())["rounds"] == 1


def test_tls(one: Shell) -> None:
    """Up, a run and down; then the CA's key is taken offline, and is still there to renew."""
    block, _, offline = blocks("TLS, and SuperNodes that prove who they are")
    assert trained(one.type_in(block))
    one.type_in(offline)
    assert "PRIVATE KEY" in (one.folder / "ca.key").read_text()
    look = "docker compose run --rm --no-deps keys ls /keys/ca"
    assert "ca.key" not in one.type_in(look)


def test_several_machines(tmp_path: Path) -> None:
    """A SuperLink on one, a SuperNode on another; its key is made there, and registered here."""
    gateway = docker(
        "network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}"
    )
    address = gateway.stdout.decode().strip()
    (port,) = free_ports(1)
    server, node = (Shell(tmp_path / name, port, address) for name in ("server", "node"))
    up, own_key, register, join, _, _ = blocks("Several machines")
    with_keys = f"{up.splitlines()[0]}\n"
    try:
        server.type_in(up)
        (node.folder / "ca.crt").write_bytes((server.folder / "ca.crt").read_bytes())
        node.type_in(own_key.replace("sudo ", "") if os.getuid() == 0 else own_key)
        public = (node.folder / "keys/public/node-2.pub").read_bytes()
        (server.folder / "node-2.pub").write_bytes(public)
        assert "node-2.pub: registered" in server.type_in(with_keys + register)
        node.type_in(f"export NUFED_KEYS={node.folder}/keys\n{join}")
        logs = "docker compose --profile nodes logs supernode-remote"
        wait_until(lambda: "SuperNode ID" in node.type_in(logs), "the SuperNode is connected")
        alone = "partition.num_clients=4 clients_per_round=4 evaluation.new_clients=[]"
        wait = "server.join_timeout=10 server.min_replies=1"  # for the three that are not there
        job = f"docker compose run --rm nufed-secure rounds=1 {alone} {wait}"
        assert trained(server.type_in(with_keys + job))
        folders = "docker compose exec superlink-secure sh -c 'cat /runs/*/*/metrics.jsonl'"
        row = json.loads(server.type_in(folders).splitlines()[-1])
        assert (row["round"], row["clients"]) == (1, 1)
    finally:
        node.close()
        server.close()


def test_every_command_of_containers_is_one_of_these() -> None:
    headings = ("One machine", "TLS, and SuperNodes that prove who they are", "Several machines")
    text = "".join(block for heading in headings for block in blocks(heading))
    lines = " ".join(text.replace("\\\n", " ").split())
    for command in commands():
        if place(command) == COMPOSED:
            first = " ".join(command.words[:4])
            assert first in lines.replace('"', ""), command
