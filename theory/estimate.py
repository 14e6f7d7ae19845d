"""The constants of the analysis, measured on the clients of a task.

A2 to A5 bound suprema over all models w and all clients. What is measured is the same quantity at
points that training visits, on the clients and rows at hand: a **lower estimate** of the supremum.
Bounds computed from these are conditional on them.

=========  ====================================================  =================================
constant   bounds                                                measured at
=========  ====================================================  =================================
L          ‖∇²f_i‖                                               θ_i^0 … θ_i^ν
l          the Hessians' spectra lie in [−l, L]                  θ_i^0 … θ_i^ν
ρ          ‖∇²f_i(θ) − ∇²f_i(θ′)‖ / ‖θ − θ′‖                     successive points θ_i^l, θ_i^{l+1}
B          ‖∇f_i‖                                                θ_i^0 … θ_i^ν
σ_G²       E‖∇f_row − ∇f_i‖²                                     θ_i^0, θ_i^ν
σ_H²       E‖(∇²f_row − ∇²f_i) v‖², ‖v‖ = 1                      θ_i^0, θ_i^ν
γ_G²       (1/n) Σ ‖∇f_i − ∇f‖²                                  φ^0 … φ^ν
γ_H²       (1/n) Σ ‖(∇²f_i − ∇²f) v‖², ‖v‖ = 1                   φ^0 … φ^ν
=========  ====================================================  =================================

θ_i^l is client i's fine-tuning trajectory from w on all its train rows; φ^l is that of the mean
loss f = (1/n) Σ f_i, the one along which the heterogeneity lemma uses A5. Norms of Hessians, and
the v for which they differ most, are found by Lanczos on Hessian-vector products. Where a loss has
kinks (ReLU) it has no ρ; what is measured is the change of the Hessian over a fine-tuning step.

Where the support batches serve for the Hessians too (`Method.shared`, Lemma 3′), L, l and ρ must
hold for the losses on batches: they are then measured on one drawn batch of every client as well.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nufed.client_app.lanczos import Spectrum, lanczos
from nufed.client_app.meta_gradient import Params
from nufed.tasks.streams import Purpose, stream, torch_stream
from nufed.tasks.task import Task
from nufed.theory.constants import Constants, Method
from nufed.theory.ensemble import Ensemble
from nufed.theory.sampled import Estimate, at_largest, by_value, mean_square, root, supremum

BASIS = 1 << 24  # entries of the vectors that Lanczos keeps at once
CHOOSING = 3  # steps of Lanczos by which the client and the point of σ_H are chosen
CLIENTS, ROWS = 50, 256  # that are taken at most, unless others are asked for
WORK = 1 << 26  # clients · rows · parameters · points, of the sample that is taken by default


@dataclass(frozen=True)
class Effort:
    """How much is measured; where there is more, it is drawn at random."""

    clients: int | None = None
    """At most so many clients; None: CLIENTS, or what WORK allows, from 5 on."""
    rows: int | None = None
    """At most so many train rows of each; None: ROWS, or what WORK allows, from 32 on."""
    steps: int = 16
    """Steps of a Lanczos run for L and l; half of them for ρ, σ_H and γ_H."""

    def sample(self, clients: int, rows: int, work: int) -> tuple[int, int]:
        """Return how many clients, of so many, and rows of each to take; `work` is of one row."""
        most = max(1, WORK // work)
        taken = min(rows, self.rows or min(ROWS, max(32, most // min(clients, 20))))
        return self.clients or min(CLIENTS, max(5, most // taken)), taken

    @property
    def most(self) -> tuple[int, int]:
        """Clients and rows to take of what costs a pass or two."""
        return self.clients or CLIENTS, self.rows or ROWS


@dataclass(frozen=True)
class Estimates:
    """Lower estimates of the constants, by their names in `Constants`, and what they are from."""

    of: dict[str, Estimate]
    clients: int
    all_clients: int
    rows: int
    """Of the client with most."""
    all_rows: int

    @property
    def constants(self) -> Constants:
        """The values, as the theory takes them."""
        return Constants(**{name: estimate.value for name, estimate in self.of.items()})


class _Points(NamedTuple):
    """A point of every client's trajectory, and the gradient there: [K, P] both."""

    theta: Tensor
    gradient: Tensor


