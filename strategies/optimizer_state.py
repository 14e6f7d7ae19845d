"""What a server optimizer keeps from round to round, as a checkpoint brings it back."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from conf.errors import InputError

OF_OPTIMIZER = "optimizer/"


def require_own(
    state: Mapping[str, Any],
    model: Mapping[str, torch.Tensor],
    make: Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer] | None,
) -> None:
    """Raise unless a state is of this optimizer and this model, or of none.

    What an optimizer keeps shows after a step: one that leads nowhere, of a model of zeros.

    Parameters
    ----------
    state
        ``optimizer/<parameter>/<what is kept>`` -> tensor or number.
    model
        The parameters that it optimizes.
    make
        Makes the optimizer; None averages.

    Raises
    ------
    InputError
        If it is of another.
    """
    given = {path: value for path, value in state.items() if path.startswith(OF_OPTIMIZER)}
    if not given:
        return
    kept = {} if make is None else _kept(model, make)
    shapes = ({path: np.shape(value) for path, value in of.items()} for of in (given, kept))
    if next(shapes) != next(shapes):
        raise InputError(
            "strategy.optimizer: what the checkpoint keeps of one is not what this one keeps "
            f"({_few(given)}; {_few(kept)}); begin the run anew"
        )


def _kept(
    model: Mapping[str, torch.Tensor],
    make: Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer],
) -> dict[str, Any]:
    """Return what an optimizer keeps after a step."""
    zeros = {name: torch.nn.Parameter(torch.zeros_like(p)) for name, p in model.items()}
    optimizer = make(list(zeros.values()))
    for parameter in zeros.values():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return {
        f"{OF_OPTIMIZER}{name}/{key}": value
        for name, parameter in zeros.items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def _few(state: Mapping[str, Any]) -> str:
    """Name what an optimizer keeps of each parameter."""
    names = sorted({path.rpartition("/")[2] for path in state})
    return f"{', '.join(names) or 'nothing':.60}"
