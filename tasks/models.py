"""Models: functions from the shape of the data to a `torch.nn.Module`.

Any callable serves, by its `_target_`. It is given `input_shape` (of one row) and `num_outputs`
(classes, or regression targets) if its signature names them.
"""

import math
from collections.abc import Sequence

from torch import nn

from conf.errors import InputError


def logistic(input_shape: Sequence[int], num_outputs: int, bias: bool = True) -> nn.Module:
    """Return a linear model: multinomial logistic regression under the cross-entropy loss."""
    return nn.Sequential(
        _flat(input_shape), nn.Linear(math.prod(input_shape), num_outputs, bias=bias)
    )


def _flat(input_shape: Sequence[int]) -> nn.Module:
    """Return what makes a row a vector; a row that is a single number becomes one of length 1."""
    return nn.Flatten() if input_shape else nn.Unflatten(0, (-1, 1))


def mlp(input_shape: Sequence[int], num_outputs: int, hidden: Sequence[int] = (100,)) -> nn.Module:
    """Return a multi-layer perceptron with ReLU."""
    layers: list[nn.Module] = [_flat(input_shape)]
    width = math.prod(input_shape)
    for units in hidden:
        layers += [nn.Linear(width, units), nn.ReLU()]
        width = units
    return nn.Sequential(*layers, nn.Linear(width, num_outputs))


def cnn(
    input_shape: Sequence[int],
    num_outputs: int,
    channels: Sequence[int] = (32, 64),
    hidden: int = 512,
    kernel: int = 5,
    padding: int = 0,
) -> nn.Module:
    """Return convolutions with ReLU and 2x2 max-pooling, then one hidden layer.

    The defaults are the network of McMahan et al. (2017) as the field uses it, 582,026 parameters
    on 28x28 grey images. `input_shape` is (height, width) or (channels, height, width).
    """
    if len(input_shape) not in (2, 3):
        raise InputError(
            f"model=cnn: a row has shape {list(input_shape)}, not an image; say model=mlp"
        )
    depth, height, width = (1, *input_shape) if len(input_shape) == 2 else input_shape
    layers: list[nn.Module] = [nn.Unflatten(1, (1, height))] if len(input_shape) == 2 else []
    for features in channels:
        layers += [nn.Conv2d(depth, features, kernel, padding=padding), nn.ReLU(), nn.MaxPool2d(2)]
        depth = features
        height, width = ((side + 2 * padding - kernel + 1) // 2 for side in (height, width))
    if min(height, width) < 1:
        raise InputError(
            f"model=cnn: images of {input_shape[-2]}x{input_shape[-1]} are too small for "
            f"{len(channels)} layers of model.kernel={kernel}; say model.kernel=3 model.padding=1"
        )
    return nn.Sequential(
        *layers,
        nn.Flatten(),
        nn.Linear(depth * height * width, hidden),
        nn.ReLU(),
        nn.Linear(hidden, num_outputs),
    )
