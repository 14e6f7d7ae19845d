"""Ray itself, of this machine alone or a cluster's; in the process that is its driver."""

import logging
import os
import secrets
import socket
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from nufed.conf.errors import InputError, reason
from nufed.conf.versions import HOME

CONNECT_TIMEOUT_S = 5.0
RAY_STARTS = 5  # each of 30 s, which is Ray's own limit
LOOK_S = 1.0  # between looks at whether Ray counts this machine among the living

log = logging.getLogger("nufed")


def join(address: str | None, workers: int | None) -> Any:
    """Start Ray on this machine, or join a cluster; return the module.

    Parameters
    ----------
    address
        A Ray cluster to join; None starts Ray on this machine, and it ends with this process.
    workers
        How many there shall be.

    Raises
    ------
    InputError
        If no such cluster answers, or Ray does not start.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_register_timeout_seconds", "600")  # 60, then it is killed
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address is None:
        # Ray listens on every interface: it shall answer this process and its workers alone.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import ray  # it reads these when it is imported, and takes a second

    options: dict[str, Any] = {
        "runtime_env": {"env_vars": _variables()},
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "ignore_reinit_error": True,
    }
    if address is None:
        cpus = max(workers or 0, os.cpu_count() or 1)
        options |= {"num_cpus": cpus, "include_dashboard": False}
    elif address != "auto":
        _require_listener(address)
    try:
        # None would mean any cluster that runs on this machine, or is in RAY_ADDRESS.
        _init(ray, "local" if address is None else address, workers, options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"engine.ray_address={address or 'null'}: {reason(error):.200}; give host:port of a "
            "cluster that runs, or null"
        ) from error
    return ray


def _variables() -> dict[str, str]:
    """Return what workers have in their environment, on whatever machine they are."""
    # Code of the user's own, where it is imported here; ours last, so that it hides none of it.
    here = [os.getcwd()] if os.getcwd() in sys.path else []
    paths = [*here, os.environ.get("PYTHONPATH", ""), str(HOME)]
    variables = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
    if "NUFED_DATA" in os.environ:
        variables["NUFED_DATA"] = os.path.abspath(os.environ["NUFED_DATA"])
    return variables


def _init(ray: Any, address: str, workers: int | None, options: dict[str, Any]) -> None:
    """Call `ray.init`, again where Ray gives its own processes up too soon."""
    for left in reversed(range(RAY_STARTS)):
        try:
            ray.init(address, **options)
        except Exception as error:
            if type(error) is not Exception or "timed out during startup" not in str(error):
                raise
            if not left:
                raise InputError(
                    f"engine.workers={workers}: Ray did not start in {RAY_STARTS} attempts; "
                    "the machine is busy: ask for fewer, or try again later"
                ) from error
            log.warning("Ray has not started yet; the machine is busy: trying again")
        else:
            return


def _require_listener(address: str) -> None:
    """Raise unless somebody answers at host:port: Ray itself would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        _knock(host, int(port))
    except (OSError, ValueError) as error:
        raise InputError(
            f"engine.ray_address={address}: nobody answers there ({reason(error)}); "
            "give host:port of a cluster that runs, or null"
        ) from error


def _knock(host: str, port: int) -> None:
    socket.create_connection((host, port), CONNECT_TIMEOUT_S).close()


def name_of(node: str) -> str:
    """Return what a machine of the cluster is called: its address, or as `ray start` was told."""
    return next((str(each["NodeName"]) for each in _nodes() if each["NodeID"] == node), node[:12])


def is_lost(node: str) -> bool:
    """Tell whether another machine of the cluster is gone.

    Ray knows it a quarter of a minute later; its port there tells it at once.
    """
    if node == _here():
        return False  # else this process would soon be gone too
    found = next((each for each in _nodes() if each["NodeID"] == node and each["Alive"]), None)
    if found is None:
        return True
    try:
        _knock(found["NodeManagerAddress"], found["NodeManagerPort"])
    except OSError:
        return True
    return False


def _nodes() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = sys.modules["ray"].nodes()
    return found


def _here() -> str:
    """Return the node that this process belongs to."""
    node: str = sys.modules["ray"].get_runtime_context().get_node_id()
    return node


def watch() -> None:
    """End this process soon after Ray; else it might wait for ever."""
    threading.Thread(target=_look_on, daemon=True).start()


def _look_on() -> None:
    while True:
        time.sleep(LOOK_S)
        end_if_node_died()


def end_if_node_died() -> None:
    """End this process if Ray counts this machine among the dead, as Ray itself would, at times."""
    ray: Any = sys.modules.get("ray")
    with suppress(Exception):  # half imported; or the GCS is silent, which Ray gives up
        if ray.is_initialized():  # asked for anything, Ray would start
            node = _here()
            if not any(each["Alive"] for each in _nodes() if each["NodeID"] == node):
                os._exit(1)
