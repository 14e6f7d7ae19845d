"""Run a Flower app on Flower's own simulation engine (Ray), start to finish.

``flwr run`` needs a SuperLink. The one that it starts by default uses a fixed
port, stays alive after the run, imports the clients' code from the folder it was
first started in, and installs the app's dependencies anew for every run. Here
every run gets a SuperLink of its own, on a free port and with a throw-away home,
and it is always stopped again. Only Flower's command line is used.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from nufed.conf.targets import TRUST
from nufed.conf.words import path_of
from nufed.simulation.flower_command import (
    HOST,
    environment,
    error_in,
    free_ports,
    kill_all,
    name_superlink,
    start,
    wait_until_healthy,
    write_run_config,
)

_NAME = "nufed"  # of the connection to our SuperLink


def run_on_ray(
    app_dir: Path,
    run_config: dict[str, str],
    *,
    num_supernodes: int,
    client_cpus: float = 1,
    client_gpus: float = 0,
    log_file: Path,
    poll: Callable[[], None] | None = None,
    trust: Sequence[str] = (),
    runs: Path | None = None,
) -> None:
    """Run a Flower app on the Ray simulation engine and wait for its end.

    Parameters
    ----------
    app_dir : Path
        Folder with the app's ``pyproject.toml``.
    run_config : dict[str, str]
        Overrides of keys declared under ``[tool.flwr.app.config]``. The values
        arrive unchanged, whatever characters they hold.
    num_supernodes : int
        Number of simulated clients.
    client_cpus : float, default=1
        CPUs a client takes, which decides how many run at once. Flower accepts
        whole numbers only.
    client_gpus : float, default=0
        GPUs a client takes. By a fraction, clients share one.
    log_file : Path
        File to which all output of Flower, Ray and the app is appended.
    poll : Callable[[], None] or None, default=None
        Called about every 0.2 s while waiting. An exception in it ends the run.
    trust : Sequence[str], default=()
        Code of the user's own that the run config names, for `nufed.conf.targets`.
    runs : Path or None, default=None
        Folder that the app may keep its runs in, for `nufed.server_app.app`.

    Raises
    ------
    ValueError
        If `client_cpus` is not a positive whole number.
    RuntimeError
        If the run could not be started or did not complete. The message names
        the cause and `log_file`. A ServerApp that ends by ``sys.exit`` counts as
        completed for Flower, so it should raise another exception to fail.
    """
    if client_cpus < 1 or client_cpus != int(client_cpus):
        raise ValueError(f"client_cpus must be a positive whole number: {client_cpus}")
    federation = (
        f"num-supernodes={num_supernodes} "
        f"client-resources-num-cpus={int(client_cpus)} "
        f"client-resources-num-gpus={float(client_gpus)}"
    )
    (port,) = free_ports(1)
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with _home(port, run_config) as home, log_file.open("ab") as log:
        submit = ["flwr", "run", str(app_dir.resolve()), _NAME, "--stream"]
        submit += ["--run-config", str(home / "run.toml")]
        submit += ["--federation-config", federation]
        begin = log.tell()
        try:
            with _superlink(home, port, log, trust, runs) as superlink:
                code = _wait(_start(submit, home, log), superlink, poll)
                output = log_file.read_bytes()[begin:].decode(errors="replace")
                if code != 0:
                    raise RuntimeError(f"flwr run failed: {error_in(output)}")
                # It exits with 0 after a failed run too: the run's status tells.
                with (home / "runs.json").open("w+b") as out:
                    listing = ["flwr", "ls", _NAME, "--format", "json"]
                    _wait(_start(listing, home, log, out), superlink, poll)
                _check_completed((home / "runs.json").read_text(), output)
        except RuntimeError as error:
            raise RuntimeError(f"{error} (log: {log_file})") from error


@contextlib.contextmanager
def _home(port: int, run_config: dict[str, str]) -> Iterator[Path]:
    """Make a temporary FLWR_HOME that names our SuperLink and holds the config."""
    # Paths of Ray's sockets have at most 107 characters: no deep TMPDIR.
    short = "/tmp" if Path("/tmp").is_dir() else None
    with tempfile.TemporaryDirectory(
        prefix="nufed-", dir=short, ignore_cleanup_errors=True
    ) as name:
        home = Path(name)
        name_superlink(home, _NAME, address=f"{HOST}:{port}", insecure=True)
        write_run_config(home / "run.toml", run_config)
        # Ray puts the working folder first on its workers' import path. An empty
        # one makes the clients import the shipped app, as the ServerApp does.
        (home / "cwd").mkdir()
        yield home


def _start(
    command: list[str], home: Path, log: IO[bytes], out: IO[bytes] | None = None
) -> subprocess.Popen[bytes]:
    """Start a program of Flower, which belongs to the run of this home."""
    return start(command, _environment(home), home / "cwd", out or log, log)


def _environment(home: Path) -> dict[str, str]:
    """Return our environment, changed for the processes of Flower and Ray."""
    env = environment()
    env.pop("RAY_ADDRESS", None)  # never join a cluster that we would not stop
    # Code of the user's own, where it is imported here, lies where we were started.
    here = os.getcwd() if os.getcwd() in sys.path else ""
    python_path = os.pathsep.join(filter(None, [env.get("PYTHONPATH"), here]))
    if "NUFED_DATA" in env:
        env["NUFED_DATA"] = str(path_of(env["NUFED_DATA"]).absolute())
    return env | {
        "FLWR_HOME": str(home),
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",  # instead of 1 s
        "RAY_TMPDIR": str(home),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_prestart_worker_first_driver": "0",  # idle workers, never used: 1 s
        "PYTHONPATH": python_path,
        "PYTHONUNBUFFERED": "1",  # a caller may follow the log
    }


@contextlib.contextmanager
def _superlink(
    home: Path, port: int, log: IO[bytes], trust: Sequence[str], runs: Path | None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a SuperLink; leave nothing behind that it or Ray started."""
    command = ["flower-superlink", "--insecure", "--simulation"]
    command += ["--isolation", "subprocess", "--host", HOST, "--port", str(port)]
    command += ["--disable-runtime-dependency-installation"]
    allowed = {TRUST: ",".join(trust)} if trust else {}
    if runs is not None:
        allowed["NUFED_RUNS"] = str(runs)
    process = start(command, _environment(home) | allowed, home / "cwd", log)
    try:
        wait_until_healthy(process, port)
        yield process
    finally:
        kill_all(home)
        process.terminate()  # only matters where there is no /proc
        process.wait()


def _wait(
    process: subprocess.Popen[bytes],
    superlink: subprocess.Popen[bytes],
    poll: Callable[[], None] | None,
) -> int:
    """Wait for a program, as long as the SuperLink lives, and return its status."""
    try:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(timeout=0.2)
            if superlink.poll() is not None:
                raise RuntimeError(f"the SuperLink exited with {superlink.returncode}")
            if poll is not None:
                poll()
    finally:
        process.kill()
        process.wait()


def _check_completed(listing: str, output: str) -> None:
    """Raise an error if the only run that ``flwr ls`` lists did not complete."""
    try:
        (run,) = json.loads(listing)["runs"]
    except (ValueError, KeyError) as error:
        raise RuntimeError(f"flwr ls failed: {' '.join(listing.split())}") from error
    if run["status"] != "finished:completed":
        cause = " ".join(run["status-details"].split())
        # Of an error in the engine, the details hold only the last of a chain.
        if cause.endswith("Ending simulation."):
            first = re.search(r"^[\w.]*Error: .+", output, re.MULTILINE)
            cause = first[0] if first else cause
        raise RuntimeError(f"the Flower run is {run['status']}: {cause}")
