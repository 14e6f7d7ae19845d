"""Whether a loss can be differentiated, once and twice, and by which kernels: tried once."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from nufed.conf.errors import InputError, reason
from nufed.tasks.kernels import plain_kernels
from nufed.tasks.module_state import Params


class Derivatives(NamedTuple):
    """What a loss has of second derivatives."""

    missing: str | None = None
    """Why it has none; None where it has."""
    by_plain: bool = False
    """Whether it has them by plain kernels alone, which then compute it everywhere: neither can a
    stack of clients be computed by fused ones."""


HAS_ALL = Derivatives()


def derivatives(loss: Callable[[Params], Tensor], params: Params, where: str) -> Derivatives:
    """Differentiate a loss, and its gradient.

    Parameters
    ----------
    loss
        ``loss(params)`` -> scalar, on some rows.
    params
        Where to.
    where
        What names the model to a person.

    Raises
    ------
    InputError
        If the loss has no gradient.
    """
    try:
        _differentiate_twice(loss, params, where)
    except RuntimeError:  # "derivative … is not implemented", of a fused kernel mostly
        pass
    else:
        return HAS_ALL
    try:
        with plain_kernels():
            _differentiate_twice(loss, params, where)
    except RuntimeError as error:
        return Derivatives(missing=reason(error))
    return Derivatives(by_plain=True)


def _differentiate_twice(loss: Callable[[Params], Tensor], params: Params, where: str) -> None:
    leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
    with torch.enable_grad():
        value = loss(leaves)
        if not value.requires_grad:
            raise InputError(
                f"{where}: its outputs have no gradient by any parameter that trains; take "
                "torch.no_grad and .detach() out of its forward"
            )
        try:
            slopes = torch.autograd.grad(
                value, list(leaves.values()), create_graph=True, allow_unused=True
            )
        except RuntimeError as error:
            raise InputError(f"{where}: has no gradient: {reason(error):.200}") from error
        curved = [slope for slope in slopes if slope is not None and slope.requires_grad]
        if curved:  # else it is linear
            # All the way: asked for the leaves alone, autograd passes over what was marked
            # `once_differentiable`, and its Hessian would be wrong without a word.
            squared = sum((slope.square().sum() for slope in curved), value.new_zeros(()))
            torch.autograd.backward(squared)
