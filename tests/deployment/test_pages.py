"""The federations of the README and of docs/: their commands, as typed but for ports and rounds."""

import os
import re
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from nufed.cli.keys import Paths
from nufed.simulation.flower_command import HOST, SCRIPTS, free_ports
from nufed.strategies.roster import choose_new_clients
from nufed.tasks.ids import ClientIds
from tests.deployment.harness import Federation
from tests.docs.commands import DEPLOYED, commands, place
from tests.docs.pages import ROOT, environment, type_in
from tests.helpers import read_run

pytestmark = pytest.mark.deployment

SERVER = "server.example"  # as the pages call the machine of the SuperLink


def of(page: str) -> list[list[str]]:
    """Return the commands of a page that are run here, in its order."""
    return [c.words for c in commands() if c.page.name == page and place(c) == DEPLOYED]


def here(words: list[str], federation: Federation) -> list[str]:
    """Return a command with the ports of a federation, which are free."""
    return [word.replace(f"{HOST}:8000", federation.address) for word in words]


def installed(words: list[str], folder: Path) -> str:
    """Run the program that is installed, and return what it prints; fail if it does."""
    done = subprocess.run(words, cwd=folder, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def typed(words: list[str], folder: Path) -> str:
    """Do so without the seconds that imports take."""
    if words[0] == "sudo" and os.getuid() == 0:
        words = words[1:]
    return type_in(words, folder)


def require_trained(printed: str, folder: Path, clients: int) -> None:
    """Fail unless the newest run in a folder is one round of so many clients, and was told of."""
    newest = max((folder / "runs").rglob("summary.json"), key=lambda file: file.stat().st_mtime)
    assert f"run folder: {newest.parent}\n" in printed
    row = read_run(newest.parent).rows[-1]
    assert (row["round"], row["clients"], row["failures"]) == (1, clients, [])


def test_that_of_the_readme(tmp_path: Path) -> None:
    """And the run of docs/engines.md on it. All of it by what is installed: none is a fork."""
    superlink, *nodes, run = of("README.md")
    assert len(nodes) == 2
    real = Federation(tmp_path / "federation", superlink=superlink, scripts=SCRIPTS)
    with closing(real) as federation:
        for i, words in enumerate(nodes):
            port = str(free_ports(1)[0])
            assert words[words.index("--port") + 1] == str(9101 + i)
            words[words.index("--port") + 1] = port
            federation.start(here(words, federation), f"node{i}")
        for words in (run, *of("engines.md")):
            printed = installed([*here(words, federation), "rounds=1"], tmp_path)
            require_trained(printed, tmp_path, 10)


def test_that_of_two_machines_with_tls(tmp_path: Path) -> None:
    """On the server its keys, on the SuperNode's machine that one's own; one partition of four.

    At the end somebody else, who has the certificate too, sees the run, and gets it twice.
    """
    server, node = tmp_path / "server", tmp_path / "node"
    for folder in (server, node):
        folder.mkdir()
    page = [[word.replace(SERVER, HOST) for word in words] for words in of("deployment.md")]
    keys, own_key, copy, owner, run, superlink, register, supernode, ls, attach, again = page
    assert typed(keys, server).count("\n") > 3
    with closing(Federation(server, Paths(server / "keys"), superlink)) as federation:
        shutil.copy(server / "keys/public/ca.crt", node / "ca.crt")
        for words in (own_key, copy, owner):
            typed(words, node)
        assert (node / "keys/nodes/node-2").stat().st_mode & 0o777 == 0o600
        assert not (server / "keys/nodes/node-2").exists()

        shutil.copy(node / "keys/public/node-2.pub", server)
        assert register[:2] == ["python", "docker/register.py"]
        register[:2] = [sys.executable, str(ROOT / register[1])]
        assert typed(here(register, federation), server) == "node-2.pub: registered\n"
        port = ["--port", str(free_ports(1)[0])]
        started = federation.start(here([*supernode, *port], federation), "node", folder=node)
        # Three partitions of four never come: so long it waits for them.
        shorter = ["rounds=1", "server.join_timeout=20"]
        printed = typed([*here(run, federation), *shorter], node)
        assert started.poll() is None
        new = choose_new_clients(ClientIds(50), 0.2, seed=0)
        require_trained(printed, node, len({*range(2, 50, 4)} - new))
        assert "of 50 clients are there; going on" in printed

        other = tmp_path / "other"
        other.mkdir()
        shutil.copy(node / "ca.crt", other)
        listed = typed(here(ls, federation), other)
        assert listed.count("finished") == 1
        (run_id,) = re.findall(r"\b\d{15,20}\b", listed)
        printed = typed(here([attach[0], attach[1], run_id, *attach[3:]], federation), other)
        require_trained(printed, other, len({*range(2, 50, 4)} - new))
        (folder,) = (other / "runs").glob("*/*")
        assert typed([*again[:2], str(folder)], other).startswith(f"run {run_id} is over, and ")