def estimate(
    task: Task,
    models: Iterable[Params],
    method: Method,
    clients: Sequence[int],
    *,
    effort: Effort = Effort(),
    seed: int = 0,
) -> Estimates:
    """Measure the constants at some models w; of each, the largest that was found.

    Parameters
    ----------
    task
        Data, model and loss; dropout and bfloat16 are left out.
    models
        Models w, at least one: name -> tensor.
    method
        α and ν say which points fine-tuning visits from w.
    clients
        The clients that F is the mean over.
    effort
        How much is measured.
    seed
        Draws clients, rows, and where Lanczos starts.

    Returns
    -------
    Estimates
        Not finite where the gradients or Hessians that a constant is measured on are not.
    """
    work = sum(task.size) * (method.nu + 1)
    most_rows = int(task.data.partition.train[np.asarray(clients)].max())
    most_clients, most_rows = effort.sample(len(clients), most_rows, work)
    size = method.support if method.shared else None
    random = torch_stream(stream(Purpose.LANCZOS, seed))
    with task.measuring() as plain:

        def ensemble_of(rows: int) -> Ensemble:
            return Ensemble(plain, clients, most_clients, rows, stream(Purpose.CONSTANTS, seed))

        ensemble = ensemble_of(most_rows)
        batches = None if size is None else ensemble_of(min(size, most_rows))
        found = [_at(ensemble, batches, ensemble.flat(w), method, effort, random) for w in models]
    return Estimates(
        of=largest(found),
        clients=len(ensemble),
        all_clients=ensemble.all_clients,
        rows=int(ensemble.sizes.max()),
        all_rows=int(ensemble.all_sizes.max()),
    )


def largest(found: Sequence[dict[str, Estimate]]) -> dict[str, Estimate]:
    """Return the largest estimate of each constant of the first; NaN is larger than any."""
    return {name: max((some[name] for some in found), key=by_value) for name in found[0]}


