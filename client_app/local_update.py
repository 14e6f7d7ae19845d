"""The local update: τ steps w ← w − β ∇̃F_i(w) on one client, or on a stack of clients."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from nufed.client_app.meta_gradient import Batch, LossFn, Params, descend, value_and_meta_gradient


class StepBatches(NamedTuple):
    """The data of one local step, as `meta_gradient` takes them."""

    support: Batch
    """D_0 … D_{ν−1}: tensors with a leading axis ν."""
    query: Batch
    """D′."""
    hessian: Batch | None = None
    """D″_0 … D″_{ν−1}; None where the support batches serve for the Hessians too."""


class LocalUpdate(NamedTuple):
    """What local steps lead to."""

    params: Params
    """w_τ, a dict like the parameters it started from."""
    loss: Tensor
    """f_i(θ^ν; D′) at each local step, before it: [τ], or [τ, K] for a stack of K clients."""
    meta_grad_norm: Tensor
    """‖∇̃F_i(w)‖ at each local step: [τ] or [τ, K]."""


LocalStep = Callable[[Params, StepBatches], LocalUpdate]
"""One local step; of its loss and norm, the axis τ is missing."""


def local_update(
    loss_fn: LossFn,
    params: Params,
    batches: Iterable[StepBatches],
    *,
    alpha: float,
    beta: float,
    mode: str = "exact",
    delta: float = 1e-3,
    recompute: bool = False,
) -> LocalUpdate:
    """Take τ local steps w ← w − β ∇̃F_i(w) of generalized Per-FedAvg (Jamali et al. 2025).

    Parameters
    ----------
    loss_fn, params, alpha, mode, delta, recompute
        As in `nufed.client_app.meta_gradient.meta_gradient`.
    batches
        The batches of the τ steps, drawn outside. An iterator may gather each as it is needed.
    beta
        Local (outer) step size β.

    Returns
    -------
    LocalUpdate
        w_τ, and the loss and the norm of the meta-gradient of each step.
    """
    step = partial(
        local_step,
        loss_fn,
        alpha=alpha,
        beta=beta,
        mode=mode,
        delta=delta,
        recompute=recompute,
    )
    return repeat_step(step, params, batches)


def local_step(
    loss_fn: LossFn,
    params: Params,
    batches: StepBatches,
    *,
    alpha: float,
    beta: float,
    mode: str = "exact",
    delta: float = 1e-3,
    recompute: bool = False,
) -> LocalUpdate:
    """Take one local step w − β ∇̃F_i(w); arguments as in `local_update`."""
    loss, gradient = value_and_meta_gradient(
        loss_fn,
        params,
        batches.support,
        batches.query,
        alpha=alpha,
        mode=mode,
        hessian=batches.hessian,
        delta=delta,
        recompute=recompute,
    )
    return LocalUpdate(descend(params, gradient, beta), loss, norm(gradient, axes=loss.ndim))


def repeat_step(step: LocalStep, params: Params, batches: Iterable[StepBatches]) -> LocalUpdate:
    """Take one local step for each of `batches`, from `params` on."""
    losses, norms = [], []
    for batch in batches:
        params, loss, meta_grad_norm = step(params, batch)
        losses.append(loss)
        norms.append(meta_grad_norm)
    return LocalUpdate(params, torch.stack(losses), torch.stack(norms))


def norm(params: Params, axes: int = 0) -> Tensor:
    """Return the Euclidean norm of all entries of `params` together.

    The first `axes` axes, those of a stack, are kept: a scalar, or [K] for `axes` = 1.
    """
    flat = [p.reshape(*p.shape[:axes], -1) for p in params.values()]
    leaves = torch.stack([torch.linalg.vector_norm(p, dim=-1) for p in flat])
    total: Tensor = torch.linalg.vector_norm(leaves, dim=0)
    return total
