"""A stack of clients: the functions of `client_app`, on K clients at once.

Parameters are [K, …] and batches [ν, K, D, …]; `nufed.client_app.stacked_loss` makes a loss of
one client the losses of K. No function of `client_app` knows that it serves many.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nufed.client_app import sampling
from nufed.client_app.algorithm import Batches, Draws, clipped, local_update, norm
from nufed.client_app.client import by_step
from nufed.client_app.figures import all_finite, reportable
from nufed.client_app.meta_gradient import Batch, LossFn, Params
from nufed.client_app.personalization import MetricsFn, personalization_curve
from nufed.client_app.sampling import Draw
from nufed.client_app.stacked_loss import repeated, stacked
from nufed.client_app.work import Measuring, Training, states_of
from nufed.simulation.compiled import LocalStep
from nufed.simulation.source import Source
from nufed.tasks.streams import Purpose, model_randomness, stream
from nufed.tasks.task import Task


class Drawn(NamedTuple):
    """Which rows the local steps of K clients take."""

    random: Sequence[np.random.Generator]
    """[K] The clients' generators, after these draws."""
    kinds: Mapping[str, Draw]
    """Name -> [τ, …, K, D], as the algorithm's `draws` has them."""

    def of(self, clients: Sequence[int]) -> "Drawn":
        """Return the rows of some of the K clients, by position."""
        random = [self.random[i] for i in clients]
        return Drawn(random, {name: draw.of(clients) for name, draw in self.kinds.items()})


class StackUpdate(NamedTuple):
    """What the local training of K clients gives. All of it stays on the device."""

    update: Params
    """Σ_i weight_i update_i / Σ_i weight_i, where clients that did not stay finite, or whose update
    is too long, count as 0; or each update, [K, …], if that is asked for."""
    length: Tensor
    """[K] norm of each update before it is clipped; NaN where none is."""
    state: Params
    """[K, …]"""
    loss: Tensor
    """[K] mean over local steps of the loss that they descend."""
    meta_grad_norm: Tensor
    """[K] mean over local steps of the norm of what they descend along."""
    diverged_at: Tensor
    """[K] the first local step that is not finite, τ if it is only its end, τ + 1 if none."""
    metrics: Mapping[str, Tensor]
    """[K] each: means over local steps."""


def draw_train(task: Task, job: Training, clients: Sequence[int], *, alike: bool = False) -> Drawn:
    """Draw for K clients what `nufed.client_app.client.draw_batches` draws for each.

    Where they are to be `alike`, their batches are as long as those of any clients would be.
    """
    random = [stream(Purpose.TRAIN, job.seed, c, job.round) for c in clients]
    part = task.data.partition
    first, rows = part.offset[:-1][clients], part.train[clients]

    def draw(of: Draws) -> Draw:
        among = part.train if alike else rows
        shape = (job.tau, *of.shape)
        positions, counts = sampling.draw_stack(random, shape, of.rows, rows, among)
        return Draw(part.index[first[:, None] + positions], counts)

    return Drawn(random, {name: draw(of) for name, of in job.algorithm.draws().items()})


def batches(source: Source, drawn: Drawn, tau: int) -> Iterator[Batches]:
    """Yield the batches of each local step, gathered when they are due."""
    return by_step({name: source.each(draw) for name, draw in drawn.kinds.items()}, tau)


def gathered(task: Task, drawn: Drawn, client: int, tau: int) -> Iterator[Batches]:
    """Yield one client's batches of each local step, as a client by itself gathers them."""

    def rows(draw: Draw) -> Iterator[Batch]:
        return map(task.batch, draw.rows[..., client, :])

    return by_step({name: rows(draw) for name, draw in drawn.kinds.items()}, tau)


