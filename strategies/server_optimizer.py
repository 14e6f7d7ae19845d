"""The server's step: the clients' mean update is the gradient of the global model.

What an optimizer keeps of each parameter lives from round to round, and in checkpoints.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord
from torch import Tensor

from nufed.client_app.figures import all_finite
from nufed.client_app.meta_gradient import Params
from nufed.client_app.wire import to_params
from nufed.conf.errors import InputError

OF_OPTIMIZER = "optimizer/"

Make = Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]


class ServerOptimizer:
    """The global model as the parameters of an optimizer.

    Parameters
    ----------
    make
        ``make(parameters)`` -> the optimizer; None averages, as SGD of learning rate 1 does.

    Raises
    ------
    InputError
        If it makes none of a parameter.
    """

    def __init__(self, make: Make | None) -> None:
        if make is not None:
            try:
                make([torch.nn.Parameter(torch.zeros(1))])
            except (TypeError, ValueError) as error:
                raise InputError(f"strategy.optimizer: {error}") from error
        self.model: dict[str, torch.nn.Parameter] = {}
        self._make = make
        self._optimizer: torch.optim.Optimizer | None = None

    def load(self, arrays: ArrayRecord) -> None:
        """Take a global model; what the optimizer keeps stays."""
        params = to_params(arrays)
        if not self.model:
            self.model = {name: torch.nn.Parameter(tensor) for name, tensor in params.items()}
            if self._make is not None and self.model:
                self._optimizer = self._make(list(self.model.values()))
        for name, parameter in self.model.items():
            parameter.data.copy_(params[name])

    def step(self, delta: Params) -> ArrayRecord:
        """Apply a mean update; return the model that it leads to."""
        for name, parameter in self.model.items():
            parameter.grad = delta[name].to(parameter.dtype)
            if self._optimizer is None:
                parameter.data -= parameter.grad
        if self._optimizer is not None:
            self._optimizer.step()
        return self.arrays()

    def arrays(self) -> ArrayRecord:
        """Return the model."""
        return ArrayRecord({name: parameter.detach() for name, parameter in self.model.items()})

    def is_finite(self) -> bool:
        """Tell whether all of the model is."""
        return all(map(all_finite, self.model.values()))

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of what the optimizer keeps, ``optimizer/<parameter>/<what>`` -> value."""
        if self._optimizer is None:
            return {}
        return {
            path: value.clone() if isinstance(value, Tensor) else value
            for path, value in _kept(self._optimizer, self.model).items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned.

        Raises
        ------
        InputError
            If another optimizer kept it, or of another model.
        """
        self._require_own(state)
        for path, value in state.items():
            owner, _, rest = path.partition("/")
            if owner == "optimizer" and self._optimizer is not None:
                name, _, key = rest.rpartition("/")
                parameter = self.model[name]
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    value = value.to(parameter.dtype)  # the precision may be another now
                self._optimizer.state[parameter][key] = value

    def _require_own(self, state: Mapping[str, Any]) -> None:
        """Raise unless a state is of this optimizer and this model, or of none.

        What an optimizer keeps shows after a step: one that leads nowhere, of a model of zeros.
        """
        given = {path: value for path, value in state.items() if path.startswith(OF_OPTIMIZER)}
        if not given:
            return
        kept = {} if self._make is None else _kept_after_a_step(self._make, self.model)
        shapes = ({path: np.shape(value) for path, value in of.items()} for of in (given, kept))
        if next(shapes) != next(shapes):
            raise InputError(
                "strategy.optimizer: what the checkpoint keeps of one is not what this one keeps "
                f"({_few(given)}; {_few(kept)}); begin the run anew"
            )


def _kept(
    optimizer: torch.optim.Optimizer, model: Mapping[str, torch.nn.Parameter]
) -> dict[str, Any]:
    """Return what an optimizer keeps of each parameter."""
    return {
        f"{OF_OPTIMIZER}{name}/{key}": value
        for name, parameter in model.items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def _kept_after_a_step(make: Make, model: Mapping[str, Tensor]) -> dict[str, Any]:
    zeros = {name: torch.nn.Parameter(torch.zeros_like(p)) for name, p in model.items()}
    optimizer = make(list(zeros.values()))
    for parameter in zeros.values():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return _kept(optimizer, zeros)


def _few(state: Mapping[str, Any]) -> str:
    """Name what an optimizer keeps of each parameter."""
    names = sorted({path.rpartition("/")[2] for path in state})
    return f"{', '.join(names) or 'nothing':.60}"
