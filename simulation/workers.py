"""engine.workers: device executors in processes of their own, on one machine or a Ray cluster.

One single-threaded process a CPU core, or one a GPU. What dies takes nothing with it: a worker
is replaced (`nufed.simulation.actors`), a lost machine's clients go to the others, and with Ray
itself the round is begun anew, by a Ray of its own.
"""

import logging
import os
import pickle
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import torch

from nufed.client_app.messages import EvaluateReport
from nufed.client_app.meta_gradient import Params
from nufed.client_app.states import Held
from nufed.client_app.work import Measuring, Training
from nufed.conf.convert import to_json
from nufed.conf.errors import InputError, WorkersLost
from nufed.conf.schema import Config
from nufed.simulation.actors import DEATHS, Done
from nufed.simulation.apart import Apart, Gone
from nufed.simulation.device_executor import PartialUpdate
from nufed.simulation.plan import Way
from nufed.simulation.stacked_clients import joined
from nufed.simulation.worker import Model, RoundJob

log = logging.getLogger("nufed")
_idle: list[tuple[object, Apart]] = []
"""Of runs that are over, by where they were and what they could import there: the next of a sweep
starts sooner, and another run finds its own modules."""


class Workers:
    """A fixed number of worker processes; those that die are replaced.

    Parameters
    ----------
    config
        The run's configuration.
    rows
        A digest of its data; None where there is none.
    count
        Processes; None for as many as the cluster has CPUs, or GPUs.
    address
        A Ray cluster to join; None starts Ray on this machine, and it ends with this process.

    Raises
    ------
    InputError
        If no such cluster answers, it has fewer CPUs or GPUs than workers, or one of its machines
        cannot do the work.
    """

    def __init__(
        self, config: Config, rows: str | None, count: int | None, address: str | None
    ) -> None:
        self._address = address
        gpus = 1 if torch.device(config.device).type == "cuda" else 0
        self._open = to_json(config), rows, count, gpus, address
        self._said = set[str]()
        self._ray: Apart | None = None
        self._place: object = None
        self.pids: list[int] = []
        try:
            self._start()
        except Gone as error:
            raise InputError(f"engine.workers={count}: Ray did not start ({error})") from error
        self.count = len(self.pids)

    def train(
        self, model: Model, job: Training, blocks: Sequence[list[int]], way: Way
    ) -> tuple[list[PartialUpdate], float]:
        """Return what `DeviceExecutor.train` gives for each block, and the workers' CPU seconds."""
        done = self._map("train", model, job, blocks, way)
        parts = list[PartialUpdate]()
        for each in done:
            part, states = pickle.loads(each.result)
            if states:
                job.states.keep_all([*states], job.round, joined([*states.values()]))
            parts.append(part)
        return parts, sum(each.cpu_s for each in done)

    def evaluate(
        self, model: Model, job: Measuring, blocks: Sequence[list[int]], way: Way
    ) -> list[EvaluateReport]:
        """Return what `DeviceExecutor.evaluate` gives for each block."""
        done = self._map("evaluate", model, job, blocks, way)
        return [pickle.loads(each.result)[0] for each in done]

    def close(self) -> None:
        """End the processes."""
        ray, self._ray = self._ray, None
        if ray is None:
            return
        with suppress(Gone):
            if ray.idle:
                ray.call("close")
                _idle.append((self._place, ray))
                return
        ray.end()

    def _map(
        self,
        kind: str,
        model: Model,
        job: Training | Measuring,
        blocks: Sequence[list[int]],
        way: Way,
    ) -> list[Done]:
        """Have each block done, all of them again if Ray dies meanwhile.

        The clients' states go along, and come back: this process keeps them.
        """
        common = RoundJob(kind, model.on_cpu(), replace(job, states=Held()), way)
        given = [pickle.dumps((block, _brought(job, block))) for block in blocks]
        content, deaths = pickle.dumps(common), 0
        done: list[Done]
        while True:
            try:
                if self._ray is None:
                    self._start()
                assert self._ray is not None
                done, self.pids = self._ray.call("map", content, given)
                break
            except Gone as error:
                self._ray, deaths = None, deaths + 1
                self._require_hope(deaths, error)
                log.warning("Ray died (%s); it is started again, and the round with it", error)
        self._relay([line for each in done for line in each.said])
        return done

    def _start(self) -> None:
        """Start the workers, by a process of Ray's that an earlier run has left, or a new one."""
        found = map(os.environ.get, ("PYTHONPATH", "NUFED_DATA"))
        self._place = self._address, os.getcwd(), (*sys.path,), *found
        left = None
        while _idle and left is None:
            place, ray = _idle.pop()
            if place == self._place and ray.idle:
                left = ray
            else:
                ray.end()  # or it would keep its memory for nobody, as long as this process lives
        self._ray = left or Apart("nufed.simulation.actors:alone")
        try:
            self.pids = self._ray.call("open", *self._open)
        except BaseException:
            self._ray.end()
            self._ray = None
            raise

    def _require_hope(self, deaths: int, error: Gone) -> None:
        """Raise if Ray cannot be started again, or was too often."""
        if self._address is not None:
            raise WorkersLost(
                f"engine.ray_address={self._address}: the cluster is lost ({error}); see that "
                "it runs again, or go on with engine.ray_address=null"
            )
        if deaths > DEATHS:
            raise WorkersLost(
                f"engine.workers={self.count}: Ray died {deaths} times in one round ({error}); the "
                "machine may be short of memory: ask for fewer"
            )

    def _relay(self, said: Sequence[str]) -> None:
        """Warn of what workers warn of, once whoever says it."""
        for warning in said:
            if warning not in self._said:
                self._said.add(warning)
                log.warning("%s", warning)


def _brought(job: Training | Measuring, clients: Sequence[int]) -> dict[int, Params]:
    """Return the states that go along to a worker, in memory of their own: all of it is sent."""
    if not job.algorithm.stateful:
        return {}
    read = zip(clients, job.states.read_all(clients, job.before), strict=True)
    return {client: {name: p.clone() for name, p in state.items()} for client, state in read}
