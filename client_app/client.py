"""One client's work: pure functions of the task, the global model and what the server asked for."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from nufed.client_app import sampling
from nufed.client_app.figures import reportable
from nufed.client_app.local_update import StepBatches, local_update
from nufed.client_app.messages import EvaluateInstruction, TrainInstruction
from nufed.client_app.meta_gradient import Batch, Params, descend
from nufed.client_app.personalization import personalization_curve
from nufed.tasks.module_state import unchanged
from nufed.tasks.streams import Purpose, model_randomness, stream
from nufed.tasks.task import Task


class ClientUpdate(NamedTuple):
    """What one client's local training gives."""

    update: Params
    """w − w_τ, a pseudo-gradient."""
    loss: float
    meta_grad_norm: float
    diverged_at: int | None
    """The local step whose loss or meta-gradient was not finite, τ if it is only w_τ."""


def train(task: Task, params: Params, ask: TrainInstruction, client: int) -> ClientUpdate:
    """Take τ local steps from the global model on the client's train rows."""
    random = stream(Purpose.TRAIN, ask.seed, client, ask.round)
    batches = draw_batches(task, ask, client, random)
    with model_randomness(random), unchanged(task.module):
        result = local_update(task.loss, params, batches, **ask.step)
    update = descend(params, result.params, 1.0)
    finite = reportable(result.loss) & reportable(result.meta_grad_norm)
    diverged = [*torch.nonzero(~finite).flatten().tolist(), *_non_finite_end(update, ask.tau)]
    return ClientUpdate(
        update,
        float(result.loss.mean()),
        float(result.meta_grad_norm.mean()),
        diverged[0] if diverged else None,
    )


def draw_batches(
    task: Task, ask: TrainInstruction, client: int, random: np.random.Generator
) -> Iterator[StepBatches]:
    """Draw the batches of τ local steps, independently of each other; gather each when its due."""
    rows = task.data.partition.train_rows(client)

    def drawn(batches: tuple[int, ...], size: int | None) -> Iterator[Batch]:
        return map(task.batch, rows[sampling.draw(random, batches, size, len(rows))])

    # All is drawn before the first step, in this order, whatever the model draws meanwhile.
    support = drawn((ask.tau, ask.nu), ask.support)
    query = drawn((ask.tau,), ask.query)
    if ask.hessian is None:
        return map(StepBatches, support, query)
    return map(StepBatches, support, query, drawn((ask.tau, ask.nu), ask.hessian))


def evaluate(
    task: Task, params: Params, ask: EvaluateInstruction, client: int
) -> dict[str, list[float]] | None:
    """Return the client's personalization curve, metric -> [K + 1]; None if it has no test row.

    The fine-tuning batches come from the train rows and the metrics from the test rows. The same
    batches are drawn in every round, so that curves of different rounds differ by the model alone.
    """
    train, test = task.data.partition.train_rows(client), task.data.partition.test_rows(client)
    if len(test) == 0:
        return None
    random = stream(Purpose.EVALUATE, ask.seed, client)
    support = task.batch(train[sampling.draw(random, (ask.steps,), ask.batch, len(train))])
    with model_randomness(random), unchanged(task.module):
        curve = personalization_curve(
            task.loss, task.metrics, params, support, task.batch(test), alpha=ask.alpha
        )
    return {name: values.tolist() for name, values in curve.items()}


def _non_finite_end(update: Params, tau: int) -> list[int]:
    """Return [τ] if the last local step left a parameter that is not finite, else nothing."""
    finite = all(bool(torch.isfinite(tensor).all()) for tensor in update.values())
    return [] if finite else [tau]
