"""engine.workers: Lanes in processes of their own, on one machine or a Ray cluster.

One single-threaded process a CPU core, or one a GPU. A process that dies takes nothing with it: its
block of clients is given to another, and blocks are joined in their order, so that the result of a
round is the same.
"""

import logging
import os
import secrets
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import torch

from client_app.messages import EvaluateInstruction, EvaluateReport, TrainInstruction
from client_app.meta_gradient import Params
from conf.compose import CONFIG_DIR
from conf.convert import read_config, to_json
from conf.errors import InputError, NuFedError, RunStopped, reason
from conf.schema import Config
from simulation.lane import Lane, Part
from simulation.plan import Way
from tasks.task import build

TELL_S = 60.0
"""A start that takes so long is told of; a busy machine takes minutes, and gets them."""
START_TIMEOUT_S = 1800.0
"""With no worker started for so long, none will be."""
CONNECT_TIMEOUT_S = 5.0
RAY_STARTS = 5  # each of 30 s, which is Ray's own limit
DEATHS = 5  # of workers in one round, after which something is wrong with the work

log = logging.getLogger("nufed")


class Done(NamedTuple):
    """What a worker sends back."""

    result: Any
    cpu_s: float
    said: list[str]
    """Warnings, which nobody would see there."""


class Model(NamedTuple):
    """The global model, as it is sent to a worker."""

    params: Params
    buffers: Params
    frozen: str
    """A checksum of the parameters that do not train."""

    def on_cpu(self) -> "Model":
        """Return it where every process can have it."""
        params, buffers = (
            {name: tensor.detach().cpu() for name, tensor in some.items()}
            for some in (self.params, self.buffers)
        )
        return self._replace(params=params, buffers=buffers)


class Worker:
    """A Lane in a process of its own; becomes a Ray actor."""

    def __init__(self, config: str) -> None:
        torch.set_num_threads(1)
        composed = read_config(config)
        self._task = build(composed)
        self._lane = Lane(self._task)

    def pid(self) -> int:
        """Return the id of this process."""
        return os.getpid()

    def work(self, kind: str, model: Model, ask: Any, clients: list[int], way: Way) -> Done:
        """Train or evaluate some clients."""
        started, device = time.process_time(), self._task.device
        self._take_over(model)
        here = {name: p.to(device) for name, p in model.params.items()}
        with _warnings() as said:
            result = getattr(self._lane, kind)(here, ask, clients, way)
        if isinstance(result, Part):
            total = {name: p.cpu() for name, p in result.total.items()}
            result = result._replace(total=total, metrics=result.metrics.cpu())
        return Done(result, time.process_time() - started, said)

    def _take_over(self, model: Model) -> None:
        try:
            self._task.require_same_fixed(model.buffers, model.frozen)
        except ValueError as error:
            raise InputError(f"engine.workers: a worker's model is another one: {error}") from error


class Workers:
    """A fixed number of Ray actors; those that die are replaced.

    Parameters
    ----------
    config
        The run's configuration.
    count
        Processes.
    address
        A Ray cluster to join; None starts Ray on this machine, and it ends with this process.

    Raises
    ------
    InputError
        If no such cluster answers, or it has fewer CPUs or GPUs than workers.
    """

    def __init__(self, config: Config, count: int, address: str | None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_worker_register_timeout_seconds", "600")  # 60, then it is killed
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        if address is None and "ray" in sys.modules and "RAY_AUTH_TOKEN" not in os.environ:
            log.warning("Ray was imported before: whoever reaches this machine reaches its workers")
        elif address is None:
            # Ray listens on every interface: it shall answer this process and its workers alone.
            os.environ.setdefault("RAY_AUTH_MODE", "token")
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        import ray  # it reads these when it is imported, and takes a second

        self._ray: Any = ray
        self.count, self._config = count, to_json(config)
        self._said = set[str]()
        gpus = 1 if torch.device(config.device).type == "cuda" else 0
        self._start_ray(count, gpus, address)
        have = self._ray.cluster_resources()
        kind, there = ("GPU", have.get("GPU", 0)) if gpus else ("CPU", have.get("CPU", 0))
        if there < count:
            raise InputError(
                f"engine.workers={count}: Ray has {there:g} {kind}s; ask for {there:g} at most"
            )
        self._actor = self._ray.remote(num_cpus=1, num_gpus=gpus)(Worker)
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

    def train(
        self, model: Model, ask: TrainInstruction, blocks: Sequence[list[int]], way: Way
    ) -> tuple[list[Part], float]:
        """Return what `Lane.train` gives for each block, and the workers' CPU seconds."""
        done = self._map("train", model, ask, blocks, way)
        return [each.result for each in done], sum(each.cpu_s for each in done)

    def evaluate(
        self, model: Model, ask: EvaluateInstruction, blocks: Sequence[list[int]], way: Way
    ) -> list[EvaluateReport]:
        """Return what `Lane.evaluate` gives for each block."""
        return [each.result for each in self._map("evaluate", model, ask, blocks, way)]

    def close(self) -> None:
        """End the processes."""
        for actor in self._actors:
            self._ray.kill(actor)

    def _map(
        self, kind: str, model: Model, ask: Any, blocks: Sequence[list[int]], way: Way
    ) -> list[Done]:
        """Give each block to the next free worker, and again if that one dies."""
        ray = self._ray
        shared = ray.put(model.on_cpu())
        waiting, free = deque(range(len(blocks))), list(range(self.count))
        running: dict[Any, tuple[int, int]] = {}  # result to come -> block, worker
        results: dict[int, Done] = {}
        deaths = 0
        while len(results) < len(blocks):
            while waiting and free:
                block, worker = waiting.popleft(), free.pop()
                call = self._actors[worker].work.remote(kind, shared, ask, blocks[block], way)
                running[call] = block, worker
            (ready, *_), _ = ray.wait(list(running))
            block, worker = running.pop(ready)
            try:
                results[block] = ray.get(ready)
                self._relay(results[block].said)
            except ray.exceptions.RayTaskError as error:
                for other in running:  # else their errors would be printed, whenever they come
                    with suppress(ray.exceptions.RayError):
                        ray.get(other)
                raise (error.cause if isinstance(error.cause, NuFedError) else error) from None
            except ray.exceptions.RayError as error:
                deaths += 1
                if deaths > DEATHS:
                    raise RunStopped(
                        f"engine.workers={self.count}: {deaths} workers died in one round; "
                        f"the last: {reason(error)}"
                    ) from error
                log.warning("worker %d died; its clients go to another", self.pids[worker])
                waiting.appendleft(block)
                self._actors[worker] = self._actor.remote(self._config)
                (self.pids[worker],) = self._started([self._actors[worker]])
            free.append(worker)
        return [results[block] for block in range(len(blocks))]

    def _relay(self, said: Sequence[str]) -> None:
        """Warn of what workers warn of, once whoever says it."""
        for warning in said:
            if warning not in self._said:
                self._said.add(warning)
                log.warning("%s", warning)

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
        # Ours, and, where it is imported here, code of the user's own.
        here = [os.getcwd()] if os.getcwd() in sys.path else []
        paths = [str(CONFIG_DIR.parent), *here, os.environ.get("PYTHONPATH", "")]
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


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collect what is warned of meanwhile."""
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    log.addHandler(handler)
    try:
        yield said
    finally:
        log.removeHandler(handler)


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
