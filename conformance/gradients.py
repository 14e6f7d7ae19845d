"""Which gradient a step descends: exact, first-order, Hessian-free, of how many inner steps.

References are the closed form of quadratics, `nufed.client_app.meta_gradient`, and, independent of
both, central differences of the loss after ν inner steps.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from nufed.client_app.meta_gradient import Batch, meta_gradient
from nufed.conformance.findings import Finding
from nufed.conformance.implementation import flat
from nufed.conformance.moves import Moves
from nufed.conformance.problems import LocalStep, Problem, Quadratic
from nufed.tasks.streams import Purpose, stream, torch_stream

EXACT, FIRST_ORDER, HESSIAN_FREE = "exact", "first_order", "hessian_free"
CALLED = {EXACT: "exact", FIRST_ORDER: "first-order", HESSIAN_FREE: "Hessian-free"}
HESSIAN_TERM = 0.005
"""Part of ‖exact − first-order‖ within which of the exact gradient one is Hessian-free."""
DIRECTIONS = 5
DIFFERENCE = 1e-5
SLOPES = 1e-6
"""Relative error of central differences, with room to spare."""
AS_GIVEN, QUERY = "support", "query"

SAYS = {
    (EXACT, FIRST_ORDER): (
        "this is first-order MAML: ∇f at θ^ν, without the factors I − α∇²f. The inner update left "
        "the graph: written to param.data or under no_grad, detached, or its gradient taken "
        "without create_graph=True. Let θ be a function of w, or say mode='first_order'."
    ),
    (EXACT, HESSIAN_FREE): (
        "close to the exact gradient, and not equal to it: Hessian-vector products by differences? "
        "Say mode='hessian_free' if that is meant."
    ),
    (FIRST_ORDER, EXACT): "the Hessians are in it: say mode='exact'.",
    (HESSIAN_FREE, FIRST_ORDER): (
        "the Hessian-vector product is missing, or vanishes: look at where the two gradients of "
        "the difference are taken, and at delta."
    ),
    (FIRST_ORDER, HESSIAN_FREE): "the Hessians are in it: say mode='hessian_free'.",
}
NEITHER = (
    "neither exact nor first-order, also with more or fewer inner steps and other batches. Look "
    "for an optimizer with momentum, weight decay, gradients that add up without zero_grad, "
    "clipping, α applied otherwise, a loss that is a sum over rows and not their mean, or Hessian "
    "factors in the wrong order."
)


class Found(NamedTuple):
    """The first of the candidates that the gradient equals."""

    mode: str
    nu: int
    inner: str
    """Which batches the inner steps took."""
    outer: str
    """Which batch the outer gradient was taken on."""


class Candidate(NamedTuple):
    """What a step may have done instead of what it should."""

    inner: tuple[Batch, ...]
    of_inner: str
    outer: Batch
    of_outer: str


def relative_error(gradient: Tensor, reference: Tensor, *, scaled: bool) -> float:
    """Return ‖g − reference‖ / ‖reference‖; `scaled`: with the length of g that makes it least."""
    if scaled:
        length = gradient @ reference / (gradient @ gradient).clamp(min=1e-30)
        gradient = gradient * length.clamp(min=0)
    return float((gradient - reference).norm() / reference.norm().clamp(min=1e-30))


def closed_form(
    moves: Moves, of: Quadratic, alpha: float, mode: str, steps_taken: int, tolerance: float
) -> Finding:
    """Compare with M^{2ν} H (w − c), exact, and M^ν H (w − c), first-order; M = I − αH.

    Parameters
    ----------
    steps_taken
        ν; or the inner steps that were really taken, where another check has found that out.
    """
    where = of.problem.name
    if unable := _unable(moves):
        return Finding("gradient", where, None, "–", CALLED[mode], unable)
    exact, first = (
        _power(of, alpha, factors) @ of.hessian @ (moves.start - of.optimum)
        for factors in (2 * steps_taken, steps_taken)
    )
    if steps_taken and (unable := _undecided(exact, first, tolerance)):
        return Finding("gradient", where, None, "–", CALLED[mode], unable)
    kind = kind_of(moves, exact, first, mode, tolerance)
    return _verdict(moves, exact, where, mode, kind)


def kind_of(moves: Moves, exact: Tensor, first: Tensor, mode: str, tolerance: float) -> str | None:
    """Return which of two references the gradient equals, or that it is near the exact one."""
    near = {
        kind: relative_error(moves.gradient, reference, scaled=moves.ignores_beta)
        for kind, reference in ((EXACT, exact), (FIRST_ORDER, first))
    }
    for kind in sorted(near, key=lambda kind: kind != mode):  # where both are equal: what is meant
        if near[kind] <= tolerance:
            return kind
    term = float((exact - first).norm() / exact.norm())
    return HESSIAN_FREE if near[EXACT] <= HESSIAN_TERM * term else None


def identify(
    moves: Moves, problem: Problem, alpha: float, mode: str, tolerance: float
) -> Found | None:
    """Return what the gradient is, trying what it should be first; None if it is none of all."""
    if _unable(moves):
        return None
    double = problem.in_double()
    near = None
    for each in _candidates(double.steps[0]):
        exact, first = (_reference(double, each, alpha, kind) for kind in (EXACT, FIRST_ORDER))
        kind = kind_of(moves, exact, first, mode, tolerance)
        if kind is None:
            continue
        found = Found(kind, len(each.inner), each.of_inner, each.of_outer)
        if kind in (EXACT, FIRST_ORDER, mode):
            return found
        near = near or found  # another one may be equal
    return near


def on_network(
    moves: Moves, problem: Problem, alpha: float, mode: str, found: Found | None, tolerance: float
) -> Iterator[Finding]:
    """Tell which gradient it is, how many inner steps were taken, and on which batches."""
    where, nu = problem.name, problem.nu
    exact, first = (
        _reference(problem.in_double(), _as_it_should(problem), alpha, kind)
        for kind in (EXACT, FIRST_ORDER)
    )
    if unable := _unable(moves) or _undecided(exact, first, tolerance):
        yield Finding("gradient", where, None, "–", CALLED[mode], unable)
        return
    finding = _verdict(moves, exact, where, mode, found and found.mode)
    if found == Found(EXACT, nu, AS_GIVEN, QUERY) and finding.passed and not moves.ignores_beta:
        directions = _directions(exact - first)
        slopes = by_differences(problem, alpha, directions)
        off = float((directions @ moves.gradient - slopes).abs().max() / exact.norm())
        finding = _by_differences_too(finding, off, tolerance)
    yield finding
    if found is None:
        says = "since the gradient is none that is known."
        yield Finding("inner steps", where, None, "–", str(nu), says)
        yield Finding("batches", where, None, "–", f"support, then {QUERY}", says)
        return
    yield _inner_steps(found, problem)
    yield _batches(found, problem)


def by_differences(problem: Problem, alpha: float, directions: Tensor) -> Tensor:
    """Return the slopes at w of the loss after ν inner steps, along each of [n, parameters]."""
    double = problem.in_double()
    w = flat(double.params)
    ahead, behind = (
        torch.tensor([_loss_after(double, w + h * d, alpha) for d in directions], dtype=w.dtype)
        for h in (DIFFERENCE, -DIFFERENCE)
    )
    return (ahead - behind) / (2 * DIFFERENCE)


def _unable(moves: Moves) -> str:
    """Return why nothing can be said of the gradient, if so."""
    if moves.nothing:
        return "since nothing moves."
    return "since α is ignored." if moves.ignores_alpha else ""


def _undecided(exact: Tensor, first: Tensor, tolerance: float) -> str:
    """Return why the references do not tell one kind of gradient from another, if so."""
    if not exact.isfinite().all():
        return "since the meta-gradient is not finite here. Give a smaller alpha."
    if relative_error(first, exact, scaled=False) <= 10 * tolerance:
        return "since exact and first-order are nearly the same here. Give another alpha."
    return ""


def _verdict(moves: Moves, exact: Tensor, where: str, mode: str, kind: str | None) -> Finding:
    """Hold what the gradient was found to be against what it should be."""
    off = relative_error(moves.gradient, exact, scaled=moves.ignores_beta)
    passed = kind == mode or (kind, mode) == (EXACT, HESSIAN_FREE)
    measured = CALLED[kind] if kind else "neither"
    if not passed:
        cosine = float(torch.cosine_similarity(moves.gradient, exact, dim=0))
        measured += f": cosine {cosine:.3f}, off {off:.2g}"
    says = "" if passed else NEITHER if kind is None else SAYS[mode, kind]
    return Finding("gradient", where, passed, measured, CALLED[mode], says, off)


def _directions(hessian_term: Tensor) -> Tensor:
    """Return unit directions, [n, parameters]: along what first-order leaves out, and at random."""
    random = torch_stream(stream(Purpose.CONFORMANCE, 0, client=5))
    drawn = torch.randn(DIRECTIONS, len(hessian_term), generator=random, dtype=torch.float64)
    directions: Tensor = torch.cat([hessian_term[None], drawn])
    return directions.div_(directions.norm(dim=1, keepdim=True))


def _by_differences_too(finding: Finding, off: float, tolerance: float) -> Finding:
    """Hold a gradient that is exact against slopes of the loss after ν steps, from which it is off.

    Where they differ, the loss has no second derivative here, or the reference is wrong.
    """
    if off <= max(SLOPES, tolerance):
        return replace(finding, measured="exact, also by differences")
    says = (
        f"equal to nufed's meta-gradient, but {off:.1g} from differences of the loss after the "
        "inner steps, which has a kink near w (ReLU?). Another seed may have none."
    )
    return replace(finding, passed=None, says=says, figure=off)


def _inner_steps(found: Found, problem: Problem) -> Finding:
    nu, says = problem.nu, ""
    if found.nu != nu:
        says = "there is a support batch for each inner step, and another number of steps is taken."
    if found.nu == 0:
        says = "no inner step is taken: the gradient is FedAvg's, at w."
    passed = found.nu == nu
    return Finding("inner steps", problem.name, passed, str(found.nu), str(nu), says, found.nu)


def _batches(found: Found, problem: Problem) -> Finding:
    expected = f"support, then {QUERY}"
    passed, says = found.inner == AS_GIVEN and found.outer == QUERY, ""
    measured = expected if passed else f"{found.inner}, then {found.outer}"
    if not passed:
        says = (
            "inner steps are to take the support batches in turn, the outer gradient the query "
            "batch: on rows that the inner steps have seen it is that of another objective, "
            "and the loss it reports is too low."
        )
    return Finding("batches", problem.name, passed, measured, expected, says)


def _power(of: Quadratic, alpha: float, factors: int) -> Tensor:
    """Return M^factors."""
    m = torch.eye(len(of.hessian), dtype=torch.float64) - alpha * of.hessian
    power: Tensor = torch.linalg.matrix_power(m, factors)
    return power


def _as_it_should(problem: Problem) -> Candidate:
    step = problem.in_double().steps[0]
    return Candidate(step.support, AS_GIVEN, step.query, QUERY)


def _candidates(step: LocalStep) -> Iterator[Candidate]:
    """Yield what a step may have done, what it should first; ν to ν + 2 inner steps, and fewer."""
    outers = [(step.query, QUERY)]
    outers += [(batch, f"support batch {i}") for i, batch in enumerate(step.support, 1)]
    together = tuple(torch.cat(each) for each in zip(*step.support, step.query, strict=True))
    outers.append((together, "support and query"))
    nu = len(step.support)
    inners = [
        inner
        for taken in sorted(range(nu + 3), key=lambda taken: (abs(taken - nu), taken))
        for inner in _inners(step, taken)
    ]
    for outer, of_outer in outers:
        for inner, of_inner in inners:
            yield Candidate(inner, of_inner, outer, of_outer)
    for i, batch in enumerate(step.support):
        swapped = (*step.support[:i], step.query, *step.support[i + 1 :])
        yield Candidate(
            swapped, f"query for support batch {i + 1}", batch, f"support batch {i + 1}"
        )


def _inners(step: LocalStep, taken: int) -> Iterator[tuple[tuple[Batch, ...], str]]:
    """Yield the batches that so many inner steps may have taken; what is usual first."""
    support, more = step.support, taken - len(step.support)
    if more <= 0:
        yield support[:taken], AS_GIVEN
        if taken > 0 > more:
            yield support[-taken:], AS_GIVEN
    else:
        yield support + (support[-1],) * more, AS_GIVEN
        yield (support * 3)[:taken], AS_GIVEN
        yield support + (step.query,) * more, "support and query"
    if taken > 1:
        yield (support[0],) * taken, "support batch 1 alone"
        yield (support[-1],) * taken, "the last support batch alone"
    if taken:
        yield (step.query,) * taken, QUERY


def _reference(double: Problem, of: Candidate, alpha: float, mode: str) -> Tensor:
    """Return nufed's meta-gradient, in one row."""
    support = tuple(torch.stack(each) for each in zip(*of.inner, strict=True))
    gradient = meta_gradient(double.loss, double.params, support, of.outer, alpha=alpha, mode=mode)
    return flat(gradient)


def _loss_after(double: Problem, w: Tensor, alpha: float) -> float:
    """Return f(θ^ν) from w, by a plain loop that shares nothing with `meta_gradient`."""
    module = deepcopy(double.module)
    parameters = [p for p in module.parameters() if p.requires_grad]
    torch.nn.utils.vector_to_parameters(w, parameters)
    step = double.steps[0]
    for x, y in step.support:
        loss = double.loss_fn(module(x), y)
        gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
        with torch.no_grad():
            for p, g in zip(parameters, gradients, strict=True):
                p.sub_(g, alpha=alpha)
    with torch.no_grad():
        x, y = step.query
        return float(double.loss_fn(module(x), y))
