"""Batch normalization without a hidden state: its running statistics are parameters of the model.

Running statistics r follow those of the batches, s, by r ← r − m (r − s) with momentum m. That is
a step of size 1 of a "gradient" m (r − s), the slope of m/2 ‖r − s‖². A layer here has that for its
gradient by r, whatever the loss is. So nothing is written to, a client's statistics travel as its
other parameters do, and a stack of clients, or a compiled step, has each client's own.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

NAMES = ("running_mean", "running_var")
Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d

_counted: ContextVar[Tensor | None] = ContextVar("_counted", default=None)


def statistics(names: Iterable[str]) -> list[str]:
    """Return the names, among those of parameters, that are of running statistics."""
    return [name for name in names if name.rpartition(".")[2] in NAMES]


@contextmanager
def counting(weight: Tensor | None) -> Iterator[None]:
    """Take only some rows into the statistics of a batch: [B] False for those that fill it up."""
    token = _counted.set(weight)
    try:
        yield
    finally:
        _counted.reset(token)


class TrackedNorm(nn.Module):
    """A batch normalization whose running statistics are parameters.

    Parameters
    ----------
    norm
        Whose place it takes, and whose tensors it has; with running statistics and a momentum.
    """

    weight: Tensor | None
    bias: Tensor | None
    _check_input_dim: Callable[[Tensor], None]

    def __init__(self, norm: Norm) -> None:
        super().__init__()
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.momentum is not None
        self.register_parameter("weight", norm.weight)
        self.register_parameter("bias", norm.bias)
        self.running_mean = nn.Parameter(norm.running_mean)
        self.running_var = nn.Parameter(norm.running_var)
        self.register_buffer("num_batches_tracked", norm.num_batches_tracked)
        self.eps, self.momentum = norm.eps, norm.momentum
        self._check_input_dim = norm._check_input_dim

    def forward(self, x: Tensor) -> Tensor:
        """Normalize by the batch in train mode, by running statistics in eval mode."""
        self._check_input_dim(x)
        shape = (1, -1, *[1] * (x.ndim - 2))
        given, x = x, x.to(self.running_mean.dtype)
        if self.training:
            mean, var, unbiased = _of_batch(x)
            x = _Followed.apply(
                x, self.running_mean, self.running_var, mean, unbiased, self.momentum
            )
        else:
            mean, var = self.running_mean.detach(), self.running_var.detach()
        x = (x - mean.view(shape)) * torch.rsqrt(var + self.eps).view(shape)
        x = x if self.weight is None else x * self.weight.view(shape)
        x = x if self.bias is None else x + self.bias.view(shape)
        return x.to(given.dtype)


def tracked(module: nn.Module) -> nn.Module:
    """Return a module with a `TrackedNorm` for each batch normalization that follows batches.

    One in eval mode, of no momentum or of a class of its own is left as it is.
    """
    instead: dict[nn.Module, nn.Module] = {}
    for each in [*module.modules()]:
        for name, child in each._modules.items():  # not named_children: one may be there twice
            if child is not None and _follows(child):
                each._modules[name] = instead.setdefault(child, TrackedNorm(child))
    return TrackedNorm(module) if _follows(module) else module


def _follows(module: nn.Module) -> TypeGuard[Norm]:
    return (
        type(module) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
        and module.training
        and module.running_mean is not None
        and module.momentum is not None
    )


def _of_batch(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean and the variance of each channel, with n and with n − 1 below the line.

    Raises
    ------
    ValueError
        If there is one value a channel.
    """
    axes = [0, *range(2, x.ndim)]
    values = x.numel() // x.shape[1]
    if values < 2:
        raise ValueError(f"batch normalization in train mode needs more than 1 row, not {len(x)}")
    weight = _counted.get()
    if weight is None:
        mean = x.mean(axes)
        var = (x - mean.view(1, -1, *[1] * (x.ndim - 2))).square().mean(axes)
        return mean, var, var * (values / (values - 1))
    each = weight.to(x.dtype).view(-1, *[1] * (x.ndim - 1))
    number = weight.sum() * (values // len(x))
    mean = (each * x).sum(axes) / number
    off = x - mean.view(1, -1, *[1] * (x.ndim - 2))
    squared = (each * off.square()).sum(axes)
    return mean, squared / number, squared / (number - 1)


class _Followed(torch.autograd.Function):
    """x itself; with m (r − s) for the gradients by the running statistics r."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        mean: Tensor,
        var: Tensor,
        momentum: float,
    ) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, *tensors, ctx.momentum = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        running_mean, running_var, mean, var = ctx.saved_tensors
        m = ctx.momentum
        return slopes[0], m * (running_mean - mean), m * (running_var - var), None, None, None
