"""The model of a `Work` as a module, for the opponents that stand on torch."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.opponents.work import Work

Array = NDArray[np.float32]
PLAIN: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "pool": lambda: nn.MaxPool2d(2),
    "flatten": nn.Flatten,
}


def module(work: Work) -> nn.Sequential:
    """Return the model with its initial parameters."""
    left = iter(zip(work.params[::2], work.params[1::2], strict=True))
    return nn.Sequential(
        *(PLAIN[name]() if name in PLAIN else _filled(*next(left)) for name in work.spec.layers)
    )


def _filled(weight: Array, bias: Array) -> nn.Module:
    """Return a convolution, or a linear layer, of given parameters."""
    out, into, *kernel = weight.shape
    layer = nn.Conv2d(into, out, (kernel[0], kernel[1])) if kernel else nn.Linear(into, out)
    layer.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
    return layer
