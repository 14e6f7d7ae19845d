"""Modules as people bring them: by their constructors alone, in a file of their own."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


class Block(nn.Module):
    """Two convolutions and a way around them, as in He et al. 2016, with GroupNorm."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.GroupNorm(2, outside), nn.GroupNorm(2, outside)])
        same = stride == 1 and inside == outside
        self.around = nn.Identity() if same else nn.Conv2d(inside, outside, 1, stride, bias=False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.norms[0](self.first(x)))
        y = self.norms[1](self.second(y))
        y += self.around(x)
        out: Tensor = self.relu(y)
        return out


class ResNet18(nn.Sequential):
    """Eighteen layers, four widths, two blocks each."""

    def __init__(
        self, input_shape: Sequence[int], num_outputs: int, widths: Sequence[int] = (4, 4, 8, 8)
    ) -> None:
        layers: list[nn.Module] = [nn.Conv2d(input_shape[0], widths[0], 3, 1, 1, bias=False)]
        layers += [nn.GroupNorm(2, widths[0]), nn.ReLU(inplace=True)]
        inside = widths[0]
        for i, width in enumerate(widths):
            layers += [Block(inside, width, 2 if i else 1), Block(width, width, 1)]
            inside = width
        super().__init__(
            *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, num_outputs)
        )


