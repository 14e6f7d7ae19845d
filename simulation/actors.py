"""Workers as Ray actors, on one machine or a Ray cluster; in the process that is Ray's driver.

A worker that dies takes nothing with it: its block of clients is given to another, and blocks are
joined in their order, so that the result of a round is the same. What ends Ray ends this process,
which is therefore none in which a run's state is (`nufed.simulation.workers`).
"""

import logging
import os
import secrets
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from nufed.conf.compose import HOME
from nufed.conf.errors import InputError, NuFedError, WorkersLost, reason

TELL_S = 60.0
"""A start that takes so long is told of; a busy machine takes minutes, and gets them."""
START_TIMEOUT_S = 1800.0
"""With no worker started for so long, none will be."""
CONNECT_TIMEOUT_S = 5.0
RAY_STARTS = 5  # each of 30 s, which is Ray's own limit
DEATHS = 5  # of workers in one round, after which something is wrong with the work
LOOK_S = 1.0  # between looks at whether Ray counts this machine among the living

log = logging.getLogger("nufed")


class Done(NamedTuple):
    """What a worker sends back."""

    result: bytes
    cpu_s: float
    said: list[str]
    """Warnings, which nobody would see there."""


class Actor:
    """A `Worker` of nufed.simulation.worker, which is imported where it works alone."""

    def __init__(self, config: str) -> None:
        from nufed.simulation.worker import Worker

        self._worker = Worker(config)

    def pid(self) -> int:
        """Return the id of this process."""
        return os.getpid()

    def work(self, asked: bytes, block: bytes) -> Done:
        """Train or evaluate some clients."""
        return self._worker.work(asked, block)


def alone() -> "Actors":
    """Return those of a process that is for nothing else, and ends where Ray does."""
    threading.Thread(target=_watch, daemon=True).start()
    return Actors()


