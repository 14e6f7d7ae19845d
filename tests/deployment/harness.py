"""A federation of real processes on loopback: a SuperLink, SuperNodes, and `nufed` against them."""

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.request import HTTPSHandler, ProxyHandler, build_opener

from nufed.cli.keys import Paths
from nufed.simulation.flower_command import HOST, environment, free_ports, kill_all
from tests import forked
from tests.forked import LIMIT_S, Done, Started


class Federation:
    """One SuperLink and its SuperNodes, each with a log of its own in `folder`.

    Every process has `FLWR_HOME=folder/home`, by which `close` finds them all, and those that they
    started. Code of a test's own, which `_target_` may name, goes to `folder/code`.

    Parameters
    ----------
    folder
        A new folder for all of it.
    certificates
        What `nufed-keys` made; then SuperNodes must show a registered key.
        None is plain text, and no authentication.
    superlink
        The SuperLink's command but for where it listens; None: what `certificates` say.
    scripts
        The folder of the programs; None: those that are forks, and quick.
    """

    def __init__(
        self,
        folder: Path,
        certificates: Paths | None = None,
        superlink: Sequence[str] | None = None,
        scripts: Path | None = None,
    ) -> None:
        self.scripts = scripts or forked.scripts()
        self.folder, self.certificates = folder, certificates
        self._command = superlink or self._superlink_command()
        self.home, self.code = folder / "home", folder / "code"
        self.home.mkdir(parents=True)
        self.code.mkdir()
        (self.port,) = free_ports(1)
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}
        self.superlink = self.start_superlink()

    @property
    def address(self) -> str:
        """Return what `engine.superlink` is to say."""
        return f"{HOST}:{self.port}"

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment of a process of the federation."""
        env = environment()
        return env | {
            "PATH": f"{self.scripts}{os.pathsep}{env['PATH']}",
            "FLWR_HOME": str(self.home),
            "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
            "PYTHONPATH": str(self.code),
            "NUFED_TRUST": "faulty",
            "PYTHONUNBUFFERED": "1",
            **(extra or {}),
        }

    def start_superlink(self) -> "subprocess.Popen[bytes]":
        """Start the SuperLink, also anew on the same port, and wait until it answers."""
        command = [*self._command, "--host", HOST, "--port", str(self.port)]
        process = self.start(command, "superlink")
        wait_until(lambda: self._answers(process), LIMIT_S, "the SuperLink answers")
        return process

    def start_node(
        self,
        name: str,
        node_config: str,
        *options: str,
        env: Mapping[str, str] | None = None,
    ) -> "subprocess.Popen[bytes]":
        """Start a SuperNode; its log is `name`.log. Without options it speaks plain text."""
        (port,) = free_ports(1)
        command = ["flower-supernode", "--superlink", self.address, "--port", str(port)]
        command += ["--node-config", node_config, *(options or ["--insecure"])]
        self.nodes[name] = self.start(command, name, env)
        return self.nodes[name]

    def kill_node(self, name: str) -> None:
        """Kill a SuperNode and what it started, as a power cut would."""
        kill_all_of_session(self.nodes.pop(name))

    def kill_server(self) -> None:
        """Kill the SuperLink and its ServerApp, as a power cut on their machine would."""
        kill_all_of_session(self.superlink)
        variable, found = f"FLWR_HOME={self.home}".encode(), True
        while found:
            found = False
            for folder in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):  # it just ended
                    ours = variable in (folder / "environ").read_bytes().split(b"\0")
                    if ours and b"serverapp" in (folder / "cmdline").read_bytes():
                        os.kill(int(folder.name), signal.SIGKILL)
                        found = True
        wait_until(lambda: port_is_free(self.port), LIMIT_S, "the SuperLink is gone")

    def log(self, name: str) -> str:
        """Return what a process has said so far."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def nufed(self, *overrides: str, cwd: Path) -> Done:
        """Run `nufed engine=deployment` against this federation."""
        return self.start_nufed(*overrides, cwd=cwd).done()

    def start_nufed(self, *overrides: str, cwd: Path) -> Started:
        """Start it and return at once; it heeds SIGINT."""
        return Started(self.command(*overrides), cwd)

    def command(self, *overrides: str) -> list[str]:
        """Return the words of that command."""
        engine = ["engine=deployment", f"engine.superlink={self.address}"]
        if self.certificates is not None:
            engine += [f"engine.root_certificates={self.certificates.ca_certificate}"]
        return ["nufed", *engine, "baselines=none", *overrides]

    def close(self) -> None:
        """Kill every process, and those that they started."""
        kill_all(self.home)

    def start(
        self,
        command: list[str],
        name: str,
        env: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> "subprocess.Popen[bytes]":
        """Start a program of Flower, in `folder` or the federation's; its log is `name`.log."""
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [self.scripts / command[0], *command[1:]],
                cwd=folder or self.folder,
                env=self.environment(env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _superlink_command(self) -> list[str]:
        command = ["flower-superlink", "--database", "state.db"]
        command += ["--disable-runtime-dependency-installation"]
        if self.certificates is None:
            return [*command, "--insecure"]
        command += ["--ssl-ca-certfile", str(self.certificates.ca_certificate)]
        command += ["--ssl-certfile", str(self.certificates.server_certificate)]
        command += ["--ssl-keyfile", str(self.certificates.server_key)]
        return [*command, "--enable-supernode-auth"]

    def _answers(self, process: "subprocess.Popen[bytes]") -> bool:
        assert process.poll() is None, self.log("superlink")
        scheme, context = "http", None
        if self.certificates is not None:
            scheme = "https"
            context = ssl.create_default_context(cafile=self.certificates.ca_certificate)
        opener = build_opener(ProxyHandler({}), HTTPSHandler(context=context))
        with contextlib.suppress(OSError):
            opener.open(f"{scheme}://{self.address}/health", timeout=10).close()
            return True
        return False


def wait_until(
    happened: Callable[[], bool],
    timeout: float,
    what: str,
    started: Started | None = None,
) -> None:
    """Wait for something to happen; fail if it does not in time, or a process ends before it."""
    until = time.monotonic() + timeout
    while not happened():
        assert time.monotonic() < until, f"not within {timeout:.0f} s: {what}"
        if started is not None and started.process.poll() is not None:
            raise AssertionError(f"ended before {what}: {started.done()}")
        time.sleep(0.1)


def port_is_free(port: int) -> bool:
    """Return whether nobody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) != 0


def kill_all_of_session(process: "subprocess.Popen[bytes]") -> None:
    """Send SIGKILL to a process and all of its session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
