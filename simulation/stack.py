"""A stack of clients: the functions of `client_app`, on K clients at once.

Parameters are [K, …] and batches [ν, K, D, …]; `nufed.client_app.stack` makes a loss of one client
the losses of K. No function of `client_app` knows that it serves many.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nufed.client_app import sampling
from nufed.client_app.figures import reportable
from nufed.client_app.local_update import LocalStep, StepBatches, repeat_step
from nufed.client_app.messages import EvaluateInstruction, TrainInstruction
from nufed.client_app.meta_gradient import Batch, Params
from nufed.client_app.personalization import MetricsFn, personalization_curve
from nufed.client_app.sampling import Draw
from nufed.client_app.stack import repeated, stacked
from nufed.simulation.source import Source
from nufed.tasks.streams import Purpose, model_randomness, stream
from nufed.tasks.task import Task


class Drawn(NamedTuple):
    """Which rows the local steps of K clients take; their axes are those of `LocalUpdate`."""

    random: Sequence[np.random.Generator]
    """[K] The clients' generators, after these draws."""
    support: Draw
    """[τ, ν, K, D]"""
    query: Draw
    """[τ, K, D]"""
    hessian: Draw | None
    """[τ, ν, K, D]"""

    def of(self, clients: Sequence[int]) -> "Drawn":
        """Return the rows of some of the K clients, by position."""
        random = [self.random[i] for i in clients]
        hessian = None if self.hessian is None else self.hessian.of(clients)
        return Drawn(random, self.support.of(clients), self.query.of(clients), hessian)


class StackUpdate(NamedTuple):
    """What the local training of K clients gives. All of it stays on the device."""

    update: Params
    """Σ_i weight_i (w − w_{i,τ}) / Σ_i weight_i; clients that did not stay finite count as 0."""
    loss: Tensor
    """[K] mean over local steps of f_i(θ^ν; D′)."""
    meta_grad_norm: Tensor
    """[K] mean over local steps of ‖∇̃F_i(w)‖."""
    diverged_at: Tensor
    """[K] the first local step that is not finite, τ if it is only w_τ, τ + 1 if none."""


def draw_train(
    task: Task, ask: TrainInstruction, clients: Sequence[int], *, alike: bool = False
) -> Drawn:
    """Draw for K clients what `nufed.client_app.client.draw_batches` draws for each.

    Where they are to be `alike`, their batches are as long as those of any clients would be.
    """
    random = [stream(Purpose.TRAIN, ask.seed, c, ask.round) for c in clients]
    part = task.data.partition
    first, rows = part.offset[:-1][clients], part.train[clients]

    def draw(batches: tuple[int, ...], size: int | None) -> Draw:
        among = part.train if alike else rows
        positions, counts = sampling.draw_stack(random, batches, size, rows, among)
        return Draw(part.index[first[:, None] + positions], counts)

    inner, outer = (ask.tau, ask.nu), (ask.tau,)
    support, query = draw(inner, ask.support), draw(outer, ask.query)
    return Drawn(random, support, query, None if ask.hessian is None else draw(inner, ask.hessian))


def batches(source: Source, drawn: Drawn) -> Iterator[StepBatches]:
    """Yield the batches of each local step, gathered when they are due."""
    support, query = source.each(drawn.support), source.each(drawn.query)
    if drawn.hessian is None:
        return map(StepBatches, support, query)
    return map(StepBatches, support, query, source.each(drawn.hessian))


def gathered(task: Task, drawn: Drawn, client: int) -> Iterator[StepBatches]:
    """Yield one client's batches of each local step, as a client by itself gathers them."""

    def rows(draw: Draw) -> Iterator[Batch]:
        return map(task.batch, draw.rows[..., client, :])

    support, query = rows(drawn.support), rows(drawn.query)
    if drawn.hessian is None:
        return map(StepBatches, support, query)
    return map(StepBatches, support, query, rows(drawn.hessian))


def train_stack(
    source: Source,
    step: LocalStep,
    params: Params,
    drawn: Drawn,
    weights: Sequence[float],
    *,
    in_place: bool = False,
) -> StackUpdate:
    """Take τ local steps from the global model on each of K clients at once.

    Parameters
    ----------
    source
        Where rows are gathered from.
    step
        One local step of a stack.
    params
        The global model w.
    drawn
        The rows of the τ steps.
    weights
        [K] The clients' weights in the mean.
    in_place
        Whether `step` overwrites the parameters that it is given.
    """
    start = repeated(params, len(weights), copied=in_place)
    with model_randomness(drawn.random[0]):
        result = repeat_step(step, start, batches(source, drawn))
    # Subtracted before they are added up: where a client left w as it was, its update is 0.
    updates = {name: torch.sub(params[name], p, out=p) for name, p in result.params.items()}
    # Shares, not weights: a sum of large updates may overflow where their mean does not.
    shares = [weight / sum(weights) for weight in weights]
    share = torch.tensor(shares, device=source.device, dtype=result.loss.dtype)
    mean = _weighted_sum(updates, share)
    steps = reportable(result.loss) & reportable(result.meta_grad_norm)
    bad = ~torch.cat([steps, torch.ones_like(steps[:1])])
    # Where no one has to wait for the answer, a mean that is finite says that all of it is.
    if source.device.type != "cpu" or bad.any() or not all(map(_all_finite, mean.values())):
        bad[-1] = ~_finite(updates)
        mean = _weighted_sum(_without(updates, bad.any(0)), share)
    return StackUpdate(
        mean,
        result.loss.mean(0),
        result.meta_grad_norm.mean(0),
        torch.where(bad.any(0), bad.to(torch.uint8).argmax(0), len(bad)),
    )


def evaluate_stack(
    task: Task,
    source: Source,
    params: Params,
    ask: EvaluateInstruction,
    clients: Sequence[int],
) -> dict[str, Tensor]:
    """Return the personalization curves of K clients with test rows, metric -> [steps + 1, K]."""
    part = task.data.partition
    first, train = part.offset[:-1][clients], part.train[clients]
    test = part.offset[1:][clients] - first - train
    random = [stream(Purpose.EVALUATE, ask.seed, c) for c in clients]

    def gather(start: NDArray[np.int64], draw: Draw) -> Batch:
        (batch,) = source.each(Draw(part.index[start[:, None] + draw.rows], draw.counts))
        return batch

    support = gather(first, sampling.draw_stack(random, (1, ask.steps), ask.batch, train))
    x, *others = gather(first + train, sampling.every_row((1,), test))
    with model_randomness(random[0]):
        return personalization_curve(
            stacked(task.loss),
            _metrics(task),
            repeated(params, len(clients), copied=False),
            support,
            (task.inputs(x), *others),  # converted once, not at every k
            alpha=ask.alpha,
        )


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


def _all_finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def _finite(stack: Params) -> Tensor:
    """Return which clients of a stack have finite entries alone: [K]."""
    leaves = [torch.isfinite(p.reshape(len(p), -1)).all(1) for p in stack.values()]
    return torch.stack(leaves).all(0)


def _without(stack: Params, left_out: Tensor) -> Params:
    """Return a stack with the entries of some clients set to 0, in place: 0 · NaN would be NaN."""
    return {
        name: p.masked_fill_(left_out.view(-1, *[1] * (p.ndim - 1)), 0) for name, p in stack.items()
    }


def _weighted_sum(stack: Params, share: Tensor) -> Params:
    """Return Σ_i share_i update_i."""
    return {name: torch.tensordot(share, p, 1) for name, p in stack.items()}
