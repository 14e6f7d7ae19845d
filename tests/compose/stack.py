"""A compose project of a test's own: `docker compose`, and what a test wants to know of it."""

import contextlib
import os
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from pathlib import Path

from tests.forked import LIMIT_S

ROOT = Path(__file__).parents[2]


class Stack:
    """One project, of one profile, that nothing else on the machine knows."""

    def __init__(self, profile: str, **environment: str) -> None:
        self.profile = profile
        self.project = f"nufed-test-{profile}-{os.getpid()}"
        self.environment: Mapping[str, str] = os.environ | {
            "COMPOSE_PROFILES": profile,
            "NUFED_LISTEN": "127.0.0.1:0",  # any free port
            **environment,
        }

    def compose(
        self, *words: str, check: bool = True, timeout: float = LIMIT_S
    ) -> "subprocess.CompletedProcess[str]":
        """Run `docker compose`, and fail with all that it said if it does."""
        command = ["docker", "compose", "--project-name", self.project, *words]
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=timeout
        )
        assert not check or done.returncode == 0, f"{done.args}\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, *words: str) -> "subprocess.Popen[str]":
        """Start `docker compose` and go on."""
        return subprocess.Popen(
            ["docker", "compose", "--project-name", self.project, *words],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def log(self, service: str) -> str:
        """Return what a service has said so far, on all its containers."""
        return self.compose("logs", "--no-color", "--no-log-prefix", service).stdout

    def containers(self, service: str) -> list[str]:
        """Return the ids of a service's containers."""
        return self.compose("ps", "--quiet", service).stdout.split()

    def volume(self, name: str) -> str:
        """Return the name that Docker knows a volume by."""
        return f"{self.project}_{name}"

    def fetch(self, service: str, source: str, target: Path) -> Path:
        """Copy a folder out of a container that runs."""
        (container,) = self.containers(service)
        done = docker("cp", f"{container}:{source}", "-")
        with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
            archive.extractall(target, filter="data")
        return target / Path(source).name


@contextlib.contextmanager
def running(profile: str, **environment: str) -> Iterator[Stack]:
    """Bring a profile up; take everything down at the end, its volumes too."""
    stack = Stack(profile, **environment)
    try:
        stack.compose("up", "--detach", "--wait")
        yield stack
    finally:
        stack.compose("--profile", "*", "down", "--volumes", "--timeout", "3", "--remove-orphans")


def docker(*words: str, check: bool = True) -> "subprocess.CompletedProcess[bytes]":
    """Run `docker`."""
    return subprocess.run(["docker", *words], capture_output=True, check=check, timeout=LIMIT_S)


def inspect(container: str, what: str) -> str:
    """Return one fact of a container, by a template."""
    return docker("inspect", "--format", what, container).stdout.decode().strip()


def said(container: str) -> str:
    """Return what a container has said so far."""
    done = docker("logs", container)
    return (done.stdout + done.stderr).decode()


def wait_until(happened: Callable[[], bool], what: str) -> None:
    """Wait for something to happen; fail if it does not."""
    until = time.monotonic() + LIMIT_S
    while not happened():
        assert time.monotonic() < until, f"not within {LIMIT_S:.0f} s: {what}"
        time.sleep(0.3)
