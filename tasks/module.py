"""Make the module that a configuration names, sized from the data, and check that it fits."""

import inspect
import logging
from typing import Any, NamedTuple

import numpy as np
import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object
from torch import Tensor, nn

from conf.errors import InputError, reason
from conf.making import make
from tasks.store import FederatedData
from tasks.streams import Purpose, seeded, stream
from tasks.tokens import hint, require_known, require_seen


class Made(NamedTuple):
    """A module, and what was found when rows were pushed through it."""

    module: nn.Module
    width: int
    """Outputs of a row, or of a place of it where y is a sequence."""
    integers: bool
    """Whether it is given x as integers, which an embedding needs and a matrix product refuses."""


def make_module(
    config: dict[str, Any], data: FederatedData, seed: int, *, any_width: bool = False
) -> Made:
    """Return the module, its initial parameters drawn from `seed`.

    Parameters
    ----------
    config
        The composed `model` group: `_target_` and its arguments. What `sizes` tells of the data is
        given to it too where its signature names it.
    any_width
        Whether any number of outputs will do, as a loss of one's own may ask.

    Raises
    ------
    InputError
        If it cannot be made, does not take the rows of the data, or cannot be shared by clients.
    """
    target = config.get("_target_")
    if not isinstance(target, str):
        raise InputError("model._target_: names no callable that returns a torch.nn.Module")
    where = f"model._target_={target}"
    # Hydra logs what it also raises; the line that we make of it is enough.
    logging.getLogger("hydra.utils").addHandler(logging.NullHandler())
    logging.getLogger("hydra.utils").propagate = False
    with seeded(stream(Purpose.MODEL, seed)):
        try:
            wanted = inspect.signature(get_object(target)).parameters
            given = {k: v for k, v in sizes(data).items() if k in wanted and k not in config}
            module = make(config, **given)
        except (InstantiationException, ImportError, ValueError, TypeError) as error:
            if isinstance(error.__cause__, InputError):
                raise error.__cause__ from None
            cause = error.__cause__ or error
            away = isinstance(cause, ModuleNotFoundError) and cause.name == target.split(".")[0]
            hint = "; be where its file is" if away else ""
            raise InputError(f"{where}: {reason(cause)}{hint}") from error
        if not isinstance(module, nn.Module):
            raise InputError(f"{where}: makes a {type(module).__name__}, not a torch.nn.Module")
        outputs, integers = _try(module, data, where)
    return Made(module, _width(outputs, data, where, any_width), integers)


def sizes(data: FederatedData) -> dict[str, Any]:
    """Return what a model may want to know of the data.

    ``input_shape`` of a row x; ``num_outputs``, the classes or the targets a row; ``num_tokens``,
    one above the largest x where x are integers, else None; ``places``, the shape of a row y where
    it has a class at each of several places, else ().
    """
    return {
        "input_shape": tuple(data.x.shape[1:]),
        "num_outputs": data.num_outputs,
        "num_tokens": data.num_tokens,
        "places": tuple(data.y.shape[1:]) if data.classes else (),
    }


def _holds_integers(data: FederatedData) -> bool:
    return data.x.dtype.kind in "iu" and data.x.dtype != np.uint8


def _width(outputs: Tensor, data: FederatedData, where: str, any_width: bool) -> int:
    """Return the outputs of a row or place, if they are as many as the data needs."""
    places, needed = data.y.shape[1:], data.num_outputs
    if data.classes and places:
        width = outputs.shape[-1]
        if outputs.shape[1:-1] != places or width < needed:
            raise InputError(
                f"{where}: gives outputs of shape {list(outputs.shape[1:])} a row; the data needs "
                f"{[*places, needed]}, classes at each place, as of model=transformer"
            )
        return width
    width = int(outputs.reshape(2, -1).shape[1])
    if width != needed and not (data.classes and width > needed) and not any_width:
        raise InputError(f"{where}: gives {width} outputs a row; the data needs {needed}")
    return width


def _try(module: nn.Module, data: FederatedData, where: str) -> tuple[Tensor, bool]:
    """Push two rows through the module twice, which also sizes lazy layers.

    Integers are tried as such first; a module that does not take them is given them as reals.
    """
    shape = data.x.shape[1:]
    nothing = torch.zeros(2, *shape)
    try:
        integers = _holds_integers(data) and _takes(module, nothing.long())
        with torch.no_grad():
            module(nothing.long() if integers else nothing)
            before = {name: buffer.clone() for name, buffer in module.named_buffers()}
            outputs: Tensor = module(nothing.long() if integers else torch.rand(2, *shape))
    except Exception as error:  # whatever the user's code raises
        raise InputError(
            f"{where}: does not take rows of shape {list(shape)}: {reason(error)}"
            f"{hint(module, data)}"
        ) from error
    if integers:
        require_known(module, data, where)
    else:
        require_seen(module, data, where, torch.float32)
    for name, buffer in module.named_buffers():
        if not torch.equal(before[name], buffer):
            layer = name.rpartition(".")[0] or "itself"
            raise InputError(
                f"{where}: layer {layer} keeps running statistics of the rows it saw ({name}), "
                "which clients must not share; use torch.nn.GroupNorm"
            )
    return outputs, integers


def _takes(module: nn.Module, rows: Tensor) -> bool:
    try:
        with torch.no_grad():
            module(rows)
    except Exception:  # whatever the user's code raises
        return False
    return True
