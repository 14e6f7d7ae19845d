"""Personalization curves: how good a client's model is after k = 0, 1, 2, … fine-tuning steps."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from nufed.client_app.meta_gradient import Batch, Params

MetricsFn = Callable[..., dict[str, Tensor]]


def personalization_curve(
    models: Iterable[Params], metrics_fn: MetricsFn, test: Batch
) -> dict[str, Tensor]:
    """Measure θ^0, θ^1, …, θ^K on `test`.

    Parameters
    ----------
    models
        The client's model after k = 0 … K fine-tuning steps on its *train* split, as an algorithm's
        `personal` gives them one by one.
    metrics_fn
        ``metrics_fn(params, *batch)`` -> name -> scalar, what is reported.
    test
        The client's *test* split, one batch. No gradient is ever taken on it.

    Returns
    -------
    dict of str to Tensor
        Each metric after k = 0 … K steps, [K + 1].
    """
    with torch.no_grad():  # the algorithm switches gradients on for the support batches alone
        curve = [metrics_fn(theta, *test) for theta in models]
    return {name: torch.stack([point[name] for point in curve]) for name in curve[0]}
