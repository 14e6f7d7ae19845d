"""Workers as Ray actors, on one machine or a Ray cluster; in the process that is Ray's driver.

A worker that dies takes nothing with it: its block of clients is given to another, and blocks are
joined in their order, so that the result of a round is the same. So it is where a machine goes,
with all its workers: the others go on, and a machine that joins takes its place. What ends Ray ends
this process, which is therefore none in which a run's state is (`nufed.simulation.workers`).
"""

import logging
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from nufed.conf.errors import InputError, NuFedError, WorkersLost, reason
from nufed.simulation import cluster

TELL_S = 60.0
"""A start that takes so long is told of; a busy machine takes minutes, and gets them."""
START_TIMEOUT_S = 1800.0
"""With no worker started for so long, none will be."""
DEATHS = 5  # of workers in one round, after which something is wrong with the work

log = logging.getLogger("nufed")


class Done(NamedTuple):
    """What a worker sends back."""

    result: bytes
    cpu_s: float
    said: list[str]
    """Warnings, which nobody would see there."""


class Place(NamedTuple):
    """Where a worker is."""

    pid: int
    node: str


class CannotStart(Exception):
    """A worker says why it cannot do the work, and where it is."""


def actor_class() -> Any:
    """Return the class of an actor, made here so that all of it is sent.

    A machine that lacks NuFed can then say so; one that were to import the class could not.
    """

    class Actor:
        """A `Worker` of nufed.simulation.worker, which is imported where it works alone."""

        def start(self, config: str, rows: str | None) -> tuple[int, str, str]:
            """Return this process, its machine, and why it cannot do the work, if it cannot."""
            import os

            import ray

            why = ""
            try:
                from nufed.simulation.worker import Worker

                self._worker = Worker(config, rows)
            except Exception as error:
                why = " ".join(str(error).split()) or type(error).__name__
            return os.getpid(), ray.get_runtime_context().get_node_id(), why

        def work(self, asked: bytes, block: bytes) -> Any:
            """Train or evaluate some clients; return a `Done`, which is NuFed's."""
            return self._worker.work(asked, block)

    return Actor


def alone() -> "Actors":
    """Return those of a process that is for nothing else, and ends where Ray does."""
    cluster.watch()
    return Actors()


