"""Machines of a Ray cluster: each a `ray start` on a loopback address, killed as by a power cut."""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from nufed.simulation.flower_command import HOST, free_ports, kill_all
from tests.forked import LIMIT_S

ON_LOOPBACK = ["--include-dashboard=false", "--disable-usage-stats"]


class Cluster:
    """Machines that answer nobody else: all of them, and who has `environment`, have one token."""

    def __init__(self) -> None:
        (port,) = free_ports(1)
        self.address = f"{HOST}:{port}"
        self._folder = Path(tempfile.mkdtemp(prefix="nufed-", dir="/tmp"))  # short, as for sockets
        self._machines: list[Machine] = []
        token = secrets.token_hex(32)
        self.environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}

    def close(self) -> None:
        """Kill what still runs."""
        for machine in self._machines:
            machine.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def head(self, cpus: int = 1) -> "Machine":
        """Start the first machine."""
        _, _, port = self.address.rpartition(":")
        words = ["--head", f"--node-ip-address={HOST}", f"--port={port}", f"--num-cpus={cpus}"]
        return self.type_in(["ray", "start", *words])

    def join(self, host: str, cpus: int = 1, **environment: str) -> "Machine":
        """Start another machine, and wait until it has joined."""
        words = [f"--address={self.address}", f"--node-ip-address={host}", f"--num-cpus={cpus}"]
        return self.type_in(["ray", "start", *words], **environment)

    def type_in(self, words: Sequence[str], **environment: str) -> "Machine":
        """Carry out `ray start …` on another machine, and wait until that has joined."""
        there = ON_LOOPBACK if "--head" in words else []
        there += [f"--temp-dir={self._folder / 'ray'}"] if "--head" in words else []
        home = self._folder / str(len(self._machines))
        machine = Machine(home, [*words, *there], self.environment | environment)
        self._machines.append(machine)
        machine.wait()
        return machine


class Machine:
    """What one `ray start` starts."""

    def __init__(self, folder: Path, words: Sequence[str], environment: dict[str, str]) -> None:
        folder.mkdir()
        self._folder, self._log = folder, folder / "log"
        program = Path(sys.executable).parent / words[0]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [program, *words[1:], "--block"],
                cwd=folder,
                env=os.environ | environment | {"FLWR_HOME": str(folder)},  # for kill_all
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Wait until it says that Ray has started."""
        until = time.monotonic() + LIMIT_S
        while "Ray runtime started" not in self._log.read_text():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < until, self._log.read_text()
            time.sleep(0.1)

    def worker(self) -> int:
        """Return the process of the one worker that is there."""
        session = os.getsid(self._process.pid)
        found = [pid for pid in map(int, _pids()) if _is_worker(pid, session)]
        assert len(found) == 1, found
        return found[0]

    def kill(self) -> None:
        """Kill all that it runs, with SIGKILL."""
        kill_all(self._folder)
        self._process.wait()


def _pids() -> list[str]:
    return [each.name for each in Path("/proc").glob("[0-9]*")]


def _is_worker(pid: int, session: int) -> bool:
    try:
        name = Path(f"/proc/{pid}/cmdline").read_bytes()
        return name.startswith(b"ray::Actor") and os.getsid(pid) == session
    except OSError:  # it just ended
        return False
