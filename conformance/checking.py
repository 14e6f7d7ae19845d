"""All checks of what a person gives."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

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
        `test`. It returns what there is: an accuracy or another mean over rows, lists or a dict of
        such; outputs for the test rows, as a tensor; or the fine-tuned model, which may be `model`
        itself. Where it returns something else, `model` is to be left as it was.
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
    given = Given(
        step, local, evaluate, draw, mode, nu, alpha, beta, loss_fn, model, rows, same_support,
        dtype, seed,
    )  # fmt: skip
    findings = list[Finding]()
    with seeded(stream(Purpose.CONFORMANCE, seed)):  # what is drawn here is put back
        if step is not None or local is not None:
            for each in nu:
                findings += _of_gradient(given, each)
            findings += _of_steps(given)
        if evaluate is not None:
            findings += _of_evaluation(given, evaluate)
        if draw is not None:
            findings += _tried("draws", "200 rows", lambda: [drawn_apart(draw, seed)])
    return Report(tuple(findings))


@dataclass(frozen=True)
class Given:
    """What is to be checked, and how; as `check` has it."""

    step: Step | None
    local: Local | None
    evaluate: Evaluate | None
    draw: Draw | None
    mode: str
    nu: Sequence[int]
    alpha: float
    beta: float
    loss_fn: LossOfOutputs | None
    model: Callable[[], nn.Module] | None
    rows: Batch | None
    same_support: bool
    dtype: torch.dtype
    seed: int

    def __post_init__(self) -> None:
        if not any((self.step, self.local, self.evaluate, self.draw)):
            raise InputError("check(): give a step, local, evaluate or draw to check")
        if self.mode not in MODES:
            raise InputError(f"mode={self.mode!r}: choose one of {', '.join(MODES)}")
        if not self.nu or min(self.nu) < 1:
            raise InputError(f"nu={self.nu}: give numbers of inner steps from 1, such as (1, 3)")
        for name, size in (("alpha", self.alpha), ("beta", self.beta)):
            if not 0 < size < math.inf:
                raise InputError(f"{name}={size}: give a step size above 0, such as 0.1")
        if (self.model is None) != (self.rows is None):
            raise InputError("model, rows: give both, or neither")
        if self.dtype not in TOLERANCE:
            raise InputError(f"dtype={self.dtype}: choose torch.float64 or torch.float32")

    @property
    def code(self) -> Implementation:
        """The step that is checked."""
        return Implementation(self.step, self.local, self.seed)

    @property
    def tolerance(self) -> float:
        """What two gradients may differ by, relatively, and be equal."""
        return TOLERANCE[self.dtype]

    def problem(self, nu: int) -> Problem:
        """Return a network, or the person's own model."""
        loss_fn = self.loss_fn or F.cross_entropy
        if self.model is None or self.rows is None:
            return network(nu, self.seed, self.dtype, loss_fn, self.same_support)
        if self.loss_fn is None and self.rows[1].is_floating_point():
            loss_fn = F.mse_loss
        return own(self.model, self.rows, nu, self.seed, self.dtype, loss_fn, self.same_support)


def _of_gradient(given: Given, nu: int) -> Iterator[Finding]:
    """Tell which gradient it is, on a network and on a quadratic."""
    problem, taken = given.problem(nu), nu

    def of_network() -> Iterator[Finding]:
        nonlocal taken
        moves = measure(given.code, problem, given.alpha, given.beta)
        found = identify(moves, problem, given.alpha, given.mode, given.tolerance)
        taken = nu if found is None else found.nu
        yield from on_network(moves, problem, given.alpha, given.mode, found, given.tolerance)

    def of_quadratic() -> Iterator[Finding]:
        of = quadratic(nu, given.seed, given.dtype)
        moves = measure(given.code, of.problem, given.alpha, given.beta)
        yield closed_form(moves, of, given.alpha, given.mode, taken, given.tolerance)

    yield from _tried("gradient", problem.name, of_network)
    if given.loss_fn in (None, F.mse_loss):
        yield from _tried("gradient", f"quadratic, ν={nu}", of_quadratic)


def _of_steps(given: Given) -> Iterator[Finding]:
    """Tell what step sizes do, and where steps and clients begin."""
    code, problem = given.code, given.problem(max(given.nu))
    alpha, beta, tolerance = given.alpha, given.beta, given.tolerance

    def of_one_step() -> Iterator[Finding]:
        moves = measure(code, problem, alpha, beta)
        yield from step_sizes(moves, problem.name, tolerance)
        yield restored(moves, problem.name, tolerance)

    def of_two_steps() -> Iterator[Finding]:
        yield local_steps(code, problem, alpha, beta, tolerance)

    def of_two_clients() -> Iterator[Finding]:
        yield clients(code, problem, alpha, beta)

    yield from _tried("step sizes", problem.name, of_one_step)
    yield from _tried("local steps", problem.name, of_two_steps)
    yield from _tried("clients apart", problem.name, of_two_clients)


def _of_evaluation(given: Given, evaluate: Evaluate) -> Iterator[Finding]:
    """Tell from which rows an evaluation learns."""
    nu = max(given.nu)
    problem, test = clusters(nu, given.seed, given.dtype)
    if given.model is not None or given.loss_fn not in (None, F.cross_entropy):
        problem = given.problem(nu)
        test = problem.steps[1].query
    evaluation = Evaluation(evaluate, problem, test, given.alpha, given.seed)
    yield from _tried("test rows", problem.name, lambda: of_test_rows(evaluation))


def _tried(check: str, where: str, findings: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """Return findings; where the code under test raised, or the like, that is one."""
    try:
        return list(findings())
    except Raised as raised:
        says = f"the code that is checked {raised}"
        return [Finding(check, where, False, "nothing to look at", "a result", says)]
