"""A task: a federated data set, a model and a loss, as pure functions of parameters and batches."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from conf.errors import InputError
from conf.schema import Config
from tasks.module import make_module
from tasks.store import FederatedData, load

PRECISIONS = {"float32": torch.float32, "float64": torch.float64}

Params = dict[str, Tensor]
Batch = tuple[Tensor, ...]


@dataclass(frozen=True)
class Task:
    """What one client minimises: f_i(θ) = mean loss of `module` with parameters θ on its rows."""

    data: FederatedData
    module: nn.Module
    dtype: torch.dtype
    device: torch.device

    @property
    def classification(self) -> bool:
        """Whether y holds classes; else it holds regression targets."""
        return self.data.y.dtype.kind == "i"

    def initial_params(self) -> Params:
        """Return a copy of the initial model w_0, name -> tensor."""
        return {name: p.detach().clone() for name, p in self.module.named_parameters()}

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """Gather rows: x [*rows.shape, …] and y [*rows.shape, …] on the task's device."""
        x, y = torch.from_numpy(self.data.x[rows]), torch.from_numpy(self.data.y[rows])
        pixels = x.dtype == torch.uint8
        x = x.to(self.device, self.dtype)
        x = x / 255 if pixels else x
        return x, y.to(self.device, torch.int64 if self.classification else self.dtype)

    def loss(self, params: Params, x: Tensor, y: Tensor) -> Tensor:
        """Return the mean loss of a batch: cross-entropy, or half the squared error."""
        return self._loss(functional_call(self.module, params, (x,)), y)

    def metrics(self, params: Params, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Return what is reported of a model: `loss`, and `accuracy` where y holds classes."""
        was_training = self.module.training
        self.module.eval()  # what is measured has no dropout
        try:
            outputs = functional_call(self.module, params, (x,))
        finally:
            self.module.train(was_training)
        metrics = {"loss": self._loss(outputs, y)}
        if self.classification:
            metrics["accuracy"] = (outputs.argmax(-1) == y).to(self.dtype).mean()
        return metrics

    def _loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        if self.classification:
            return F.cross_entropy(outputs, y)
        return F.mse_loss(outputs.reshape(y.shape), y) / 2


def build(config: Config) -> Task:
    """Map the data and make the model of a configuration.

    Raises
    ------
    InputError
        If the data, the model or the device cannot be used.
    """
    device = _device(config.device)
    precision = config.engine.get("precision", "float32")
    if precision not in PRECISIONS:
        raise InputError(f"engine.precision={precision}: must be {' | '.join(PRECISIONS)}")
    data = load(config.dataset, config.partition)
    dtype = PRECISIONS[precision]
    module = make_module(config.model, data, config.seed).to(device, dtype)
    return Task(data, module, dtype, device)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"device={name}: cannot be used ({reason}); say device=cpu") from error
    return device
