"""Flower's command line: start its programs, hand them a run's configuration, stop them for good.

Shared by whatever runs or submits a Flower app. None of Flower's Python API is used, for none of
it that starts a run is public.
"""

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO
from urllib.request import ProxyHandler, build_opener

HOST = "127.0.0.1"
SCRIPTS = Path(sys.executable).absolute().parent  # not whatever PATH has
_TELL_S = 60.0  # a first start may have to compile all of Flower
_START_TIMEOUT_S = 1800.0  # a busy machine takes minutes
_STOP_TIMEOUT_S = 10.0

COLOURS = "FORCE_COLOR", "CLICOLOR_FORCE", "PY_COLORS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"

log = logging.getLogger("nufed")


def start(
    command: list[str],
    env: Mapping[str, str],
    cwd: Path,
    out: IO[bytes] | int,
    err: IO[bytes] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program of Flower in a session of its own: Ctrl-C is for us to handle.

    Raises
    ------
    RuntimeError
        If it cannot be started.
    """
    try:
        return subprocess.Popen(
            [str(SCRIPTS / command[0]), *command[1:]],
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out if err is None else err,
            start_new_session=True,
        )
    except OSError as error:
        raise RuntimeError(f"cannot start {command[0]}: {error}") from error


def environment() -> dict[str, str]:
    """Return our environment, changed for all programs of Flower.

    Whose output is read, and so has no colours, whatever a person asks of what they see.
    """
    env = {key: value for key, value in os.environ.items() if key not in COLOURS}
    no_proxy = ",".join(filter(None, [env.get("NO_PROXY"), HOST, "localhost"]))
    return env | {
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "NO_COLOR": "1",
        "PATH": f"{SCRIPTS}{os.pathsep}{env.get('PATH', '')}",  # for Flower's Popen
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
    }


def name_superlink(home: Path, name: str, **settings: str | bool) -> None:
    """Write a FLWR_HOME that knows one SuperLink, by its `name` and Flower's keys for it."""
    pairs = ((key.replace("_", "-"), _value(value)) for key, value in settings.items())
    text = "".join(f"{key} = {value}\n" for key, value in pairs)
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "{name}"\n\n[superlink.{name}]\n{text}', encoding="utf-8"
    )


def write_run_config(file: Path, run_config: Mapping[str, str | bool]) -> Path:
    """Write what ``--run-config`` takes: `key="value"` breaks at quotes in a value, a file not."""
    pairs = ((_toml(key), _value(value)) for key, value in run_config.items())
    file.write_text("".join(f"{key} = {value}\n" for key, value in pairs), encoding="utf-8")
    return file


def _value(value: str | bool) -> str:
    return _toml(value) if isinstance(value, str) else str(value).lower()


def _toml(text: str) -> str:
    """Quote a string for TOML: as JSON does, but TOML also wants DEL escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def free_ports(n: int) -> list[int]:
    """Return `n` different TCP ports that are free on the loopback interface."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for sock in sockets:
            sock.bind((HOST, 0))
        return [sock.getsockname()[1] for sock in sockets]


def error_in(output: str) -> str:
    """Return the error in the output of ``flwr``, which draws a box around it."""
    lines = output.splitlines()
    box = [line.strip("│ ") for line in lines if line.startswith("│")]
    return " ".join(box or lines[-1:])


def wait_until_healthy(process: subprocess.Popen[bytes], port: int) -> None:
    """Wait until a SuperLink that speaks plain text answers.

    Raises
    ------
    RuntimeError
        If it ends before, or takes too long.
    """
    opener = build_opener(ProxyHandler({}))
    begin = told = time.monotonic()
    while (now := time.monotonic()) < begin + _START_TIMEOUT_S:
        if now > told + _TELL_S:
            told = now
            log.warning("the SuperLink has not started in %.0f s: waiting", now - begin)
        if process.poll() is not None:
            raise RuntimeError(f"the SuperLink exited with {process.returncode}")
        with contextlib.suppress(OSError):  # refused, or an HTTP error
            opener.open(f"http://{HOST}:{port}/health", timeout=10).close()
            return
        time.sleep(0.05)
    raise RuntimeError(f"the SuperLink was not ready in {_START_TIMEOUT_S:.0f} s")


def kill_all(home: Path) -> None:
    """Kill all processes of a run and wait until they are gone.

    Stopping the SuperLink is not enough: SuperExec leaves its session, and an
    orphaned simulation was seen to go on. What they all have in common is our
    FLWR_HOME or, for Ray's workers, which overwrite their environment, the
    session of a process that has it.
    """
    sessions: set[str] = set()
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    while time.monotonic() < deadline:
        processes = list(_processes(f"FLWR_HOME={home}"))
        sessions |= {session for _, session, ours in processes if ours}
        alive = [pid for pid, session, _ in processes if session in sessions]
        if not alive:
            return
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _processes(variable: str) -> Iterator[tuple[int, str, bool]]:
    """Yield of each process the id, the session, and whether it has `variable`."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it just ended, or is not ours
            environ = (folder / "environ").read_bytes().split(b"\0")
            # A name in brackets, which may hold anything, comes before these.
            stat = (folder / "stat").read_text().rpartition(")")[2].split()
            if stat[0] not in "ZX":  # else dead, only waiting for its parent
                yield int(folder.name), stat[3], variable.encode() in environ
