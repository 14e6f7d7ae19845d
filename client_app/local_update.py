"""The local update: τ steps w ← w − β ∇̃F_i(w) on one client, or on a stack of clients."""

from typing import NamedTuple

import torch
from torch import Tensor

from client_app.meta_gradient import (
    Batch,
    LossFn,
    Params,
    descend,
    steps,
    value_and_meta_gradient,
)


class LocalBatches(NamedTuple):
    """The data of τ local steps; every tensor has the leading axis τ.

    `support` and `hessian` have the axis ν behind it; `hessian` is None where the support batches
    serve for the Hessians too.
    """

    support: Batch
    query: Batch
    hessian: Batch | None = None


class LocalUpdate(NamedTuple):
    """What τ local steps lead to."""

    params: Params
    """w_τ, a dict like the parameters it started from."""
    loss: Tensor
    """f_i(θ^ν; D′) at each local step, before it: [τ] or [τ, K]."""
    meta_grad_norm: Tensor
    """‖∇̃F_i(w)‖ at each local step: [τ]; over the whole stack where there is one."""


def local_update(
    loss_fn: LossFn,
    params: Params,
    batches: LocalBatches,
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
        As in `client_app.meta_gradient.meta_gradient`.
    batches
        Support, query and Hessian batches of the τ steps, drawn outside.
    beta
        Local (outer) step size β.

    Returns
    -------
    LocalUpdate
        w_τ, and the loss and the norm of the meta-gradient of each step.
    """
    losses, norms = [], []
    hessians = [None] * len(batches.query[0]) if batches.hessian is None else steps(batches.hessian)
    for support, query, hessian in zip(
        steps(batches.support), steps(batches.query), hessians, strict=True
    ):
        loss, gradient = value_and_meta_gradient(
            loss_fn,
            params,
            support,
            query,
            alpha=alpha,
            mode=mode,
            hessian=hessian,
            delta=delta,
            recompute=recompute,
        )
        params = descend(params, gradient, beta)
        losses.append(loss)
        norms.append(norm(gradient))
    return LocalUpdate(params, torch.stack(losses), torch.stack(norms))


def norm(params: Params) -> Tensor:
    """Return the Euclidean norm of all entries of `params` together, a scalar."""
    total: Tensor = torch.linalg.vector_norm(torch.stack([p.norm() for p in params.values()]))
    return total
