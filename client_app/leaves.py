"""Parts of a model by the names of its parameters: its head, its norm layers, and all but these."""

from collections.abc import Collection

import torch
from torch import Tensor

from nufed.client_app.meta_gradient import Params
from nufed.conf.errors import InputError


def only(params: Params, names: Collection[str]) -> Params:
    """Return the parameters of these names, in the order that they have."""
    return {name: p for name, p in params.items() if name in names}


def without(params: Params, names: Collection[str]) -> Params:
    """Return the parameters of other names."""
    return {name: p for name, p in params.items() if name not in names}


def zeros_like(params: Params) -> Params:
    """Return zeros in the shape of parameters."""
    return {name: torch.zeros_like(p) for name, p in params.items()}


def scaled(params: Params, factor: float | Tensor) -> Params:
    """Return factor · params, leaf by leaf."""
    return {name: factor * p for name, p in params.items()}


def plus(params: Params, others: Params, factor: float = 1.0) -> Params:
    """Return params + factor · others, leaf by leaf."""
    return {name: torch.add(p, others[name], alpha=factor) for name, p in params.items()}


def head_of(model: Params, head: str | int | None) -> list[str]:
    """Return the names of the parameters of a model's head.

    Parameters
    ----------
    head
        What they begin with, such as ``fc``, ``blocks.3``, or 3 of a sequence; None: the layer of
        the last parameter.

    Raises
    ------
    InputError
        If there are none of that name, or no others.
    """
    start = next(reversed(model)).rpartition(".")[0] if head is None else str(head)
    found = [name for name in model if name == start or name.startswith(f"{start}.")]
    if not found or len(found) == len(model):
        of = ", ".join(dict.fromkeys(name.rpartition(".")[0] for name in model))
        raise InputError(
            f"algorithm.head={head}: {'names all' if found else 'names no'} parameters that train; "
            f"name a layer, one of {of:.200}"
        )
    return found
