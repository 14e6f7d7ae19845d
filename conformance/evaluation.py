"""Whether an evaluation learns from the rows that it measures on, and from those that it should.

What is fine-tuned must be the same whatever the labels of the test rows are. Outputs and models are
compared bit by bit. Of a figure alone, this is left to see:

- An accuracy, measured with the labels of the C classes in turn put in each other's place, sums to
  1: each row is right for exactly one of the C.
- A mean over rows is additive: with other labels for one half, for the other half and for both, it
  changes by as much for both as for each of them together.

Neither is a matter of chance. An evaluation that draws random numbers of its own is told from one
that leaks by repeating it; then its accuracy on labels drawn at random is held against chance.
"""

import math
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from nufed.client_app.meta_gradient import Batch
from nufed.conformance.drawing import FALSE_ALARM
from nufed.conformance.findings import Finding
from nufed.conformance.implementation import Evaluate, Raised, theirs
from nufed.conformance.problems import Problem, copied
from nufed.tasks.streams import Purpose, stream, torch_stream

REPEATED, LABELINGS = 10, 10
ROUNDING = 1e-4
"""Of figures, which are often computed in float32."""
SUM, ADDITIVE = "accuracies sum to 1", "additive over rows"
LEAKS = (
    "what is measured depends on the test rows' labels by more than the comparison with them: a "
    "fine-tuning step is taken on test rows, or something is fitted to them. Fine-tune on the "
    "support rows alone."
)
STATIC = (
    "nothing depends on the support rows' labels: no fine-tuning step is taken on them, or another "
    "model is measured than the one that was fine-tuned."
)


class Observed(NamedTuple):
    """What an evaluation returned."""

    figures: Tensor
    """Means over rows, [figures], float64."""
    tensors: tuple[Tensor, ...]
    """Outputs or parameters."""


@dataclass(frozen=True)
class Evaluation:
    """An evaluation, and what it is called with."""

    evaluate: Evaluate
    problem: Problem
    test: Batch
    alpha: float
    seed: int

    @property
    def classes(self) -> int | None:
        """C; None for a regression."""
        x, y = self.test
        if y.is_floating_point():
            return None
        with torch.no_grad():
            return int(deepcopy(self.problem.module)(x).shape[-1])

    def of(self, labels: Tensor, *, other_support: bool = False) -> Observed:
        """Evaluate with these labels of the test rows, and perhaps others of the support rows."""
        module = deepcopy(self.problem.module)
        support = [copied(batch) for batch in self.problem.steps[0].support]
        if other_support:
            support = [(x, self.shifted(y, 1)) for x, y in support]
        test = (self.test[0].clone(), labels.clone())
        with theirs(self.seed):
            value = self.evaluate(module, self.problem.loss_fn, support, test, self.alpha)
        return _observed(module if value is None else value)

    def shifted(self, labels: Tensor, by: int) -> Tensor:
        """Return other labels: of the class so much further on, or so much larger."""
        return labels + by if self.classes is None else (labels + by) % self.classes


def of_test_rows(evaluation: Evaluation) -> Iterator[Finding]:
    """Tell whether test labels have a part in what is measured, and whether support labels do."""
    where, labels = evaluation.problem.name, evaluation.test[1]
    base = evaluation.of(labels)
    leak = _tensors(evaluation, base) if base.tensors else None
    if base.figures.numel() and (leak is None or leak.passed):
        leak = _figures(evaluation)
    assert leak is not None, "_observed finds one or the other"
    yield leak
    if leak.passed is False:
        says = "since it learns from test rows."
        yield Finding("adapts", where, None, "–", "to support labels", says)
        return
    other = evaluation.of(labels, other_support=True)
    passed = not _same(base, other)
    measured = "to support labels" if passed else "to nothing"
    says = "" if passed else STATIC
    yield Finding("adapts", where, passed, measured, "to support labels", says)


def _tensors(evaluation: Evaluation, base: Observed) -> Finding:
    """Compare outputs or parameters for two sets of test labels."""
    where, labels = evaluation.problem.name, evaluation.test[1]
    expected = "model or outputs unchanged"
    if _same(base, evaluation.of(evaluation.shifted(labels, 1)), figures=False):
        return Finding("test rows", where, True, expected, expected)
    again = (evaluation.of(labels) for _ in range(REPEATED))
    if not all(_same(base, each, figures=False) for each in again):
        says = (
            "it comes out otherwise each time, from random numbers of its own. Seed them "
            "in evaluate, or return an accuracy, which is held against chance."
        )
        return Finding("test rows", where, None, "random", expected, says)
    return Finding("test rows", where, False, "changed by test labels", expected, LEAKS)


def _figures(evaluation: Evaluation) -> Finding:
    """Look at accuracies and other means over rows."""
    labels = evaluation.test[1]
    half = torch.arange(len(labels)) < len(labels) // 2
    half = half.view(-1, *[1] * (labels.ndim - 1))
    other = evaluation.shifted(labels, 1)
    mixed = [labels, torch.where(half, other, labels), torch.where(half, labels, other), other]
    turns = [evaluation.shifted(labels, by) for by in range(evaluation.classes or 0)]

    def measured() -> Tensor:
        return torch.stack([evaluation.of(each).figures for each in (*mixed, *turns)])

    values = measured()
    if not values.isfinite().all():
        raise Raised("returned a figure that is not finite")
    rows = labels.numel()
    counts = _counted(values, rows) if turns else torch.zeros(values.shape[1]).bool()
    finding = _of_figures(evaluation, values, counts)
    if finding.passed or all(torch.equal(values, measured()) for _ in range(REPEATED)):
        return finding
    return _by_chance(evaluation, counts)


