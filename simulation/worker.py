"""What a worker process does: it has a `DeviceExecutor`, which trains or evaluates some clients.

What it is asked and answers is in bytes, as they only pass through the process between.
"""

import logging
import pickle
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from nufed.client_app.algorithm import algorithm_of
from nufed.client_app.meta_gradient import Params
from nufed.client_app.states import Held
from nufed.client_app.work import task_for
from nufed.conf.convert import read_config
from nufed.conf.errors import InputError
from nufed.conf.importing import give_way
from nufed.conf.versions import HOME
from nufed.simulation.actors import Done
from nufed.simulation.device_executor import DeviceExecutor, PartialUpdate
from nufed.simulation.plan import Way

log = logging.getLogger("nufed")


class Model(NamedTuple):
    """The global model, as it is sent to a worker."""

    shared: Params
    buffers: Params
    frozen: str
    """A checksum of the parameters that do not train."""

    def on_cpu(self) -> "Model":
        """Return it where every process can have it."""
        shared, buffers = (
            {name: tensor.detach().cpu() for name, tensor in some.items()}
            for some in (self.shared, self.buffers)
        )
        return self._replace(shared=shared, buffers=buffers)


class RoundJob(NamedTuple):
    """What all blocks of a round have in common."""

    kind: str
    """Of work: the method of `DeviceExecutor`."""
    model: Model
    job: Any
    way: Way


class Worker:
    """A `DeviceExecutor` in a process of its own.

    Parameters
    ----------
    config
        The run's configuration.
    rows
        A digest of the data that the run has; None where there is none.

    Raises
    ------
    InputError
        If it cannot be carried out here, or the data are others.
    """

    def __init__(self, config: str, rows: str | None) -> None:
        torch.set_num_threads(1)
        composed = read_config(config)
        give_way(HOME)
        self._task = task_for(algorithm_of(composed.algorithm), composed)
        _require_same_rows(rows, self._task.data.digest)
        self._executor = DeviceExecutor(self._task)

    def work(self, asked: bytes, block: bytes) -> Done:
        """Train or evaluate some clients."""
        started, device = time.process_time(), self._task.device
        kind, model, job, way = pickle.loads(asked)  # of the run itself
        clients, brought = pickle.loads(block)
        states = Held(brought)
        self._take_over(model)
        here = {name: p.to(device) for name, p in model.shared.items()}
        with _warnings() as said:
            result = getattr(self._executor, kind)(here, replace(job, states=states), clients, way)
        if isinstance(result, PartialUpdate):
            updates = {name: p.cpu() for name, p in result.updates.items()}
            result = result._replace(updates=updates, metrics=result.metrics.cpu())
        return Done(pickle.dumps((result, states.on_cpu())), time.process_time() - started, said)

    def _take_over(self, model: Model) -> None:
        try:
            self._task.require_same_fixed(model.buffers, model.frozen)
        except ValueError as error:
            raise InputError(f"engine.workers: a worker's model is another one: {error}") from error


def _require_same_rows(wanted: str | None, found: str | None) -> None:
    """Raise an `InputError` if the rows here are not those of the run."""
    if wanted is not None and found != wanted:
        raise InputError(
            f"its data are not those of the run (digest {str(found)[:12]}, not {wanted[:12]})"
        )


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