def train_stack(
    source: Source,
    step: LocalStep,
    shared: Params,
    job: Training,
    drawn: Drawn,
    states: Sequence[Params],
    weights: Sequence[float],
) -> StackUpdate:
    """Carry K clients through their local training at once.

    Parameters
    ----------
    source
        Where rows are gathered from.
    step
        One local step of a stack.
    shared
        What the server sent.
    job
        What is to be done.
    drawn
        The rows of the τ steps.
    states, weights
        [K] The clients' states, and their weights in the mean.
    """
    start = repeated(shared, len(weights))
    with model_randomness(drawn.random[0]):
        result = local_update(
            job.algorithm, step, start, joined(states), batches(source, drawn, job.tau)
        )
    updates = result.update
    # Shares, not weights: a sum of large updates may overflow where their mean does not.
    shares = [weight / sum(weights) for weight in weights]
    share = torch.tensor(shares, device=source.device, dtype=result.loss.dtype)
    steps = reportable(result.loss) & reportable(result.norm)
    bad = ~torch.cat([steps, torch.ones_like(steps[:1])])
    length = torch.full_like(share, torch.nan)
    if job.clip_norm is not None:
        length = norm(updates, axes=1)
        too_long = torch.zeros_like(bad[0]) if job.max_norm is None else length > job.max_norm
        bad[-1] = ~(reportable(length) | too_long)
        updates = clipped(updates, length, job.clip_norm)
        share = share * ~too_long
    made = updates if job.each else _weighted_sum(updates, share)
    # Where no one has to wait for the answer, a mean that is finite says that all of it is.
    led_to = [*made.values(), *result.state.values()]
    if source.device.type != "cpu" or bad.any() or not all(map(all_finite, led_to)):
        bad[-1] |= ~_finite([*updates.values(), *result.state.values()], len(weights), bad.device)
        sound = _without(updates, bad.any(0))
        made = sound if job.each else _weighted_sum(sound, share)
    return StackUpdate(
        made,
        length,
        result.state,
        result.loss.mean(0),
        result.norm.mean(0),
        torch.where(bad.any(0), bad.to(torch.uint8).argmax(0), len(bad)),
        {name: values.mean(0) for name, values in result.metrics.items()},
    )


def joined(states: Sequence[Params]) -> Params:
    """Return the states of K clients as one, [K, …]."""
    return {name: torch.stack([state[name] for state in states]) for name in states[0]}


def evaluate_stack(
    task: Task,
    source: Source,
    shared: Params,
    job: Measuring,
    clients: Sequence[int],
) -> dict[str, Tensor]:
    """Return the personalization curves of K clients with test rows, metric -> [steps + 1, K]."""
    part = task.data.partition
    first, train = part.offset[:-1][clients], part.train[clients]
    test = part.offset[1:][clients] - first - train
    random = [stream(Purpose.EVALUATE, job.seed, c) for c in clients]

    def gathered(start: NDArray[np.int64], draw: Draw) -> Iterator[Batch]:
        return source.each(Draw(part.index[start[:, None] + draw.rows], draw.counts))

    by_epoch = job.algorithm.by_epoch
    drawn, each = sampling.fine_tuning_stack(random, job.steps, job.batch, train, by_epoch=by_epoch)
    ((x, *others),) = gathered(first + train, sampling.every_row((1,), test))
    with model_randomness(random[0]):
        models = job.algorithm.personal(
            stacked(_flat_without_rows(task.loss) if by_epoch else task.loss),
            repeated(shared, len(clients)),
            joined(states_of(task, shared, job, clients)),
            gathered(first, drawn),
        )
        points = islice(models, 0, None, each)
        # The rows are converted once, not at every k.
        return personalization_curve(points, _metrics(task), (task.inputs(x), *others))


def _flat_without_rows(loss_fn: LossFn) -> LossFn:
    """Return a loss whose gradient is 0 on a batch of which nothing counts, not 0 / 0."""

    def loss(params: Params, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        some = weight.any()
        return loss_fn(params, x, y, weight | ~some) * some

    return loss


def _metrics(task: Task) -> MetricsFn:
    """Return `Task.metrics` of a stack, name -> [K]."""
    if task.objective.by_row:
        return stacked(task.metrics)
    predict = stacked(task.predict)

    def client_by_client(params: Params, x: Tensor, *others: Tensor) -> dict[str, Tensor]:
        """Score each client's own rows: F1, say, is no mean over rows that could be weighted."""
        stack = zip(predict(params, x), *others, strict=True)
        each = [task.objective.scores(*client) for client in stack]
        return {name: torch.stack([scores[name] for scores in each]) for name in each[0]}

    return client_by_client


def _finite(stack: Sequence[Tensor], clients: int, device: torch.device) -> Tensor:
    """Return which clients of a stack of leaves have finite entries alone: [K]."""
    leaves = [torch.isfinite(p.reshape(clients, -1)).all(1) for p in stack]
    return torch.stack([torch.ones(clients, dtype=torch.bool, device=device), *leaves]).all(0)


def _without(stack: Params, left_out: Tensor) -> Params:
    """Return a stack with the entries of some clients set to 0, in place: 0 · NaN would be NaN."""
    return {
        name: p.masked_fill_(left_out.view(-1, *[1] * (p.ndim - 1)), 0) for name, p in stack.items()
    }


def _weighted_sum(stack: Params, share: Tensor) -> Params:
    """Return Σ_i share_i update_i."""
    return {name: torch.tensordot(share, p, 1) for name, p in stack.items()}
