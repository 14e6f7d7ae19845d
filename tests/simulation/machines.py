"""Machines of a Ray cluster: each a `ray start` on a loopback address, killed as by a power cut."""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from nufed.simulation.flower_command import HOST, free_ports, kill_all
from tests.forked import LIMIT_S

HERE = ["--include-dashboard=false", "--disable-usage-stats"]


def living(address: str) -> set[str]:
    """Return the machines that a cluster counts among the living; as `ray.cluster_utils` does."""
    from ray._private.state import GlobalState
    from ray._raylet import GcsClientOptions

    state = GlobalState()
    state._initialize_global_state(
        GcsClientOptions.create(
            address, None, allow_cluster_id_nil=True, fetch_cluster_id_if_nil=False
        )
    )
    found: set[str] = state._live_node_ids()
    return found


def wait_until(happened: Callable[[], bool]) -> None:
    """Wait for what a busy machine takes minutes for; fail if it does not come."""
    until = time.monotonic() + LIMIT_S
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.1)


class Cluster:
    """Machines that answer nobody else: all of them, and who has `environment`, have one token."""

    def __init__(self) -> None:
        (port,) = free_ports(1)
        self.address = f"{HOST}:{port}"
        self._folder = Path(tempfile.mkdtemp(prefix="nufed-", dir="/tmp"))  # short, as for sockets
        self.machines: list[Machine] = []
        token = secrets.token_hex(32)
        self.environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}

    def close(self) -> None:
        """Kill what still runs."""
        for machine in self.machines:
            machine.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def head(self, cpus: int = 1) -> "Machine":
        """Start the first machine."""
        _, _, port = self.address.rpartition(":")
        words = ["--head", f"--node-ip-address={HOST}", f"--port={port}", f"--num-cpus={cpus}"]
        return self.type_in(["ray", "start", *words])

    def join(self, host: str, cpus: int = 1) -> "Machine":
        """Start another machine, and wait until it has joined."""
        words = [f"--address={self.address}", f"--node-ip-address={host}", f"--num-cpus={cpus}"]
        return self.type_in(["ray", "start", *words])

    def type_in(self, words: Sequence[str]) -> "Machine":
        """Carry out `ray start …` on another machine, and wait until that has joined."""
        there = [*HERE, f"--temp-dir={self._folder / 'ray'}"] if "--head" in words else []
        before = living(self.address) if self.machines else set[str]()
        home = self._folder / str(len(self.machines))
        machine = Machine(home, [*words, *there], self.environment)
        self.machines.append(machine)
        machine.wait()
        wait_until(lambda: bool(living(self.address) - before))
        return machine


class Machine:
    """What one `ray start` starts; its workers begin in `folder`."""

    def __init__(self, folder: Path, words: Sequence[str], environment: dict[str, str]) -> None:
        folder.mkdir()
        self.folder, self._log = folder, folder / "log"
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

        def said() -> bool:
            assert self._process.poll() is None, self._log.read_text()
            return "Ray runtime started" in self._log.read_text()

        wait_until(said)

    def worker(self) -> int:
        """Return the process of the one worker that is there."""
        until = time.monotonic() + LIMIT_S
        while not (found := [pid for pid in _pids() if _is_worker(pid, self._process.pid)]):
            assert time.monotonic() < until
            time.sleep(0.005)  # it has no name while it is given another
        (pid,) = found
        return pid

    def kill(self) -> None:
        """Kill all that it runs, with SIGKILL."""
        kill_all(self.folder)
        self._process.wait()


def _pids() -> list[int]:
    return [int(each.name) for each in Path("/proc").glob("[0-9]*")]


def _is_worker(pid: int, session: int) -> bool:
    try:
        name = Path(f"/proc/{pid}/cmdline").read_bytes()
        return name.startswith(b"ray::Actor") and os.getsid(pid) == session
    except OSError:  # it just ended
        return False
