"""Personalization curves: how good a client's model is after k = 0, 1, 2, … fine-tuning steps."""

from collections.abc import Callable

import torch
from torch import Tensor

from nufed.client_app.meta_gradient import Batch, LossFn, Params, trajectory

MetricsFn = Callable[..., dict[str, Tensor]]


def personalization_curve(
    loss_fn: LossFn,
    metrics_fn: MetricsFn,
    params: Params,
    support: Batch,
    test: Batch,
    *,
    alpha: float,
) -> dict[str, Tensor]:
    """Measure θ^0, θ^1, …, θ^K on `test`, where θ^{k+1} = θ^k − α ∇f_i(θ^k; D_k).

    Parameters
    ----------
    loss_fn
        ``loss_fn(params, *batch)`` -> scalar, the loss that fine-tuning descends.
    metrics_fn
        ``metrics_fn(params, *batch)`` -> name -> scalar, what is reported.
    params
        The initial model w = θ^0.
    support
        D_0 … D_{K−1} of the client's *train* split: tensors with a leading axis K.
    test
        The client's *test* split, one batch. No gradient is ever taken on it.
    alpha
        Fine-tuning step size α.

    Returns
    -------
    dict of str to Tensor
        Each metric after k = 0 … K steps, [K + 1].
    """
    with torch.no_grad():  # `trajectory` switches gradients on for the support batches alone
        curve = [
            metrics_fn(theta, *test) for theta in trajectory(loss_fn, params, support, alpha=alpha)
        ]
    return {name: torch.stack([point[name] for point in curve]) for name in curve[0]}
