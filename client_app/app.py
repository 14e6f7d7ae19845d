"""The ClientApp: answers the server's messages for the clients that this SuperNode hosts."""

import reprlib
import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import torch
from flwr.app import ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from nufed.client_app.algorithm import Algorithm, algorithm_of
from nufed.client_app.baselines.local import ALONE, AloneInstruction, longest, trained_alone
from nufed.client_app.bounds import limits_of, require_allowed, require_few, require_within
from nufed.client_app.curvature import probe
from nufed.client_app.executor import Executor, OneByOne
from nufed.client_app.messages import (
    CURVATURE,
    Census,
    EvaluateInstruction,
    EvaluationNumbers,
    Fixed,
    MalformedMessage,
    Numbers,
    ProbeInstruction,
    TrainInstruction,
)
from nufed.client_app.meta_gradient import Params
from nufed.client_app.node import hosted, own_data, states_for
from nufed.client_app.wire import (
    FIXED,
    arrays_of,
    asks_for_evaluation,
    decode,
    encode,
    memory_of,
    to_params,
)
from nufed.client_app.work import new_model, new_state, task_for
from nufed.conf.compose import from_run_config
from nufed.conf.schema import Config
from nufed.conf.targets import modules_here
from nufed.tasks.module_state import trainable
from nufed.tasks.task import Task

# Parameters below which a step is not worth sharing between threads: they only wait for each
# other, several times as long where other programs run beside them.
SMALL = 200_000
THREADS = torch.get_num_threads()


class Work(NamedTuple):
    """What a SuperNode has for a run."""

    config: Config
    task: Task
    algorithm: Algorithm
    executor: Executor

    def require_possible(
        self, instruction: TrainInstruction | EvaluateInstruction, here: range
    ) -> None:
        """Raise a `MalformedMessage` unless this may be asked, and of clients that are here."""
        _require_hosted(instruction.clients, here)
        require_within(instruction, self.config, int(self.task.data.partition.train.max()))

    def algorithm_in(self, message: Message, kind: type[Numbers]) -> Algorithm:
        """Return the algorithm with the numbers that the server chose for it."""
        return decode(kind, message).into(self.algorithm)


