"""Diagnostics of a run: how small ‖∇F(w)‖² is by now, and the constants that its bound depends on.

∇F(w) = (1/n) Σ ∇F_i(w), over all participating clients and all their train rows, is asked of them
by the messages that they train by: after one local step of size 1 a client's update w − w_{i,1} is
∇F_i(w), of the loss that training sees, with its dropout. So it works wherever training does. The
server takes no step, and training goes on as if nothing had been asked. The constants need rows,
and are measured where the data set is here.
"""

import time
from functools import partial
from typing import Any

import torch
from flwr.app import ArrayRecord, Message, MessageType
from flwr.serverapp import Grid

from nufed.client_app.algorithm import algorithm_of, norm
from nufed.client_app.algorithms.meta_gradient import meta_gradient_of
from nufed.client_app.mean import StreamingMean
from nufed.client_app.messages import Fixed, Numbers, TrainInstruction
from nufed.client_app.meta_gradient import Params
from nufed.client_app.wire import encode, to_params
from nufed.conf.schema import Config
from nufed.server_app.tracking import Row
from nufed.strategies.exchange import exchange
from nufed.strategies.replies import Failure, Sent, read_replies, read_update
from nufed.strategies.roster import Roster
from nufed.tasks.task import Task
from nufed.theory.constants import Method
from nufed.theory.estimate import Effort, estimate

EFFORT = Effort(clients=20, steps=12)  # again and again: less than one would spend once


def diagnose(
    grid: Grid, roster: Roster, config: Config, task: Task, round: int, arrays: ArrayRecord
) -> Row:
    """Return what to add to the row of a round that is diagnosed: `diagnostics`, and its seconds.

    Parameters
    ----------
    arrays
        The global model w after the round.
    """
    started = time.perf_counter()
    roster.refresh(grid)
    found = meta_gradient_norm(grid, roster, config, task, round, arrays)
    if task.data.rows_here and roster.participating:
        measured = estimate(
            task,
            [to_params(arrays)],
            Method.of(meta_gradient_of(config.algorithm)),
            roster.participating,
            effort=EFFORT,
            seed=config.seed,
        )
        found["estimates"] = {name: e._asdict() for name, e in measured.of.items()}
    return {"diagnostics": found, "diagnostics_s": time.perf_counter() - started}


def meta_gradient_norm(
    grid: Grid, roster: Roster, config: Config, task: Task, round: int, arrays: ArrayRecord
) -> dict[str, Any]:
    """Return ‖∇F(w)‖² over the clients that answered, how many did, and who could not and why."""
    of = partial(TrainInstruction, round, config.seed, weighting="uniform", whole=True)
    also = (Fixed.of(task), Numbers.of(algorithm_of(config.algorithm)))
    content = partial(encode, arrays=arrays, also=also)
    sent = [
        Sent(Message(content(of(clients=some)), node, MessageType.TRAIN), some)
        for node, some in roster.nodes_of(roster.participating).items()
    ]
    replies = exchange(grid, [s.message for s in sent], config.server.round_timeout)
    like: Params = to_params(arrays)
    mean, failures, clients = StreamingMean(), list[Failure](), 0
    read = partial(read_update, like=like, rows=roster.rows, failures=failures)
    for report, received in read_replies(read, sent, replies, failures):
        for some, update in received:
            mean.add(update, len(some))
        clients += len(report.clients)
        failures += [Failure(client, "∇F_i is not finite") for client in report.diverged]
        failures += map(Failure, report.failed, report.reasons)
    return {
        "meta_grad_norm2": float(norm(mean.value(torch.float64)).square()) if clients else None,
        "clients": clients,
        "failures": [failure.row(roster.ids) for failure in failures],
    }
