"""Models: functions from the shape of the data to a `torch.nn.Module`.

Any callable serves, by its `_target_`. It is given `input_shape` (of one row), `num_outputs`
(classes, or regression targets) and `places` if its signature names them. Where a row has a class
at each of several places, such as yes or no to each of C labels, these models have outputs
[B, *places, num_outputs]: each place a last layer of its own.
"""

import math
from collections.abc import Sequence

from torch import nn

from nufed.conf.errors import InputError


def logistic(
    input_shape: Sequence[int], num_outputs: int, bias: bool = True, places: Sequence[int] = ()
) -> nn.Module:
    """Return a linear model: multinomial logistic regression under the cross-entropy loss."""
    last = _last(math.prod(input_shape), num_outputs, places, bias)
    return nn.Sequential(_flat(input_shape), *last)


def _flat(input_shape: Sequence[int]) -> nn.Module:
    """Return what makes a row a vector; a row that is a single number becomes one of length 1."""
    return nn.Flatten() if input_shape else nn.Unflatten(0, (-1, 1))


def _last(
    width: int, num_outputs: int, places: Sequence[int], bias: bool = True
) -> list[nn.Module]:
    """Return the last layer, and what gives each place its own outputs of it."""
    linear = nn.Linear(width, math.prod(places) * num_outputs, bias=bias)
    return [linear, nn.Unflatten(1, (*places, num_outputs))] if places else [linear]


def mlp(
    input_shape: Sequence[int],
    num_outputs: int,
    hidden: Sequence[int] = (100,),
    norm: bool = False,
    places: Sequence[int] = (),
) -> nn.Module:
    """Return a multi-layer perceptron with ReLU, with `norm` after a layer normalization each."""
    layers: list[nn.Module] = [_flat(input_shape)]
    width = math.prod(input_shape)
    for units in hidden:
        normed = [nn.LayerNorm(units)] if norm else []
        layers += [nn.Linear(width, units), *normed, nn.ReLU()]
        width = units
    return nn.Sequential(*layers, *_last(width, num_outputs, places))


def cnn(
    input_shape: Sequence[int],
    num_outputs: int,
    channels: Sequence[int] = (32, 64),
    hidden: int = 512,
    kernel: int = 5,
    padding: int = 0,
    places: Sequence[int] = (),
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
        *_last(hidden, num_outputs, places),
    )
