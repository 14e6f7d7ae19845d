"""All checks of what a person gives."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from nufed.client_app.meta_gradient import MODES, Batch
from nufed.conf.errors import InputError
from nufed.conformance.drawing import drawn_apart
from nufed.conformance.evaluation import Evaluation, of_test_rows
from nufed.conformance.findings import Finding, Report
from nufed.conformance.gradients import closed_form, identify, on_network
from nufed.conformance.implementation import Draw, Evaluate, Implementation, Local, Raised, Step
from nufed.conformance.moves import measure, step_sizes
from nufed.conformance.problems import LossOfOutputs, Problem, clusters, network, own, quadratic
from nufed.conformance.rounds import clients, local_steps, restored
from nufed.tasks.streams import Purpose, seeded, stream

TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-4}
"""Relative, of a gradient."""


def check(
    step: Step | None = None,
    *,
    local: Local | None = None,
    evaluate: Evaluate | None = None,
    draw: Draw | None = None,
    mode: str = "exact",
    nu: Sequence[int] = (1, 3),
    alpha: float = 0.3,
    beta: float = 0.5,
    loss_fn: LossOfOutputs | None = None,
    model: Callable[[], nn.Module] | None = None,
    rows: Batch | None = None,
    same_support: bool = False,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> Report:
    """Check an implementation of Per-FedAvg, or MAML, against what it should compute.

    At least one of the first four is given. Each is called with copies of `model`, an
    ``nn.Module``, ``loss_fn(outputs, y)`` -> scalar, and batches (x, y).

    Parameters
    ----------
    step
        ``step(model, loss_fn, support, query, alpha, beta)``: one local step, which changes the
        model in place; `support` is a list of ν batches, one an inner step. A function that
        returns a gradient is made one by `from_gradient`.
    local
        ``local(model, loss_fn, batches, alpha, beta)``: τ local steps of a client, where the loop
        over them is to be checked too; `batches` is a list of τ pairs (support, query).
    evaluate
        ``evaluate(model, loss_fn, support, test, alpha)``: fine-tunes on `support` and measures on
        `test`. It returns what there is: an accuracy (a fraction) or another mean over rows, lists
        or a dict of such; outputs for the test rows, as a tensor; or the fine-tuned model.
    draw
        ``draw(x, y)`` -> (support, query), as batches are drawn of a client's rows.
    mode
        What it is meant to be: ``exact``, ``first_order`` or ``hessian_free``.
    nu
        Numbers of inner steps to try, each at least 1.
    alpha, beta
        Sizes of inner and outer steps. β is also tried as 0 and doubled, α also halved.
    loss_fn
        The loss, where the code does not take the one that it is given, such as
        ``torch.nn.functional.cross_entropy``. Quadratics need ``mse_loss``.
    model, rows
        A function that returns a model of one's own, without dropout, and rows (x, y) for it, to
        check with in place of a small network and a linear classifier.
    same_support
        Whether all inner steps take one batch, so that the ν support batches are to be the same.
    dtype
        ``torch.float64`` or ``torch.float32``; equal is what differs by 1e-8 or by 1e-4 at most,
        relatively.
    seed
        Of weights, rows, and the global generators that the code may draw from.

    Returns
    -------
    Report
        Printable. What fails is in it, and exceptions of the code that is checked are.

    Raises
    ------
    InputError
        If what is given cannot be used.
    """
    _require(step, local, evaluate, draw, mode, nu, alpha, beta, (model, rows), dtype)
    if loss_fn is None and rows is not None:
        loss_fn = F.mse_loss if rows[1].is_floating_point() else F.cross_entropy
    findings = list[Finding]()

    def problem(nu: int) -> Problem:
        loss = loss_fn or F.cross_entropy
        if model is None or rows is None:
            return network(nu, seed, dtype, loss, same_support)
        return own(model, rows, nu, seed, dtype, loss, same_support)

    with seeded(stream(Purpose.CONFORMANCE, seed)):  # what is drawn here is put back
        if step is not None or local is not None:
            code = Implementation(step, local, seed)
            on_quadratics = loss_fn in (None, F.mse_loss)
            for each in nu:
                findings += _of_gradient(
                    code, problem(each), alpha, beta, mode, TOLERANCE[dtype], on_quadratics
                )
            findings += _of_steps(code, problem(max(nu)), alpha, beta, TOLERANCE[dtype])
        if evaluate is not None:
            of, test = clusters(max(nu), seed, dtype)
            if model is not None or loss_fn not in (None, F.cross_entropy):
                of = problem(max(nu))
                test = of.steps[1].query
            evaluation = Evaluation(evaluate, of, test, alpha, seed)
            findings += _tried("test rows", of.name, lambda: of_test_rows(evaluation))
        if draw is not None:
            findings += _tried("draws", "200 rows", lambda: [drawn_apart(draw, seed)])
    return Report(tuple(findings))


def _of_gradient(
    code: Implementation,
    problem: Problem,
    alpha: float,
    beta: float,
    mode: str,
    tolerance: float,
    on_quadratics: bool,
) -> Iterator[Finding]:
    """Tell which gradient it is, on a network and on a quadratic."""
    taken = problem.nu

    def of_network() -> Iterator[Finding]:
        nonlocal taken
        moves = measure(code, problem, alpha, beta)
        found = None
        if not (moves.nothing or moves.ignores_alpha):
            found = identify(moves, problem, alpha, mode, tolerance)
        taken = problem.nu if found is None else found.nu
        yield from on_network(moves, problem, alpha, mode, found, tolerance)

    def of_quadratic() -> Iterator[Finding]:
        of = quadratic(problem.nu, code.seed, next(iter(problem.params.values())).dtype)
        moves = measure(code, of.problem, alpha, beta)
        yield closed_form(moves, of, alpha, mode, taken, tolerance)

    yield from _tried("gradient", problem.name, of_network)
    if on_quadratics:
        yield from _tried("gradient", f"quadratic, ν={problem.nu}", of_quadratic)


def _of_steps(
    code: Implementation, problem: Problem, alpha: float, beta: float, tolerance: float
) -> Iterator[Finding]:
    """Tell what step sizes do, and where steps and clients begin."""

    def of_one_step() -> Iterator[Finding]:
        moves = measure(code, problem, alpha, beta)
        yield from step_sizes(moves, problem.name, tolerance)
        yield restored(moves, problem.name)

    yield from _tried("step sizes", problem.name, of_one_step)
    yield from _tried(
        "local steps",
        problem.name,
        lambda: [local_steps(code, problem, alpha, beta, tolerance)],
    )
    yield from _tried("clients apart", problem.name, lambda: [clients(code, problem, alpha, beta)])


def _tried(check: str, where: str, findings: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """Return findings; where the code under test raised, that is one."""
    try:
        return list(findings())
    except Raised as raised:
        says = f"the code that is checked raised {raised}"
        return [Finding(check, where, False, "an exception", "none", says)]


def _require(
    step: Step | None,
    local: Local | None,
    evaluate: Evaluate | None,
    draw: Draw | None,
    mode: str,
    nu: Sequence[int],
    alpha: float,
    beta: float,
    own: tuple[object, object],
    dtype: torch.dtype,
) -> None:
    """Raise an `InputError` for what cannot be checked, or checked with."""
    if step is local is evaluate is draw is None:
        raise InputError("check(): give a step, local, evaluate or draw to check")
    if mode not in MODES:
        raise InputError(f"mode={mode!r}: choose one of {', '.join(MODES)}")
    if not nu or min(nu) < 1:
        raise InputError(f"nu={nu}: give numbers of inner steps from 1, such as (1, 3)")
    if not (0 < alpha < math.inf and 0 < beta < math.inf):
        raise InputError(f"alpha={alpha}, beta={beta}: give both above 0, such as 0.1")
    if (own[0] is None) != (own[1] is None):
        raise InputError("model, rows: give both, or neither")
    if dtype not in TOLERANCE:
        raise InputError(f"dtype={dtype}: choose torch.float64 or torch.float32")
