"""Whether an evaluation learns from the rows that it measures on, and from those that it should.

What is fine-tuned must be the same whatever the labels of the test rows are. Outputs and models are
compared bit by bit; what is told row by row, such as losses, may change in the rows alone whose
labels do. Of a figure alone, this is left to see:

- An accuracy, measured with the labels of the C classes in turn put in each other's place, sums to
  1: each row is right for exactly one of the C. It may be a fraction, a percentage or a count.
- A mean over rows is additive: with other labels for one half, for the other half and for both, it
  changes by as much for both as for each of them together. So is the square of a root of one.

Neither is a matter of chance. Other figures of a right evaluation, such as an F1 score, are
neither. A figure that test labels do not change, beside one that they do, is of no test row, such
as an accuracy on support rows; not if it says that all rows are right.

An evaluation that draws random numbers of its own is told from one that leaks by repeating it; then
its accuracy on labels drawn at random is held against chance.
"""

import math
import re
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

ELSEWHERE = re.compile(r"train|support|epoch|round|step|rate|alpha|seed", re.IGNORECASE)
"""In a key of what is not measured on test rows."""
REPEATED, LABELINGS = 10, 10
ROUNDING = 1e-4
"""Of figures, which are often computed in float32."""
SUM, ADDITIVE = "accuracies sum to 1", "additive over rows"
LEAKS = (
    "what is measured depends on the test rows' labels by more than the comparison with them: a "
    "fine-tuning step is taken on test rows, or something is fitted to them. Fine-tune on the "
    "support rows alone."
)
OTHER = (
    "not a mean over rows: a score such as F1 or a balanced accuracy is none, and neither is what "
    "learns from test rows. Return outputs for the test rows, or an accuracy beside it."
)
CHANGED = (
    "the model that was given is left changed, so that the next client, or the next round, starts "
    "from what this one was fine-tuned to, or from its running statistics. Evaluate a copy."
)
STATIC = (
    "nothing depends on the support rows' labels: no fine-tuning step is taken on them, or another "
    "model is measured than the one that was fine-tuned."
)


class Observed(NamedTuple):
    """What an evaluation returned."""

    figures: Tensor
    """Means over rows, [figures], float64."""
    elsewhere: Tensor
    """Which of them have a key by which they are of no test row, [figures]."""
    tensors: tuple[Tensor, ...]
    """Outputs or parameters."""
    kept: bool
    """Whether the model that was given is as it was, or is what is returned."""


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
        module, was = deepcopy(self.problem.module), self.problem.module.state_dict()
        support = [copied(batch) for batch in self.problem.steps[0].support]
        if other_support:
            support = [(x, self.shifted(y, 1)) for x, y in support]
        test = (self.test[0].clone(), labels.clone())
        with theirs(self.seed):
            value = self.evaluate(module, self.problem.loss_fn, support, test, self.alpha)
        returned = value is None or value is module
        left = module.state_dict()
        kept = returned or all(torch.equal(left[name], entry) for name, entry in was.items())
        return _observed(module if value is None else value, len(labels), kept=kept)

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
    if base.figures.numel():
        expected = "as it was"
        measured, says = (expected, "") if base.kept else ("changed", CHANGED)
        yield Finding("model kept", where, base.kept, measured, expected, says)
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
    if _row_by_row(evaluation, base):
        return Finding("test rows", where, True, "each row's own", expected)
    again = (evaluation.of(labels) for _ in range(REPEATED))
    if not all(_same(base, each, figures=False) for each in again):
        says = (
            "it comes out otherwise each time, from random numbers of its own. Seed them "
            "in evaluate, or return an accuracy, which is held against chance."
        )
        return Finding("test rows", where, None, "random", expected, says)
    return Finding("test rows", where, False, "changed by test labels", expected, LEAKS)


def _row_by_row(evaluation: Evaluation, base: Observed) -> bool:
    """Tell whether other labels for half of the rows change what is told of that half alone."""
    labels, rows = evaluation.test[1], len(evaluation.test[1])
    half = torch.arange(rows) < rows // 2
    if any(each.ndim != 1 or len(each) != rows for each in base.tensors):
        return False
    for changed in (half, ~half):
        seen = evaluation.of(_where(changed, evaluation.shifted(labels, 1), labels))
        pairs = zip(base.tensors, seen.tensors, strict=True)
        if not all(torch.equal(a[~changed], b[~changed]) for a, b in pairs):
            return False
    return True


def _where(changed: Tensor, other: Tensor, labels: Tensor) -> Tensor:
    return torch.where(changed.view(-1, *[1] * (labels.ndim - 1)), other, labels)


