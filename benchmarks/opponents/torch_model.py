"""The model of a `Work` as a module, for the opponents that stand on torch."""

import torch
from torch import nn

from benchmarks.opponents.work import Work


def module(work: Work) -> nn.Sequential:
    """Return the model with its initial parameters."""
    left, layers = iter(zip(work.params[::2], work.params[1::2], strict=True)), list[nn.Module]()
    for layer in work.spec.layers:
        if layer in ("conv", "linear"):
            weight, bias = next(left)
            made = (
                nn.Conv2d(weight.shape[1], weight.shape[0], (weight.shape[2], weight.shape[3]))
                if layer == "conv"
                else nn.Linear(weight.shape[1], weight.shape[0])
            )
            made.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
            layers.append(made)
        else:
            layers.append(
                {"relu": nn.ReLU(), "pool": nn.MaxPool2d(2), "flatten": nn.Flatten()}[layer]
            )
    return nn.Sequential(*layers)
