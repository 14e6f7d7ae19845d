"""One client's work: pure functions of the task, what is shared and what it is to do."""

from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch

from nufed.client_app import sampling
from nufed.client_app.algorithm import Algorithm, Batches, Draws, local_update
from nufed.client_app.figures import all_finite, reportable
from nufed.client_app.meta_gradient import Batch, Params
from nufed.client_app.personalization import personalization_curve
from nufed.client_app.work import Measuring, Training, states_of
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
    """The local step whose loss or gradient was not finite, τ if it is only what it led to."""
    metrics: dict[str, float]
    """Mean over local steps of what the algorithm shows besides."""


def train(task: Task, shared: Params, job: Training, client: int) -> ClientUpdate:
    """Take τ local steps from what is shared on the client's train rows."""
    algorithm = job.algorithm
    random = stream(Purpose.TRAIN, job.seed, client, job.round)
    batches = draw_batches(task, job, client, random)
    (state,) = states_of(task, shared, job, [client])
    with model_randomness(random), unchanged(task.module):
        step = partial(algorithm.step, task.loss)
        result = local_update(algorithm, step, shared, state, batches)
    finite = reportable(result.loss) & reportable(result.norm)
    led_to = result.update | {f"state/{name}": p for name, p in result.state.items()}
    diverged = [*torch.nonzero(~finite).flatten().tolist(), *_non_finite_end(led_to, job.tau)]
    if not diverged:
        job.states.keep(client, job.round, result.state)
    return ClientUpdate(
        result.update,
        float(result.loss.mean()),
        float(result.norm.mean()),
        diverged[0] if diverged else None,
        {name: float(values.mean()) for name, values in result.metrics.items()},
    )


def draw_batches(
    task: Task, job: Training, client: int, random: np.random.Generator
) -> Iterator[Batches]:
    """Draw the batches of τ local steps, independently of each other; gather each when its due."""
    rows = task.data.partition.train_rows(client)

    def drawn(of: Draws) -> Iterator[Batch]:
        shape = (job.tau, *of.shape)
        return map(task.batch, rows[sampling.draw(random, shape, of.rows, len(rows))])

    # All is drawn before the first step, in this order, whatever the model draws meanwhile.
    kinds = {name: drawn(of) for name, of in job.algorithm.draws().items()}
    return by_step(kinds, job.tau)


def by_step(kinds: dict[str, Iterator[Batch]], tau: int) -> Iterator[Batches]:
    """Yield the batches of each of τ local steps, by name, each gathered when its step is due."""
    for _ in range(tau):
        yield {name: next(batches) for name, batches in kinds.items()}


def evaluate(
    task: Task, shared: Params, job: Measuring, client: int
) -> dict[str, list[float]] | None:
    """Return the client's personalization curve, metric -> [K + 1]; None if it has no test row.

    The fine-tuning batches come from the train rows and the metrics from the test rows. The same
    batches are drawn in every round, so that curves of different rounds differ by the model alone.
    """
    test = task.data.partition.test_rows(client)
    if len(test) == 0:
        return None
    random = stream(Purpose.EVALUATE, job.seed, client)
    support, each = support_of(task, job.algorithm, client, random, job.steps, job.batch)
    (state,) = states_of(task, shared, job, [client])
    with model_randomness(random), unchanged(task.module):
        models = job.algorithm.personal(task.loss, shared, state, support)
        points = islice(models, 0, None, each)
        curve = personalization_curve(points, task.metrics, task.batch(test))
    return {name: values.tolist() for name, values in curve.items()}


def support_of(
    task: Task,
    algorithm: Algorithm,
    client: int,
    random: np.random.Generator,
    steps: int,
    size: int | None,
) -> tuple[Iterator[Batch], int]:
    """Draw what a client's model is fine-tuned on: batches, and how many of them are a step.

    A batch's rows are gathered when it is due.
    """
    rows = task.data.partition.train_rows(client)
    batches, each = sampling.fine_tuning(
        random, steps, size, len(rows), by_epoch=algorithm.by_epoch
    )
    return (task.batch(rows[some]) for some in batches), each


def _non_finite_end(led_to: Params, tau: int) -> list[int]:
    """Return [τ] if the last local step left a parameter that is not finite, else nothing."""
    finite = all(map(all_finite, led_to.values()))
    return [] if finite else [tau]
