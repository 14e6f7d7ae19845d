"""What is timed to find the quickest way: a small part of the real work, on the real clients."""

import logging
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

from nufed.client_app.client import evaluate
from nufed.client_app.messages import EvaluateReport
from nufed.client_app.meta_gradient import Params
from nufed.client_app.stacked_loss import repeated
from nufed.client_app.work import Measuring, Training, states_of
from nufed.conf.errors import NuFedError, reason
from nufed.simulation.device_executor import DeviceExecutor, PartialUpdate
from nufed.simulation.memory import out_of_memory
from nufed.simulation.plan import ONE_BY_ONE, Plan, Way
from nufed.simulation.search import Run, find
from nufed.simulation.stacked_clients import batches, draw_train, evaluate_stack, gathered, joined

log = logging.getLogger("nufed")


class Work(NamedTuple):
    """What a plan is made for."""

    kind: str
    """train or evaluate"""
    shape: list[Any]
    """What its time depends on, beside the model and the number of clients."""
    clients: Sequence[int]
    trial: Callable[[Sequence[int]], Run]
    """Returns what is timed, from the clients that it is tried on."""
    alone: Callable[[Sequence[int]], PartialUpdate | EvaluateReport]
    """Does it for clients one by one."""
    compile: bool = False
    """Whether it is to be compiled, if that is quicker."""
    steps: int = 0
    """How often a run takes what is tried, client by client, where compiling is to pay in it."""

    def to_compile(self) -> "Work":
        """Return the same, to be compiled."""
        return self._replace(compile=True)


def tried(work: Work, executor: DeviceExecutor, limit: int, threads: Sequence[int]) -> Plan | None:
    """Return the plan for `limit` clients at most; None where they work by themselves alone.

    A stack fails because of some client's rows, or whoever is in it: clients that fail by
    themselves too are left out, to be named where they are due, and it is tried without them.
    """
    clients = list(work.clients[:limit])
    if work.compile:
        log.info("engine.compile: trying programs of a few sizes, a minute or two if new")
    while clients:
        run = work.trial(clients)
        try:
            return find(run, limit, threads, executor.task.device, compile=work.compile)
        except NuFedError:
            raise
        except Exception as error:
            if out_of_memory(error):
                return None
            why = reason(error)
        failed = work.alone(clients).failed
        if not failed:
            executor.note(work.kind, why, [], compile=work.compile)
            return None
        clients = [client for client in clients if client not in failed]
    return None


def train_trial(
    executor: DeviceExecutor, shared: Params, job: Training, clients: Sequence[int]
) -> Run:
    """Return the first local step of a chunk of `clients`; they serve again if they are few."""
    task, algorithm = executor.task, job.algorithm
    drawn = cache(lambda alike: draw_train(task, job, clients, alike=alike))

    def run(way: Way) -> object:
        if way == ONE_BY_ONE:
            alone = next(gathered(task, drawn(False), 0, job.tau))
            (state,) = states_of(task, shared, job, clients[:1])
            return algorithm.step(task.loss, algorithm.begin(shared, state), alone)
        places = [i % len(clients) for i in range(way.chunk)]
        some = next(batches(executor.source, drawn(way.compiled).of(places), job.tau))
        states = joined(states_of(task, shared, job, [clients[i] for i in places]))
        start = algorithm.begin(repeated(shared, way.chunk), states)
        return executor.step(job, way.compiled)(start, some)

    return run


def evaluate_trial(
    executor: DeviceExecutor, shared: Params, job: Measuring, clients: Sequence[int]
) -> Run:
    """Return the personalization curves of a chunk of `clients`, likewise."""

    def run(way: Way) -> object:
        if way == ONE_BY_ONE:
            return evaluate(executor.task, shared, job, clients[0])
        some = [clients[i % len(clients)] for i in range(way.chunk)]
        return evaluate_stack(executor.task, executor.source, shared, job, some)

    return run