def make_app(executor_of: Callable[[Config, Task], Executor]) -> ClientApp:
    """Return a ClientApp whose clients are worked through by the executor of a task.

    Parameters
    ----------
    cohort_of
        ``executor_of(config, task)`` -> Executor; called once a run.
    """
    app = ClientApp()

    def of(context: Context) -> Work:
        config = context.run_config
        texts = str(config.get("config", "")), str(config.get("overrides", ""))
        # Only data of its own set a SuperNode apart: those of one process share the task otherwise.
        node = tuple(context.node_config.items()) if "data-path" in context.node_config else ()
        limits = limits_of(context.node_config)
        return _work(executor_of, *texts, node, limits, modules_here(context.node_config))

    @app.query()
    def census(message: Message, context: Context) -> Message:
        """Say which clients live here."""
        task = of(context).task
        clients = hosted(context.node_config, task)
        rows = task.data.partition.train[clients.start : clients.stop : clients.step]
        report = Census(list(clients), rows.tolist(), task.data.num_clients)
        return Message(encode(report), reply_to=message)

    @app.query(CURVATURE.partition(".")[2])
    def curvature(message: Message, context: Context) -> Message:
        """Measure how curved the losses of the clients asked for are."""
        work, instruction = of(context), decode(ProbeInstruction, message)
        task, algorithm = work.task, work.algorithm
        _require_hosted(instruction.clients, hosted(context.node_config, task))
        shared = shared_of(message, task, algorithm)
        model = new_model(task, algorithm, shared)
        return Message(encode(probe(task, model, instruction)), reply_to=message)

    @app.query(ALONE.partition(".")[2])
    def alone(message: Message, context: Context) -> Message:
        """Train models of each client's own rows alone, which the run's are compared with."""
        work, instruction = of(context), decode(AloneInstruction, message)
        _require_hosted(instruction.clients, hosted(context.node_config, work.task))
        require_few(longest(work.config), dict(limits_of(context.node_config)))
        return Message(encode(trained_alone(work.config, work.task, instruction)), reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        """Train the clients asked for, each from the global model; reply with their mean update."""
        started = time.process_time()
        work, instruction = of(context), decode(TrainInstruction, message)
        task = work.task
        work.require_possible(instruction, hosted(context.node_config, task))
        algorithm, memory = work.algorithm_in(message, Numbers), memory_of(message)
        shared = shared_of(message, task, algorithm)
        states = states_for(algorithm, memory, context, new_state(task, algorithm, shared))
        update, report = work.executor.train(shared, instruction.of(algorithm, states))
        if memory is not None:
            known = {*memory.known} & states.missed
            lost = [client for client in instruction.clients if client in known]
            report = replace(report, afresh=lost)
        examples = int(task.data.partition.train[report.clients].sum())
        report = replace(report, cpu_s=report.cpu_s + time.process_time() - started)
        content = encode(report, ArrayRecord(dict(update)), examples)
        if asks_for_evaluation(message):
            content.update(measured(message, context))
        return Message(content, reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        """Measure the personalization curves of the clients asked for."""
        return Message(measured(message, context), reply_to=message)

    def measured(message: Message, context: Context) -> RecordDict:
        work, instruction = of(context), decode(EvaluateInstruction, message)
        work.require_possible(instruction, hosted(context.node_config, work.task))
        algorithm, memory = work.algorithm_in(message, EvaluationNumbers), memory_of(message)
        shared = shared_of(message, work.task, algorithm)
        states = states_for(algorithm, memory, context, new_state(work.task, algorithm, shared))
        return encode(work.executor.evaluate(shared, instruction.of(algorithm, states)))

    return app


@lru_cache(maxsize=2)  # not within `make_app`: Ray could not send the app to its workers
def _work(
    executor_of: Callable[[Config, Task], Executor],
    config: str,
    overrides: str,
    node: tuple[tuple[str, object], ...],
    limits: tuple[tuple[str, object], ...],
    trust: tuple[str, ...],
) -> Work:
    composed = from_run_config({"config": config, "overrides": overrides}, trust)
    require_allowed(composed, dict(limits))
    algorithm = algorithm_of(composed.algorithm)
    task = task_for(algorithm, composed, own_data(dict(node), composed.dataset["name"]))
    return Work(composed, task, algorithm, executor_of(composed, task))


def _require_hosted(clients: list[int], here: range) -> None:
    """Raise unless this SuperNode hosts all of `clients`."""
    if foreign := [client for client in clients if client not in here]:
        raise MalformedMessage(f"clients {reprlib.repr(foreign)} are not hosted here")


def shared_of(message: Message, task: Task, algorithm: Algorithm) -> Params:
    """Return what is shared, as it came with a message, on the task's device.

    What of it does not train is taken over into the task.

    Raises
    ------
    MalformedMessage
        If its names or shapes are not those of the task's model, or its entries no real numbers.
    """
    if FIXED in message.content.config_records or not task.wholly_trained:
        decode(Fixed, message).load(task)
    arrays = arrays_of(message)
    initial = algorithm.shared(trainable(task.module))
    wanted = {name: tuple(p.shape) for name, p in initial.items()}
    given = {name: tuple(array.shape) for name, array in arrays.items()}
    if given != wanted:
        raise MalformedMessage(f"the global model has {given}, this client's model {wanted}")
    params = to_params(arrays)
    if strange := [name for name, p in params.items() if not p.is_floating_point()]:
        raise MalformedMessage(f"the global model's {strange[0]!r} is {arrays[strange[0]].dtype}")
    return {name: p.to(task.device, task.dtype) for name, p in params.items()}


def one_by_one(config: Config, task: Task) -> Executor:
    """Return the plain executor, on as many threads as its model is worth."""
    if task.device.type == "cpu":
        small = sum(task.size) < SMALL
        torch.set_num_threads(1 if small else THREADS)
    return OneByOne(task)


app = make_app(one_by_one)