def _figures(evaluation: Evaluation) -> Finding:
    """Look at accuracies and other means over rows."""
    labels = evaluation.test[1]
    half = torch.arange(len(labels)) < len(labels) // 2
    other = evaluation.shifted(labels, 1)
    mixed = [labels, _where(half, other, labels), _where(~half, other, labels), other]
    turns = [evaluation.shifted(labels, by) for by in range(evaluation.classes or 0)]

    def measured() -> Tensor:
        return torch.stack([evaluation.of(each).figures for each in (*mixed, *turns)])

    values = measured()
    if not values.isfinite().all():
        raise Raised("returned a figure that is not finite")
    rows = labels.numel()
    units = _units(values, rows) if turns else torch.full_like(values[0], torch.nan)
    fractions = _fractions(values, units, rows)
    shown = _of_test_rows(values, fractions, evaluation.of(labels).elsewhere)
    counts = units.isfinite()
    looked_at = torch.where(counts, fractions, values)[:, shown]
    finding = _of_figures(evaluation, looked_at, counts[shown])
    again = measured()
    if finding.passed or all(torch.equal(again, measured()) for _ in range(REPEATED)):
        return finding
    return _by_chance(evaluation, torch.where(shown, units, torch.nan))


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
    off = torch.minimum(_from_additive(values[:4]), _from_additive(values[:4].square()))
    worst, at = float(off.max()), int(off.argmax())
    expected = SUM if sums.numel() else ADDITIVE
    if worst > ROUNDING:
        measured = f"{worst:.1%} from additive"
        score = classes is not None and bool(((values[:, at] >= 0) & (values[:, at] <= 1)).all())
        passed, says = (None, OTHER) if score else (False, LEAKS)
        return Finding("test rows", where, passed, measured, ADDITIVE, says, worst)
    return Finding("test rows", where, True, expected, expected)


def _from_additive(values: Tensor) -> Tensor:
    """Return how far figures, [4, figures], for none, either and both halves are from additive."""
    off = (values[0] - values[1] - values[2] + values[3]).abs()
    return off / values.abs().amax(0).clamp(min=1e-30)


def _by_chance(evaluation: Evaluation, units: Tensor) -> Finding:
    """Hold accuracies on labels drawn at random against chance: an exact binomial test."""
    where, labels, classes = evaluation.problem.name, evaluation.test[1], evaluation.classes
    counts = units.isfinite()
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
        figures = evaluation.of(drawn).figures[counts]
        right += _fractions(figures, units[counts], labels.numel()) * labels.numel()
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


def _units(values: Tensor, rows: int) -> Tensor:
    """Return the unit in which each figure is a fraction of all rows, [figures]; NaN if in none.

    1 of a fraction, else 100 of a percentage, or the number of rows of a count: where both fit,
    that in which the turns of labels, from the fifth evaluation on, sum nearer to 1.

    Parameters
    ----------
    values
        [evaluations, figures].
    """
    found = torch.full_like(values[0], torch.nan)
    nearest = torch.full_like(values[0], torch.inf)
    for unit in (1.0, 100.0, float(rows)):
        of = values / unit
        # Two digits are often all that is given of a fraction.
        rounded = (100 * of - (100 * of).round()).abs() < 1e-6
        near = (of * rows - (of * rows).round()).abs() < torch.where(rounded, 0.005 * rows, 1e-3)
        fits = (near & (of > -ROUNDING) & (of < 1 + ROUNDING)).all(0)
        off = (of[4:].sum(0) - 1).abs() if unit > 1 else torch.zeros_like(nearest)
        better = fits & (off < nearest)
        found[better], nearest[better] = unit, off[better]
    return found


def _fractions(values: Tensor, units: Tensor, rows: int) -> Tensor:
    """Return the fractions of all rows that figures are."""
    return (values / units * rows).round() / rows


def _of_test_rows(values: Tensor, fractions: Tensor, elsewhere: Tensor) -> Tensor:
    """Tell which figures are measured on test rows, where one at least must be."""
    varies = (values != values[0]).any(0)
    if not varies.any():
        return torch.ones_like(varies)
    return varies | ((fractions > 1 - ROUNDING).all(0) & ~elsewhere)


def _same(one: Observed, other: Observed, *, figures: bool = True) -> bool:
    if len(one.tensors) != len(other.tensors):
        return False
    pairs = list(zip(one.tensors, other.tensors, strict=True))
    if figures:
        pairs.append((one.figures, other.figures))
    return all(torch.equal(a, b) for a, b in pairs)


def _observed(value: Any, rows: int, *, kept: bool) -> Observed:
    """Sort what an evaluation returned: figures and lists of them, tensors and models.

    Right or wrong of each of the test rows is also an accuracy; a row of numbers that are not one a
    test row is a list of figures.

    Raises
    ------
    Raised
        If it is none of them.
    """
    figures, apart, tensors = list[float](), list[bool](), list[Tensor]()
    waiting = [(value, False)]
    while waiting:
        each, elsewhere = waiting.pop(0)
        if isinstance(each, Tensor | np.ndarray):
            each = torch.as_tensor(each).detach().clone()
            if each.ndim == 1 and each.is_floating_point() and len(each) != rows:
                waiting += [(entry, elsewhere) for entry in each]
                continue
            if each.ndim:
                tensors.append(each)
            if each.ndim == 0 or (each.dtype == torch.bool and each.shape == (rows,)):
                figures.append(float(each.double().mean()))
                apart.append(elsewhere)
        elif isinstance(each, nn.Module):
            tensors += [p.detach().clone() for p in each.parameters()]
        elif isinstance(each, Mapping):
            waiting += [(entry, bool(ELSEWHERE.search(str(key)))) for key, entry in each.items()]
        elif isinstance(each, list | tuple):
            waiting += [(entry, elsewhere) for entry in each]
        elif isinstance(each, int | float | np.number):
            figures.append(float(each))
            apart.append(elsewhere)
        else:
            kind = type(each).__name__
            raise Raised(f"returned {kind}: return figures, outputs or a model")
    if not figures and not tensors:
        raise Raised("returned nothing to look at: return figures, outputs or a model")
    of = torch.tensor(figures, dtype=torch.float64), torch.tensor(apart, dtype=torch.bool)
    return Observed(*of, tuple(tensors), kept)