class Actors:
    """A fixed number of Ray actors; those that die are replaced."""

    def __init__(self) -> None:
        self._actors: list[Any] = []
        self._lost = set[str]()
        self._deaths = 0
        """Of workers, while they start or in a round."""

    def open(
        self, config: str, rows: str | None, count: int | None, gpus: int, address: str | None
    ) -> list[int]:
        """Start them; return their processes.

        Parameters
        ----------
        config
            The run's configuration.
        rows
            A digest of its data, which all machines must have; None where there is none.
        count
            Processes; None for as many as the cluster has CPUs, or GPUs.
        gpus
            That each of them takes.
        address
            A Ray cluster to join; None starts Ray on this machine, and it ends with this process.

        Raises
        ------
        InputError
            If no such cluster answers, it has fewer CPUs or GPUs than workers, or one of its
            machines cannot do the work.
        """
        self._ray, self._address = cluster.join(address, count), address
        self._kind = "GPU" if gpus else "CPU"
        self.count = self._counted(count)
        self._given = config, rows
        # Over all machines: workers of one share its memory's bandwidth and its caches.
        options = {"num_cpus": 1, "num_gpus": gpus, "scheduling_strategy": "SPREAD"}
        self._actor = self._ray.remote(**options)(actor_class())
        self._actors = [None] * self.count
        self._places: list[Place | None] = [None] * self.count
        self._starting: dict[Any, int] = {}  # where it is, to come -> worker
        try:
            for worker in range(self.count):
                self._start(worker)
            while self._starting:
                call = self._next_start(InputError)
                worker = self._starting[call]
                try:
                    self._started(call)
                except self._ray.exceptions.RayError as error:
                    self._replace(worker, error)  # Ray may have chosen a machine that just went
        except InputError:
            self.close()
            raise
        except CannotStart as error:
            self.close()
            raise InputError(str(error)) from error
        except WorkersLost as error:
            self.close()
            raise InputError(f"{reason(error)}; look at the machines' own logs") from error
        return self.pids

    @property
    def pids(self) -> list[int]:
        """The processes that there are now."""
        return [place.pid for place in self._places if place is not None]

    def close(self) -> None:
        """End the processes."""
        for actor in self._actors:
            if actor is not None:
                self._ray.kill(actor)

    def map(self, asked: bytes, blocks: Sequence[bytes]) -> tuple[list[Done], list[int]]:
        """Give each block to the next free worker, and again if that one dies.

        Returns
        -------
        What came of each block, and the processes that there are now.
        """
        ray = self._ray
        shared = ray.put(asked)
        waiting = deque(range(len(blocks)))
        free = [worker for worker, place in enumerate(self._places) if place is not None]
        running: dict[Any, tuple[int, int]] = {}  # result to come -> block, worker
        results: dict[int, Done] = {}
        self._deaths = 0
        while len(results) < len(blocks):
            while waiting and free:
                block, worker = waiting.popleft(), free.pop()
                call = self._actors[worker].work.remote(shared, blocks[block])
                running[call] = block, worker
            ready = self._next(running)
            if ready in self._starting:
                free += self._joined(ready)
                continue
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
                self._replace(worker, error)
            else:
                free.append(worker)
        return [results[block] for block in range(len(blocks))], self.pids

    def _next(self, running: Iterable[Any]) -> Any:
        """Wait for what comes first: a result, or a worker that has started."""
        if running := list(running):
            (ready, *_), _ = self._ray.wait([*running, *self._starting])
            return ready
        return self._next_start(WorkersLost)

    def _joined(self, call: Any) -> list[int]:
        """Return the worker that has started, or none, and see to another in its place."""
        worker = self._starting[call]
        try:
            self._started(call)
        except (CannotStart, self._ray.exceptions.RayError) as error:
            self._replace(worker, error)
            return []
        return [worker]

    def _replace(self, worker: int, why: Exception) -> None:
        """Have another worker started in place of one that died; nobody waits for it."""
        cluster.end_if_node_died()
        place, self._places[worker] = self._places[worker], None
        with suppress(self._ray.exceptions.RayError):
            self._ray.kill(self._actors[worker])  # it may only be out of reach
        if place is not None and (place.node in self._lost or cluster.is_lost(place.node)):
            self._tell_lost(place.node)
        else:
            self._deaths += 1
            if place is not None:
                log.warning("worker %d died; its clients go to another", place.pid)
        if self._deaths > DEATHS:
            raise WorkersLost(
                f"engine.workers={self.count}: {self._deaths} workers died one after another; "
                f"the last: {reason(why)}"
            ) from why
        self._start(worker)

    def _tell_lost(self, node: str) -> None:
        """Say once that a machine is lost: its workers will be found dead one by one."""
        if node in self._lost:
            return
        self._lost.add(node)
        left = sum(place is not None and place.node != node for place in self._places)
        log.warning(
            "machine %s is lost; its clients go to others: %d of %d workers are left until one "
            "joins the cluster in its place",
            cluster.name_of(node),
            left,
            self.count,
        )

    def _start(self, worker: int) -> None:
        """Ask Ray for a worker, which comes as soon as there is a processor for it."""
        self._actors[worker] = self._actor.remote()
        self._starting[self._actors[worker].start.remote(*self._given)] = worker

    def _started(self, call: Any) -> None:
        """Take note of a worker that has started."""
        worker = self._starting.pop(call)
        pid, node, why = self._ray.get(call)
        if why and self._address is None:
            raise CannotStart(f"engine.workers={self.count}: a worker cannot start: {why}")
        if why:
            raise CannotStart(
                f"engine.ray_address={self._address}: machine {cluster.name_of(node)} cannot do "
                f"the work: {why}; give each machine NuFed, the data and your own modules, where "
                "this one has them"
            )
        self._places[worker] = Place(pid, node)

    def _next_start(self, stopped: type[NuFedError]) -> Any:
        """Wait for the next worker to start, as long as it takes.

        Parameters
        ----------
        stopped
            What to raise where none will.
        """
        quiet = 0.0
        while True:
            ready, waiting = self._ray.wait(list(self._starting), timeout=TELL_S)
            if ready:
                return ready[0]
            quiet += TELL_S
            if not self._room():
                raise stopped(
                    f"engine.ray_address={self._address}: no machine with a {self._kind} is left "
                    "in the cluster; start one, or go on with engine.ray_address=null"
                )
            there = f"{self.count - len(waiting)} of {self.count} started"
            busy = "others hold the processors, or the machine is busy"
            if quiet >= START_TIMEOUT_S:
                raise stopped(
                    f"engine.workers={self.count}: {there}, and no other in {quiet:.0f} s; "
                    f"{busy}: ask for fewer"
                )
            log.warning("engine.workers=%d: %s; %s: waiting", self.count, there, busy)

    def _counted(self, asked: int | None) -> int:
        """Return how many workers there shall be; raise an `InputError` if there is no room."""
        room = self._room()
        if asked is None and room < 1:
            raise InputError(
                f"engine.ray_address={self._address}: no machine of the cluster has a {self._kind} "
                "for workers; start one that has"
            )
        if asked is not None and room < asked:
            raise InputError(
                f"engine.workers={asked}: Ray has {room:g} {self._kind}s; ask for {room:g} at most"
            )
        return int(room) if asked is None else asked

    def _room(self) -> float:
        """Return the processors that Ray has, whoever holds them."""
        return float(self._ray.cluster_resources().get(self._kind, 0))


def _cause(error: Any) -> Exception:
    """Return what a worker raised; of what is not ours, what it says: its class may not be here."""
    cause = error.cause
    return cause if isinstance(cause, NuFedError) else RuntimeError(reason(cause or error))