class ViT(nn.Module):
    """Patches, a class token, and torch's own encoder."""

    def __init__(
        self, input_shape: Sequence[int], num_outputs: int, patch: int = 4, width: int = 8
    ) -> None:
        super().__init__()
        channels, height, length = input_shape
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        places = (height // patch) * (length // patch) + 1
        self.places = nn.Parameter(torch.randn(1, places, width) / 10)
        layer = nn.TransformerEncoderLayer(
            width, 2, 16, dropout=0.0, batch_first=True, norm_first=True, activation="gelu"
        )
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(width, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.patches(x).flatten(2).transpose(1, 2)
        rows = torch.cat([self.token.expand(len(rows), -1, -1), rows], 1) + self.places
        scores: Tensor = self.head(self.encoder(rows)[:, 0])
        return scores


class Recurrent(nn.Module):
    """An LSTM over a row's places."""

    def __init__(self, input_shape: Sequence[int], num_outputs: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(input_shape[-1], 6, batch_first=True)
        self.head = nn.Linear(6, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.lstm(x)[0][:, -1])
        return scores


class Tied(nn.Module):
    """The next token, by one matrix for what goes in and what comes out."""

    def __init__(self, num_tokens: int, num_outputs: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_tokens, 8)
        self.inside = nn.Linear(8, 8)
        self.out = nn.Linear(8, num_outputs, bias=False)
        self.out.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.out(torch.tanh(self.inside(self.embedding(x))))
        return scores


class Spectral(nn.Sequential):
    """A layer whose norm is estimated anew at every forward, unless it is in eval mode."""

    def __init__(self, input_shape: Sequence[int], num_outputs: int, still: bool = True) -> None:
        normed = spectral_norm(nn.Linear(math.prod(input_shape), 8))
        super().__init__(nn.Flatten(), normed.eval() if still else normed, nn.Tanh())
        self.append(nn.Linear(8, num_outputs))


class LoRA(nn.Module):
    """A frozen layer, and two thin ones beside it that learn the difference (Hu et al. 2021)."""

    def __init__(self, frozen: nn.Linear, rank: int = 2) -> None:
        super().__init__()
        self.frozen = frozen.requires_grad_(False)
        self.down = nn.Linear(frozen.in_features, rank, bias=False)
        self.up = nn.Linear(rank, frozen.out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.frozen(x) + self.up(self.down(x))
        return y


class Adapted(nn.Sequential):
    """A frozen MLP with adapters."""

    def __init__(self, input_shape: Sequence[int], num_outputs: int) -> None:
        width = math.prod(input_shape)
        layers = (nn.Linear(width, 16), nn.ReLU(), nn.Linear(16, num_outputs))
        for layer in layers:
            layer.requires_grad_(False)
        super().__init__(nn.Flatten(), LoRA(layers[0]), layers[1], LoRA(layers[2]))


class StillBatchNorm(nn.Sequential):
    """A BatchNorm whose statistics came from elsewhere, and stay; its weights train."""

    def __init__(self, input_shape: Sequence[int], num_outputs: int) -> None:
        norm = nn.BatchNorm1d(8)
        norm.running_mean += torch.randn(8)
        norm.running_var += torch.rand(8)
        width = math.prod(input_shape)
        super().__init__(nn.Flatten(), nn.Linear(width, 8), norm.eval(), nn.Tanh())
        self.append(nn.Linear(8, num_outputs))


class Dropping(nn.Sequential):
    """An MLP with dropout."""

    def __init__(self, input_shape: Sequence[int], num_outputs: int) -> None:
        width = math.prod(input_shape)
        super().__init__(nn.Flatten(), nn.Linear(width, 12), nn.ReLU(), nn.Dropout(0.3))
        self.append(nn.Linear(12, num_outputs))


class InPlace(nn.Sequential):
    """An MLP whose activation writes over its input."""

    def __init__(self, input_shape: Sequence[int], num_outputs: int) -> None:
        width = math.prod(input_shape)
        super().__init__(nn.Flatten(), nn.Linear(width, 12), nn.ReLU(inplace=True))
        self.append(nn.Linear(12, num_outputs))


class Scaled(nn.Module):
    """Brings its rows to scale, in place if asked; gives scores in one of several ways."""

    def __init__(
        self, input_shape: Sequence[int], num_outputs: int, in_place: bool = True, kind: str = ""
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(math.prod(input_shape), num_outputs)
        self.in_place, self.kind = in_place, kind

    def forward(self, x: Tensor) -> Any:
        x = x.mul_(3).add_(2) if self.in_place else x * 3 + 2
        y = self.linear(x.flatten(1))
        returned = {
            "": y,
            "tuple": (y, None),
            "dict": {"scores": y},
            "logits": {"logits": y, "features": x},
            "object": Output(y, x),
        }
        return returned[self.kind]


@dataclass
class Output:
    """What libraries of language models return."""

    logits: Tensor
    features: Tensor


class Fourier(nn.Module):
    """Random features of a buffer that is drawn by another library's generator (Rahimi 2007)."""

    def __init__(
        self, input_shape: Sequence[int], num_outputs: int, by: str = "numpy", frozen: bool = False
    ) -> None:
        super().__init__()
        shape = math.prod(input_shape), 16
        drawn = {
            "numpy": lambda: np.random.randn(*shape),
            "torch": lambda: torch.randn(shape).numpy(),
            "nobody": lambda: np.random.default_rng().normal(size=shape),  # by no seed of ours
        }
        waves = torch.tensor(drawn[by](), dtype=torch.float32)
        if frozen:
            self.waves = nn.Parameter(waves, requires_grad=False)
        else:
            self.register_buffer("waves", waves)
        self.linear = nn.Linear(16, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.linear(torch.cos(x.flatten(1) @ self.waves))
        return scores


class Attention(nn.Module):
    """Attention by the fused function, or by what it stands for."""

    def __init__(self, input_shape: Sequence[int], num_outputs: int, fused: bool = True) -> None:
        super().__init__()
        width = input_shape[-1]
        self.inward = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, num_outputs)
        self.fused = fused

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part[:, None] for part in self.inward(x).chunk(3, -1))
        if self.fused:
            mixed = F.scaled_dot_product_attention(q, k, v)
        else:
            mixed = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1) @ v
        scores: Tensor = self.out(mixed[:, 0].mean(1))
        return scores


class _Once(torch.autograd.Function):
    """A square whose derivative has no derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        twice: Tensor = 2 * x * slope
        return twice


class OnceDifferentiable(nn.Module):
    """A layer that somebody wrote a kernel for."""

    def __init__(self, input_shape: Sequence[int], num_outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(math.prod(input_shape), num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = _Once.apply(self.linear(x.flatten(1)))
        return scores
