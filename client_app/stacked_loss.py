"""One client's loss as the losses of a stack of K: parameters [K, …], batches [K, D, …].

The clients share nothing, so the gradient of the sum is each client's own: `meta_gradient` serves a
stack as it serves one client.
"""

import math
from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.func import vmap
from torch.overrides import TorchFunctionMode

from nufed.client_app.meta_gradient import Params
from nufed.tasks.objective import cross_entropy, surprisal


def stacked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of one client's parameters and batch as one of K clients'."""
    mapped = vmap(function, randomness="different")

    def on_stack(params: Params, *batch: Tensor) -> Any:
        with _ForAStack():
            return mapped(params, *batch)

    return on_stack


class _ForAStack(TorchFunctionMode):
    """Compute in another way what torch computes well for one client, and not for a stack.

    F.linear as (W xᵀ)ᵀ: its gradient then has the layout of W, not of Wᵀ. `autograd` takes care of
    that for one client. For a stack it does not, and what is done with the gradients takes twice
    the time of the matrix products. The cross-entropy by operations that need no other imports.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.linear:
            return _linear(*args, **(kwargs or {}))
        if func is cross_entropy:
            return surprisal(*args).mean()
        return func(*args, **(kwargs or {}))


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    *shape, width = input.shape
    rows = input.reshape(math.prod(shape), width)
    product = (weight @ rows.mT).mT.reshape(*shape, len(weight))
    return product if bias is None else product + bias


def repeated(params: Params, clients: int) -> Params:
    """Return `params` for each of K clients: [K, …], one tensor seen K times."""
    return {name: p.expand(clients, *p.shape) for name, p in params.items()}
