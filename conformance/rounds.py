"""Where each local step begins, and whether one client is told from the next."""

from copy import deepcopy

import torch

from nufed.conformance.findings import Finding
from nufed.conformance.implementation import Implementation, flat
from nufed.conformance.moves import Moves
from nufed.conformance.problems import Problem


def restored(moves: Moves, where: str, tolerance: float) -> Finding:
    """Tell whether a step with β = 0 ends at w, bit by bit or but for rounding."""
    expected = "β = 0: at w"
    if moves.ignores_beta:
        return Finding("w restored", where, None, "–", expected, "since β is ignored.")
    off = float((moves.still - moves.start).abs().max())
    if off <= tolerance * float(moves.start.abs().max()):
        measured = expected if off == 0 else f"{expected}, but for rounding"
        return Finding("w restored", where, True, measured, expected, figure=off)
    says = (
        "the inner steps have changed the model itself, and the outer step starts from there, "
        "θ^ν − β g in place of w − β g. Keep w aside before the inner steps and copy it back "
        "before the outer one, or adapt a copy."
    )
    return Finding("w restored", where, False, f"β = 0: {off:.2g} away", expected, says, off)


def local_steps(
    code: Implementation, problem: Problem, alpha: float, beta: float, tolerance: float
) -> Finding:
    """Tell whether two local steps are one, and one more from where that ended."""
    first, second = problem.steps
    together = flat(code.run(problem, [first, second], alpha, beta))
    middle = code.run(problem, [first], alpha, beta)
    apart = flat(code.run(problem, [second], alpha, beta, start=middle))
    last_alone = flat(code.run(problem, [second], alpha, beta))
    length = (apart - flat(problem.params)).norm().clamp(min=1e-30)
    off = float((together - apart).norm() / length)
    expected = "τ = 2: twice τ = 1"
    if off <= tolerance:
        return Finding("local steps", problem.name, True, expected, expected, figure=off)
    says = (
        "the second local step does not start from where the first ended (w − β g), or is not the "
        "same kind of step: look for what is kept from one to the next, such as a copy of w made "
        "once a round, gradients without zero_grad, or momentum."
    )
    if float((together - last_alone).norm() / length) <= tolerance:
        says = (
            "the second local step starts from w again, so that the first is lost: copy w aside "
            "before each local step, and not once a round."
        )
    measured = f"τ = 2: {off:.2g} off"
    return Finding("local steps", problem.name, False, measured, expected, says, off)


def clients(code: Implementation, problem: Problem, alpha: float, beta: float) -> Finding:
    """Tell whether a client ends where it did before another was served, in one module."""
    module, (one, other) = deepcopy(problem.module), problem.steps
    before, _, after = (
        flat(code.run(problem, [each], alpha, beta, module=module)) for each in (one, other, one)
    )
    off = float((after - before).abs().max())
    expected = "as if alone"
    if torch.equal(before, after):
        return Finding("clients apart", problem.name, True, expected, expected, figure=0.0)
    says = (
        "a client ends elsewhere if another was served before it, from the same w: something is "
        "kept between clients, such as gradients, an optimizer's state, or a generator of random "
        "numbers that is not seeded for each."
    )
    return Finding("clients apart", problem.name, False, f"{off:.2g} away", expected, says, off)
