"""What is minimised and what is reported, as pure functions of a model's outputs and targets.

A row's target y says of which kind a task is:

===============  ========================  ====================================================
y [N] integers   classification            outputs [B, C]; cross-entropy; accuracy
y [N, …] int.    a class at each place     outputs [B, …, C]; the same over places; −1 is no place
y [N(, d)] real  regression                outputs [B(, d)]; half the squared error; mae
===============  ========================  ====================================================
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from nufed.tasks import undefined
from nufed.tasks.undefined import Lacks

Function = Callable[[Tensor, Tensor], Tensor]

LOWER_IS_BETTER = frozenset({"loss", "mae"})
"""Of what is reported unasked; all else is a score."""


class Batch(NamedTuple):
    """Outputs and targets side by side, a place of a sequence as a row."""

    outputs: Tensor
    """[R, …]"""
    y: Tensor
    """[R, …]"""
    weight: Tensor | None
    """[R] False for what does not count; None where all does."""


class Metric(NamedTuple):
    """Something that is reported beside the loss."""

    of: Function
    """(outputs, y) -> one value a row, or, of a set, one number."""
    by_row: bool
    """Whether it is a mean over rows; else it is one of all rows together, such as F1."""
    lacks: Lacks | None = None
    """What tells whether a set of rows will do for it, where that is known."""
    weights: Callable[[Batch], Tensor] | None = None
    """What each row counts in that mean, [R]; None where all count alike."""


@dataclass(frozen=True)
class Objective:
    """The loss and the metrics of a task."""

    classes: bool
    """Whether y holds classes; else it holds regression targets."""
    row_loss: Function | None = None
    """(outputs, y) -> one loss a row, [R] or [R, …]; None for the one above."""
    metrics: dict[str, Metric] | None = None
    """By name; None for the one above."""
    rare: bool = False
    """Whether nearly all rows are of one class: balanced accuracy then stands beside accuracy."""

    @property
    def by_row(self) -> bool:
        """Whether every metric is a mean over rows, so that rows may be stacked and weighted."""
        return all(metric.by_row for metric in self._metrics.values())

    @property
    def names(self) -> tuple[str, ...]:
        """What `scores` gives."""
        return ("loss", *self._metrics)

    def loss(self, outputs: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the mean loss of a batch, over places where y is a sequence.

        Parameters
        ----------
        outputs
            [B, …] What the model gives.
        y
            [B, …] Targets.
        weight
            [B] False for rows that do not count; None if all do.
        """
        return self._loss(self.aligned(outputs, y, weight))

    def scores(self, outputs: Tensor, y: Tensor, weight: Tensor | None = None) -> dict[str, Tensor]:
        """Return `loss` and the metrics of a batch, name -> scalar; arguments as of `loss`.

        Unless `by_row`, rows that do not count are taken out: a batch for itself, then, not vmap.
        A metric that does not exist for these rows is NaN, see `nufed.tasks.undefined`.
        """
        batch = self.aligned(outputs, y, weight)
        scores = {"loss": self._loss(batch)}
        for name, metric in self._metrics.items():
            if metric.by_row:
                value = _mean(
                    _by_row(metric.of(*batch[:2]), outputs.dtype), _weights(metric, batch)
                )
            else:
                value = _of_set(name, metric, batch).to(outputs.dtype)
            scores[name] = value
        return scores

    def row_scores(self, outputs: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Return `loss`, and the metrics that are means over rows, of each row: name -> [B].

        The mean of each is what `scores` gives. Of sequences, whose mean is one over places, a
        row's value is the sum over its places, times rows through places.
        """
        batch, rows = self.aligned(outputs, y), len(y)
        scores = {"loss": (self._losses(batch), batch.weight)} | {
            name: (metric.of(*batch[:2]), _weights(metric, batch))
            for name, metric in self._metrics.items()
            if metric.by_row
        }
        found = {}
        for name, (values, weight) in scores.items():
            each = _by_row(values, outputs.dtype)
            if weight is not None:
                weight = weight.to(outputs.dtype)
                each = (each * weight).reshape(rows, -1).sum(1) * (rows / weight.sum())
            found[name] = each
        return found

    @property
    def _metrics(self) -> dict[str, Metric]:
        if self.metrics is not None:
            return self.metrics
        if self.classes:
            beside = {"balanced_accuracy": BALANCED} if self.rare else {}
            return {"accuracy": ACCURACY} | beside
        return {"mae": MAE}

    def _loss(self, batch: Batch) -> Tensor:
        """Return the mean loss."""
        outputs, y, weight = batch
        if self.row_loss is None and self.classes and weight is None:
            return cross_entropy(outputs, y)
        return _mean(_by_row(self._losses(batch), outputs.dtype), weight)

    def _losses(self, batch: Batch) -> Tensor:
        """Return a loss for each row, [R] or [R, …]."""
        outputs, y, _ = batch
        if self.row_loss is not None:
            return self.row_loss(outputs, y)
        return surprisal(outputs, y) if self.classes else (outputs - y).square() / 2

    def aligned(self, outputs: Tensor, y: Tensor, weight: Tensor | None = None) -> Batch:
        """Return a batch as losses and metrics take it; arguments as of `loss`."""
        if not self.classes:
            y = y.to(outputs.dtype)
            same = outputs.numel() == y.numel()  # else it is a loss of one's own that knows better
            return Batch(outputs.reshape(y.shape) if same else outputs, y, weight)
        if y.ndim == 1:
            return Batch(outputs, y, weight)
        there = y >= 0
        if weight is not None:
            there = there & weight.reshape(-1, *[1] * (y.ndim - 1))
        return Batch(outputs.flatten(0, y.ndim - 1), y.clamp(min=0).flatten(), there.flatten())


def _of_set(name: str, metric: Metric, batch: Batch) -> Tensor:
    """Return a metric of the rows that count, NaN where there is none."""
    try:
        return undefined.value(metric.of, metric.lacks, *_counted(batch))
    except undefined.Undefined as why:
        undefined.note(name, why)
        return torch.full((), math.nan, device=batch.outputs.device)


def _counted(batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the rows that count."""
    if batch.weight is None:
        return batch.outputs, batch.y
    return batch.outputs[batch.weight], batch.y[batch.weight]


def cross_entropy(outputs: Tensor, y: Tensor) -> Tensor:
    """Return the mean of −log p(y).

    By the one kernel that torch has for it, unless a torch function mode knows better: of a stack
    of clients, torch computes it by another, that imports sympy, for two seconds of every start.
    """
    if has_torch_function((outputs, y)):
        return handle_torch_function(cross_entropy, (outputs, y), outputs, y)
    return F.cross_entropy(outputs, y)


def surprisal(outputs: Tensor, y: Tensor) -> Tensor:
    """Return −log p(y) of each row, [R]."""
    return -F.log_softmax(outputs, -1).gather(-1, y[:, None])[:, 0]


def _by_row(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Return one value a row: the mean of a row's own, where it has several."""
    values = values if values.is_floating_point() else values.to(dtype)
    return values.flatten(1).mean(1) if values.ndim > 1 else values


def is_right(outputs: Tensor, y: Tensor) -> Tensor:
    """Return 1 for each row of which the largest output is that of its class, else 0: [R]."""
    return (outputs.argmax(-1) == y).to(outputs.dtype)


def by_class(batch: Batch) -> Tensor:
    """Return what rows count where all classes that there are count alike, [R]: 1 / rows of its."""
    outputs, y, weight = batch
    there = outputs.new_ones(y.shape) if weight is None else weight.to(outputs.dtype)
    rows = outputs.new_zeros(outputs.shape[-1]).scatter_add(0, y, there)  # of each class, [C]
    return there / rows[y].clamp(min=1)


def balanced_accuracy(outputs: Tensor, y: Tensor) -> Tensor:
    """Return the mean, over the classes that rows have, of which part of a class's is found: []."""
    return _mean(is_right(outputs, y), by_class(Batch(outputs, y, None)))


def _weights(metric: Metric, batch: Batch) -> Tensor | None:
    return batch.weight if metric.weights is None else metric.weights(batch)


def off_by(outputs: Tensor, y: Tensor) -> Tensor:
    """Return |outputs − y|, as y is shaped."""
    return torch.abs(outputs - y)


ACCURACY, MAE = Metric(is_right, by_row=True), Metric(off_by, by_row=True)
BALANCED = Metric(is_right, by_row=True, weights=by_class)
"""`balanced_accuracy`, as a mean over rows that may be stacked and weighted."""


def _mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """Return the mean of values [R], of those that count where not all do."""
    return values.mean() if weight is None else (values * weight).sum() / weight.sum()