class Actors:
    """A fixed number of Ray actors; those that die are replaced."""

    def __init__(self) -> None:
        self._actors: list[Any] = []

    def open(self, config: str, count: int, gpus: int, address: str | None) -> list[int]:
        """Start them; return their processes.

        Parameters
        ----------
        config
            The run's configuration.
        count
            Processes.
        gpus
            That each of them takes.
        address
            A Ray cluster to join; None starts Ray on this machine, and it ends with this process.

        Raises
        ------
        InputError
            If no such cluster answers, or it has fewer CPUs or GPUs than workers.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_worker_register_timeout_seconds", "600")  # 60, then it is killed
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        if address is None:
            # Ray listens on every interface: it shall answer this process and its workers alone.
            os.environ.setdefault("RAY_AUTH_MODE", "token")
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        import ray  # it reads these when it is imported, and takes a second

        self._ray: Any = ray
        self.count, self._config = count, config
        self._start_ray(count, gpus, address)
        have = self._ray.cluster_resources()
        kind, there = ("GPU", have.get("GPU", 0)) if gpus else ("CPU", have.get("CPU", 0))
        if there < count:
            raise InputError(
                f"engine.workers={count}: Ray has {there:g} {kind}s; ask for {there:g} at most"
            )
        self._actor = self._ray.remote(num_cpus=1, num_gpus=gpus)(Actor)
        self._actors = [self._actor.remote(self._config) for _ in range(count)]
        try:
            self.pids = self._started(self._actors)
        except InputError:
            self.close()
            raise
        except ray.exceptions.RayError as error:
            self.close()
            last = str(error).strip().splitlines()[-1].strip()
            raise InputError(f"engine.workers={count}: a worker cannot start: {last}") from error
        return self.pids

    def close(self) -> None:
        """End the processes."""
        for actor in self._actors:
            self._ray.kill(actor)

    def map(self, asked: bytes, blocks: Sequence[bytes]) -> tuple[list[Done], list[int]]:
        """Give each block to the next free worker, and again if that one dies.

        Returns
        -------
        What came of each block, and the processes that there are now.
        """
        ray = self._ray
        shared = ray.put(asked)
        waiting, free = deque(range(len(blocks))), list(range(self.count))
        running: dict[Any, tuple[int, int]] = {}  # result to come -> block, worker
        results: dict[int, Done] = {}
        deaths = 0
        while len(results) < len(blocks):
            while waiting and free:
                block, worker = waiting.popleft(), free.pop()
                call = self._actors[worker].work.remote(shared, blocks[block])
                running[call] = block, worker
            (ready, *_), _ = ray.wait(list(running))
            block, worker = running.pop(ready)
            try:
                results[block] = ray.get(ready)
            except ray.exceptions.RayTaskError as error:
                for other in running:  # else their errors would be printed, whenever they come
                    with suppress(ray.exceptions.RayError):
                        ray.get(other)
                raise _cause(error) from None
            except ray.exceptions.RayError as error:
                waiting.appendleft(block)
                deaths = self._replace(worker, deaths, error)
            free.append(worker)
        return [results[block] for block in range(len(blocks))], self.pids

    def _replace(self, worker: int, deaths: int, why: Exception) -> int:
        """Start another worker in place of one that died; return how many did in this round."""
        log.warning("worker %d died; its clients go to another", self.pids[worker])
        while True:
            deaths += 1
            _end_if_node_died()
            if deaths > DEATHS:
                raise WorkersLost(
                    f"engine.workers={self.count}: {deaths} workers died in one round; "
                    f"the last: {reason(why)}"
                ) from why
            self._actors[worker] = self._actor.remote(self._config)
            try:
                (self.pids[worker],) = self._started([self._actors[worker]])
            except self._ray.exceptions.RayError as error:
                why = error
            else:
                return deaths

    def _started(self, actors: Sequence[Any]) -> list[int]:
        """Wait for workers, as long as it takes, and return their processes."""
        ray = self._ray
        calls = [actor.pid.remote() for actor in actors]
        waiting, quiet = list(calls), 0.0
        while waiting:
            ready, waiting = ray.wait(waiting, timeout=TELL_S)
            ray.get(ready)  # one that cannot start says so, whatever the others do
            quiet = 0.0 if ready else quiet + TELL_S
            there = f"{len(actors) - len(waiting)} of {len(actors)} started"
            busy = "others hold the processors, or the machine is busy"
            if quiet >= START_TIMEOUT_S:
                raise InputError(
                    f"engine.workers={self.count}: {there}, and no other in {quiet:.0f} s; "
                    f"{busy}: ask for fewer"
                )
            if quiet:
                log.warning("engine.workers=%d: %s; %s: waiting", self.count, there, busy)
        pids: list[int] = ray.get(calls)
        return pids

    def _start_ray(self, count: int, gpus: int, address: str | None) -> None:
        """Start Ray on this machine, or join a cluster."""
        # Code of the user's own, where it is imported here; ours last, so that it hides none of it.
        here = [os.getcwd()] if os.getcwd() in sys.path else []
        paths = [*here, os.environ.get("PYTHONPATH", ""), str(HOME)]
        variables = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
        if "NUFED_DATA" in os.environ:
            variables["NUFED_DATA"] = os.path.abspath(os.environ["NUFED_DATA"])
        options: dict[str, Any] = {
            "runtime_env": {"env_vars": variables},
            "log_to_driver": False,
            "logging_level": logging.ERROR,
            "ignore_reinit_error": True,
        }
        if address is None:
            options |= {"num_cpus": max(count, os.cpu_count() or 1), "include_dashboard": False}
        if address is not None and address != "auto":
            _require_listener(address)
        try:
            self._init(address, options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise InputError(
                f"engine.ray_address={address}: {reason(error):.200}; give host:port of a cluster "
                "that runs, or null"
            ) from error

    def _init(self, address: str | None, options: dict[str, Any]) -> None:
        """Call `ray.init`, again where Ray gives its own processes up too soon."""
        for left in reversed(range(RAY_STARTS)):
            try:
                self._ray.init(address, **options)
            except Exception as error:
                if type(error) is not Exception or "timed out during startup" not in str(error):
                    raise
                if not left:
                    raise InputError(
                        f"engine.workers={self.count}: Ray did not start in {RAY_STARTS} attempts; "
                        "the machine is busy: ask for fewer, or try again later"
                    ) from error
                log.warning("Ray has not started yet; the machine is busy: trying again")
            else:
                return


def _cause(error: Any) -> Exception:
    """Return what a worker raised; of what is not ours, what it says: its class may not be here."""
    cause = error.cause
    return cause if isinstance(cause, NuFedError) else RuntimeError(reason(cause or error))


def _watch() -> None:
    """End this process soon after Ray; else it might wait for ever."""
    while True:
        time.sleep(LOOK_S)
        _end_if_node_died()


def _end_if_node_died() -> None:
    """End this process if Ray counts this machine among the dead, as Ray itself would, at times."""
    ray: Any = sys.modules.get("ray")
    with suppress(Exception):  # half imported; or the GCS is silent, which Ray gives up
        if ray.is_initialized():  # asked for anything, Ray would start
            node = ray.get_runtime_context().get_node_id()
            if not any(each["Alive"] for each in ray.nodes() if each["NodeID"] == node):
                os._exit(1)


def _require_listener(address: str) -> None:
    """Raise unless somebody answers at host:port: Ray itself would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        raise InputError(
            f"engine.ray_address={address}: nobody answers there ({reason(error)}); "
            "give host:port of a cluster that runs, or null"
        ) from error