def _of_figures(evaluation: Evaluation, values: Tensor, counts: Tensor) -> Finding:
    """Hold the sum of accuracies against 1, and means over rows against being additive."""
    where, rows, classes = evaluation.problem.name, evaluation.test[1].numel(), evaluation.classes
    sums = values[4:, counts].sum(0)
    if classes is not None and sums.numel():
        # Error rates sum to C − 1.
        off = torch.minimum((sums - 1).abs(), (sums - (classes - 1)).abs())
        worst = float(sums[off.argmax()])
        if float(off.max()) * rows > 0.5:
            measured = f"accuracies sum to {worst:.2f}"
            return Finding("test rows", where, False, measured, SUM, LEAKS, worst)
    off = (values[0] - values[1] - values[2] + values[3]).abs()
    off /= values[:4].abs().amax(0).clamp(min=1e-30)
    worst = float(off.max())
    expected = SUM if sums.numel() else ADDITIVE
    if worst > ROUNDING:
        measured = f"{worst:.1%} from additive"
        return Finding("test rows", where, False, measured, ADDITIVE, LEAKS, worst)
    return Finding("test rows", where, True, expected, expected)


def _by_chance(evaluation: Evaluation, counts: Tensor) -> Finding:
    """Hold accuracies on labels drawn at random against chance: an exact binomial test."""
    where, labels, classes = evaluation.problem.name, evaluation.test[1], evaluation.classes
    if classes is None or not counts.any():
        says = (
            "it comes out otherwise each time, from random numbers of its own. Seed them "
            "in evaluate, or return an accuracy, which is held against chance."
        )
        return Finding("test rows", where, None, "random", ADDITIVE, says)
    random = torch_stream(stream(Purpose.CONFORMANCE, evaluation.seed, client=7))
    right = torch.zeros(int(counts.sum()), dtype=torch.float64)
    for _ in range(LABELINGS):
        drawn = torch.randint(classes, labels.shape, generator=random)
        right += evaluation.of(drawn).figures[counts] * labels.numel()
    rows, most = LABELINGS * labels.numel(), round(float(right.max()))
    probability = min(1.0, len(right) * at_least(most, rows, 1 / classes))
    passed = probability >= FALSE_ALARM
    measured = f"{most / rows:.1%} right of labels drawn at random"
    says = "" if passed else f"{LEAKS} (Probability of that by chance: {probability:.0e}.)"
    expected = f"{1 / classes:.1%}, by chance"
    return Finding("test rows", where, passed, measured, expected, says, most / rows)


def at_least(right: int, rows: int, chance: float) -> float:
    """Return the probability that a binomial variable is `right` or more."""
    logs = [
        math.lgamma(rows + 1)
        - math.lgamma(k + 1)
        - math.lgamma(rows - k + 1)
        + k * math.log(chance)
        + (rows - k) * math.log1p(-chance)
        for k in range(right, rows + 1)
    ]
    return min(1.0, math.fsum(map(math.exp, logs)))


def _counted(values: Tensor, rows: int) -> Tensor:
    """Tell which figures are always a number of rows as a fraction of all."""
    counts = values * rows
    whole = (counts - counts.round()).abs() < 1e-3
    return (whole & (values > -ROUNDING) & (values < 1 + ROUNDING)).all(0)


def _same(one: Observed, other: Observed, *, figures: bool = True) -> bool:
    if len(one.tensors) != len(other.tensors):
        return False
    pairs = list(zip(one.tensors, other.tensors, strict=True))
    if figures:
        pairs.append((one.figures, other.figures))
    return all(torch.equal(a, b) for a, b in pairs)


def _observed(value: Any) -> Observed:
    """Sort what an evaluation returned: figures and lists of them, tensors and models.

    Raises
    ------
    Raised
        If it is none of them.
    """
    figures, tensors = list[float](), list[Tensor]()
    waiting = [value]
    while waiting:
        each = waiting.pop(0)
        if isinstance(each, nn.Module):
            tensors += [p.detach().clone() for p in each.parameters()]
        elif isinstance(each, Mapping):
            waiting += each.values()
        elif isinstance(each, list | tuple):
            waiting += each
        elif isinstance(each, int | float | np.number) or (
            isinstance(each, Tensor | np.ndarray) and each.ndim == 0
        ):
            figures.append(float(each.detach() if isinstance(each, Tensor) else each))
        elif isinstance(each, Tensor | np.ndarray):
            tensors.append(torch.as_tensor(each).detach().clone())
        else:
            kind = type(each).__name__
            raise Raised(f"returned {kind}: return figures, outputs or a model")
    if not figures and not tensors:
        raise Raised("returned nothing to look at: return figures, outputs or a model")
    return Observed(torch.tensor(figures, dtype=torch.float64), tuple(tensors))
