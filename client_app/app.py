"""The ClientApp: answers the server's messages for the clients that this SuperNode hosts."""

import time
from collections import defaultdict
from dataclasses import replace
from functools import lru_cache

import torch
from flwr.app import ArrayRecord, Context, Message
from flwr.clientapp import ClientApp

from client_app.client import evaluate, train
from client_app.mean import StreamingMean
from client_app.messages import (
    Census,
    EvaluateInstruction,
    EvaluateReport,
    MalformedMessage,
    TrainInstruction,
    TrainReport,
    arrays_of,
    decode,
    encode,
    to_params,
)
from client_app.meta_gradient import Params
from conf.compose import from_run_config
from conf.errors import NuFedError
from tasks.task import Task, build

# Parameters below which a step is not worth sharing between threads: they only wait for each
# other, several times as long where other programs run beside them.
SMALL = 200_000
THREADS = torch.get_num_threads()

app = ClientApp()


@app.query()
def census(message: Message, context: Context) -> Message:
    """Say which clients live here."""
    task, clients = task_of(context), hosted(context)
    rows = task.data.partition.train
    report = Census(clients, [int(rows[i]) for i in clients], task.data.num_clients)
    return Message(encode(report), reply_to=message)


@app.train()
def train_clients(message: Message, context: Context) -> Message:
    """Train the clients asked for, each from the global model; reply with their mean update."""
    started = time.process_time()
    task, ask = task_of(context), decode(TrainInstruction, message)
    _require_hosted(ask.clients, context)
    params, mean = params_of(message, task), StreamingMean()
    report, examples = TrainReport([], [], [], [], [], [], [], 0.0), 0
    for client in ask.clients:
        try:
            result = train(task, params, ask, client)
        except NuFedError:
            raise
        except Exception as error:  # one client's failure, reported, is not its neighbours'
            report.failed.append(client)
            report.reasons.append(f"{type(error).__name__}: {error}")
            continue
        if result.diverged_at is not None:
            report.diverged.append(client)
            report.diverged_at.append(result.diverged_at)
            continue
        rows = int(task.data.partition.train[client])
        mean.add(result.update, rows if ask.weighting == "examples" else 1)
        report.clients.append(client)
        report.loss.append(result.loss)
        report.meta_grad_norm.append(result.meta_grad_norm)
        examples += rows
    report = replace(report, cpu_s=time.process_time() - started)
    update = ArrayRecord(mean.value(task.dtype))
    return Message(encode(report, update, examples), reply_to=message)


@app.evaluate()
def evaluate_clients(message: Message, context: Context) -> Message:
    """Measure the personalization curves of the clients asked for."""
    task, ask = task_of(context), decode(EvaluateInstruction, message)
    _require_hosted(ask.clients, context)
    params = params_of(message, task)
    measured, columns = list[int](), defaultdict[str, list[float]](list)
    failed, reasons = list[int](), list[str]()
    for client in ask.clients:
        try:
            curve = evaluate(task, params, ask, client)
        except NuFedError:
            raise
        except Exception as error:
            failed.append(client)
            reasons.append(f"{type(error).__name__}: {error}")
            continue
        if curve is not None:
            measured.append(client)
            for name, values in curve.items():
                columns[name] += values
    curves = [value for column in columns.values() for value in column]
    report = EvaluateReport(measured, list(columns), curves, failed, reasons)
    return Message(encode(report), reply_to=message)


def _require_hosted(clients: list[int], context: Context) -> None:
    """Raise unless this SuperNode hosts all of `clients`."""
    if foreign := set(clients) - set(hosted(context)):
        raise MalformedMessage(f"clients {sorted(foreign)} are not hosted here")


def hosted(context: Context) -> list[int]:
    """Return the clients of this SuperNode: partition-id, then every num-partitions-th."""
    first, stride = (int(context.node_config[key]) for key in ("partition-id", "num-partitions"))
    return list(range(first, task_of(context).data.num_clients, stride))


def task_of(context: Context) -> Task:
    """Return the task of the run; made once a process."""
    config = context.run_config
    task = _task(str(config.get("config", "")), str(config.get("overrides", "")))
    if task.device.type == "cpu":
        small = sum(p.numel() for p in task.module.parameters()) < SMALL
        torch.set_num_threads(1 if small else THREADS)
    return task


@lru_cache(maxsize=2)
def _task(config: str, overrides: str) -> Task:
    return build(from_run_config({"config": config, "overrides": overrides}))


def params_of(message: Message, task: Task) -> Params:
    """Return the global model that came with a message, on the task's device.

    Raises
    ------
    MalformedMessage
        If its names or shapes are not those of the task's model.
    """
    arrays = arrays_of(message)
    wanted = {name: tuple(p.shape) for name, p in task.module.named_parameters()}
    given = {name: tuple(array.shape) for name, array in arrays.items()}
    if given != wanted:
        raise MalformedMessage(f"the global model has {given}, this client's model {wanted}")
    return {name: p.to(task.device, task.dtype) for name, p in to_params(arrays).items()}
