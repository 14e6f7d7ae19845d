"""How parameters move in one local step, for several α and β: what the other checks read from."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from nufed.conformance.findings import Finding
from nufed.conformance.implementation import Implementation, Raised, flat
from nufed.conformance.problems import Problem


class Moves(NamedTuple):
    """All parameters in one row, in float64."""

    start: Tensor
    """w."""
    still: Tensor
    """After a step with β = 0."""
    moved: Tensor
    """With β."""
    twice: Tensor
    """With 2β."""
    other: Tensor
    """With β, and α/2."""
    beta: float

    @property
    def ignores_alpha(self) -> bool:
        """Whether half of α leads to the same place, bit by bit."""
        return torch.equal(self.moved, self.other)

    @property
    def ignores_beta(self) -> bool:
        """Whether 0, β and 2β lead to the same place, bit by bit."""
        return torch.equal(self.still, self.moved) and torch.equal(self.moved, self.twice)

    @property
    def nothing(self) -> bool:
        """Whether no step changes anything."""
        return self.ignores_beta and torch.equal(self.start, self.moved)

    @property
    def gradient(self) -> Tensor:
        """What β multiplies, also where the step with β = 0 does not end at w.

        Where β is ignored, the whole move: the gradient but for its length.
        """
        if self.ignores_beta:
            return self.start - self.moved
        return (self.still - self.moved) / self.beta


def measure(code: Implementation, problem: Problem, alpha: float, beta: float) -> Moves:
    """Take the first of a problem's local steps several times, each from w.

    Where β = 0 is refused, as an optimizer or a check may, the line through β/2 and β tells where
    such a step would end.
    """

    def after(alpha: float, beta: float) -> Tensor:
        return flat(code.run(problem, problem.steps[:1], alpha, beta))

    moved = after(alpha, beta)
    try:
        still = after(alpha, 0.0)
    except Raised:
        still = 2 * after(alpha, beta / 2) - moved
    other = after(alpha / 2, beta)
    return Moves(flat(problem.params), still, moved, after(alpha, 2 * beta), other, beta)


def step_sizes(moves: Moves, where: str, tolerance: float) -> Iterator[Finding]:
    """Tell whether α and β do what they are there for."""
    if moves.nothing:
        says = "no parameter changed: a step has to change the model that it is given, in place"
        yield Finding("step sizes", where, False, "no parameter changes", "w − β g", says)
        return
    expected = "α/2: another step"
    if moves.ignores_alpha:
        says = (
            "α/2 in place of α changed nothing: the inner step size is fixed somewhere else, or "
            "there is no inner step. Pass alpha on to the inner update."
        )
        yield Finding("alpha", where, False, "α/2: the same step", expected, says)
    else:
        yield Finding("alpha", where, True, expected, expected)
    yield _of_beta(moves, where, tolerance)


def _of_beta(moves: Moves, where: str, tolerance: float) -> Finding:
    expected = "2β: twice the step"
    if moves.ignores_beta:
        says = (
            "steps with 0, β and 2β are the same: another size, such as α or an optimizer's own, "
            "is taken. Pass beta on to the outer update."
        )
        return Finding("beta", where, False, "β: no effect", expected, says)
    step = moves.still - moves.moved
    off = float((moves.still - moves.twice - 2 * step).norm() / step.norm().clamp(min=1e-30))
    if off <= tolerance:
        return Finding("beta", where, True, expected, expected, figure=off)
    says = (
        "the step does not grow in proportion to β. Give plain SGD of size beta as the outer "
        "update: momentum, weight decay and Adam would hide the gradient."
    )
    return Finding("beta", where, False, f"2β: {off:.2g} off", expected, says, off)