def _at(
    ensemble: Ensemble,
    batches: Ensemble | None,
    w: Tensor,
    method: Method,
    effort: Effort,
    random: torch.Generator,
) -> dict[str, Estimate]:
    """Measure every constant around one w, [P]; curvature also on `batches`, if that matters."""
    path = _trajectories(ensemble, w, method)
    visited = path[: method.nu + 1]
    ends = [at.theta for at in (visited[0], visited[-1])][: len(visited)]
    sigma_g = _row_gradients(ensemble, ends)
    sigma_h = _row_hessians(ensemble, ends, effort, random)
    highest, lowest = _curvature(ensemble, visited, effort.steps, random)
    norms = torch.stack([torch.linalg.vector_norm(at.gradient, dim=-1) for at in visited])
    gamma_g, gamma_h = _heterogeneity(ensemble, w, method, effort.steps // 2, random)
    # A mean over R of N rows is off by σ √(1/R − 1/N).
    left_out = math.sqrt((1 / ensemble.sizes - 1 / ensemble.all_sizes).max())
    found = {
        "L": highest.also("rows", sigma_h.value * left_out),
        "negative": lowest.also("rows", sigma_h.value * left_out),
        "rho": _hessian_change(ensemble, path, effort.steps // 2, random),
        "B": supremum(norms, ensemble.all_clients).also("rows", sigma_g.value * left_out),
        "sigma_G": sigma_g,
        "sigma_H": sigma_h,
        "gamma_G": gamma_g.also("rows", sigma_g.value * left_out),
        "gamma_H": gamma_h.also("rows", sigma_h.value * left_out),
    }
    if batches is None or (batches.sizes == ensemble.all_sizes).all():
        return found
    curved = _curvature_of_batches(batches, w, method, effort, random)
    return found | {name: max(found[name], each, key=by_value) for name, each in curved.items()}


def _curvature_of_batches(
    batches: Ensemble, w: Tensor, method: Method, effort: Effort, random: torch.Generator
) -> dict[str, Estimate]:
    """Measure L, l and ρ of the losses on batches, by half the products."""
    path, steps = _trajectories(batches, w, method), effort.steps // 2
    highest, lowest = _curvature(batches, path[: method.nu + 1], steps, random)
    return {
        "L": highest,
        "negative": lowest,
        "rho": _hessian_change(batches, path, steps, random),
    }


def _trajectories(ensemble: Ensemble, w: Tensor, method: Method) -> list[_Points]:
    """Return θ^0 … θ^ν of every client; for ν = 0 one more, by which ρ is measured."""
    theta, path = w.expand(len(ensemble), -1), list[_Points]()
    for _ in range(max(method.nu, 1) + 1):
        path.append(_Points(theta, ensemble.gradient(theta, ensemble.everyone)))
        theta = theta - method.alpha * path[-1].gradient
    return path


def _curvature(
    ensemble: Ensemble, visited: list[_Points], steps: int, random: torch.Generator
) -> tuple[Estimate, Estimate]:
    """Return L and l: the ends of the spectra of all clients' Hessians at all points."""
    found = []
    for at in visited:

        def hessian(who: Tensor, v: Tensor, theta: Tensor = at.theta) -> Tensor:
            return ensemble.product(theta[who], who, v)

        found.append(_spectra(hessian, ensemble.everyone, at.theta, steps, random))
    negative = torch.stack([-spectrum.lowest for spectrum in found])
    if steps < visited[0].theta.shape[1]:
        negative = negative.clamp_min(0)  # only a whole spectrum is known to be above 0
    norm = torch.stack([spectrum.norm for spectrum in found])
    norm_residual = torch.stack([spectrum.norm_residual for spectrum in found])
    lowest_residual = torch.stack([spectrum.lowest_residual for spectrum in found])
    return (
        supremum(norm, ensemble.all_clients, norm_residual),
        supremum(negative, ensemble.all_clients, lowest_residual),
    )


def _hessian_change(
    ensemble: Ensemble, path: list[_Points], steps: int, random: torch.Generator
) -> Estimate:
    """Return ρ: the norm of the Hessian's change over a step, by the step's length."""
    ratios, residuals = list[Tensor](), list[Tensor]()
    for before, after in pairwise(path):

        def change(
            who: Tensor, v: Tensor, old: Tensor = before.theta, new: Tensor = after.theta
        ) -> Tensor:
            return ensemble.product(new[who], who, v) - ensemble.product(old[who], who, v)

        found = _spectra(change, ensemble.everyone, before.theta, steps, random)
        length = torch.linalg.vector_norm(after.theta - before.theta, dim=-1).double().cpu()
        length = torch.where(length == 0, 1, length)  # at an optimum: nothing changes either
        ratios.append(found.norm / length)
        residuals.append(found.norm_residual / length)
    return supremum(torch.stack(ratios), ensemble.all_clients, torch.stack(residuals))


def _row_gradients(ensemble: Ensemble, ends: list[Tensor]) -> Estimate:
    """Return σ_G: that of the client and the point where a row's gradient varies most."""
    measured = torch.stack(
        [
            torch.stack([_variance(ensemble, i, ensemble.by_row(theta[i], i)) for theta in ends])
            for i in range(len(ensemble))
        ]
    )
    variances, errors = measured.unbind(-1)
    found = supremum(variances.T, ensemble.all_clients)
    return root(found.also("rows", at_largest(variances, errors)))


def _row_hessians(
    ensemble: Ensemble, ends: list[Tensor], effort: Effort, random: torch.Generator
) -> Estimate:
    """Return σ_H: that of the client and the point where a row's Hessian seems to vary most."""

    def spectrum(client: int, theta: Tensor, steps: int) -> Spectrum:
        def spread(v: Tensor) -> Tensor:  # E(H_row − H)² v = E H_row (H_row − H) v
            own = ensemble.by_row(theta, client, v[0])
            return ensemble.by_row(theta, client, own - own.mean(0)).mean(0, keepdim=True)

        return lanczos(spread, theta[None], steps, random)

    rough = torch.tensor(
        [
            [float(spectrum(i, theta[i], CHOOSING).highest) for theta in ends]
            for i in range(len(ensemble))
        ]
    )
    client, end = divmod(int(rough.argmax()), len(ends))
    theta = ends[end][client]
    found = spectrum(client, theta, effort.steps // 2)
    of_rows = ensemble.by_row(theta, client, found.direction[0])
    value, error = _variance(ensemble, client, of_rows).tolist()
    drawn = supremum(rough.T, ensemble.all_clients).errors
    return root(Estimate(value, {**drawn, "Lanczos": float(found.highest_residual), "rows": error}))


def _heterogeneity(
    ensemble: Ensemble, w: Tensor, method: Method, steps: int, random: torch.Generator
) -> tuple[Estimate, Estimate]:
    """Return γ_G and γ_H: the largest along the trajectory of the mean loss."""
    of_gradients, of_hessians = list[Estimate](), list[Estimate]()
    everyone = ensemble.everyone
    for _ in range(method.nu + 1):
        each = w.expand(len(ensemble), -1)
        gradient = ensemble.gradient(each, everyone)
        of_gradients.append(_spread(ensemble, gradient))

        def spread(v: Tensor, each: Tensor = each) -> Tensor:  # as of a row's Hessian
            own = ensemble.product(each, everyone, v.expand_as(each))
            return ensemble.product(each, everyone, own - own.mean(0)).mean(0, keepdim=True)

        found = lanczos(spread, w[None], steps, random)
        changes = ensemble.product(each, everyone, found.direction.expand_as(each))
        residual = float(found.highest_residual)
        of_hessians.append(_spread(ensemble, changes).also("Lanczos", residual))
        w = w - method.alpha * gradient.mean(0)
    return root(max(of_gradients, key=by_value)), root(max(of_hessians, key=by_value))


def _spectra(
    operator: Callable[[Tensor, Tensor], Tensor],
    who: Tensor,
    like: Tensor,
    steps: int,
    random: torch.Generator,
) -> Spectrum:
    """Return the spectra of operator(who, v), as many at once as suits the memory."""
    at_once = max(1, BASIS // (steps * like.shape[1]))
    found = [
        lanczos(partial(operator, some), like[some], steps, random)
        for some in torch.split(who, at_once)
    ]
    return Spectrum(*map(torch.cat, zip(*found, strict=True)))


def _variance(ensemble: Ensemble, client: int, of_rows: Tensor) -> Tensor:
    """Return E‖r − E r‖² over all of a client's rows, from what some give, and its error: [2]."""
    return mean_square(of_rows, int(ensemble.all_sizes[client]))


def _spread(ensemble: Ensemble, of_clients: Tensor) -> Estimate:
    """Return (1/n) Σ ‖g_i − g‖² over all clients, from what some give, [K, P]."""
    value, error = mean_square(of_clients, ensemble.all_clients).tolist()
    return Estimate(value, {"clients": error})
