"""What a sample says of all: means and suprema, and by how much they may be off."""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Estimate(NamedTuple):
    """A measured value, and by what it may be off."""

    value: float
    errors: dict[str, float]
    """``Lanczos``: the residual of the eigenvalue. ``clients``, ``rows``: the standard error of
    having drawn them, 0 where all were taken."""

    @property
    def error(self) -> float:
        """All errors together, as if they were independent."""
        return math.hypot(*self.errors.values())

    def also(self, name: str, error: float) -> "Estimate":
        """Return the estimate with one more error."""
        return Estimate(self.value, {**self.errors, name: error})


def mean_square(drawn: Tensor, n: int) -> Tensor:
    """Return the mean square around their mean of n vectors, some of them drawn; and its error."""
    squares = (drawn - drawn.mean(0)).double().square().sum(1).cpu()
    k = len(squares)
    if k == 1:
        return squares.new_tensor([0.0, 0.0 if n == 1 else torch.inf])
    error = squares.std() * math.sqrt(1 / k - 1 / n)
    # Around the sample's own mean they are less by a part in k.
    return torch.stack([squares.mean(), error]) * (k / (k - 1) * (n - 1) / n)


def supremum(values: Tensor, n: int, residuals: Tensor | None = None) -> Estimate:
    """Return the largest of values [points, K], and the jackknife's error of drawing K of n."""
    best = values.amax(0)
    drawn = len(best)
    error = 0.0
    if drawn < n:
        first, second = torch.cat([best, best.new_zeros(1)]).topk(2).values.tolist()
        error = (drawn - 1) / drawn * (first - second) * math.sqrt(1 - drawn / n)
    found = Estimate(float(best.max()) + 0.0, {"clients": error})  # -0.0 is no curvature
    return found if residuals is None else found.also("Lanczos", at_largest(values, residuals))


def at_largest(values: Tensor, errors: Tensor) -> float:
    """Return the error of the largest of values."""
    return float(errors.flatten()[values.argmax()])


def root(squared: Estimate) -> Estimate:
    """Return the square root, its errors to first order."""
    value = math.sqrt(max(squared.value, 0.0)) if squared.value == squared.value else math.nan
    slope = 1 / (2 * value) if value > 0 else 0.0
    return Estimate(value, {name: slope * error for name, error in squared.errors.items()})


def by_value(estimate: Estimate) -> tuple[bool, float]:
    """Order estimates; NaN is larger than any."""
    return math.isnan(estimate.value), estimate.value
