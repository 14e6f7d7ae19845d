"""Make the module that a configuration names, sized from the data, and check that it fits."""

import inspect
import logging
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from torch import nn

from conf.errors import InputError, reason
from tasks.store import FederatedData


def make_module(config: dict[str, Any], data: FederatedData, seed: int) -> nn.Module:
    """Return the module, its initial parameters drawn from `seed`.

    Parameters
    ----------
    config
        The composed `model` group: `_target_` and its arguments. `input_shape` and `num_outputs`
        of the data are given to it too if its signature names them.

    Raises
    ------
    InputError
        If it cannot be made, does not take the rows of the data, or cannot be shared by clients.
    """
    target = config.get("_target_")
    if not isinstance(target, str):
        raise InputError("model._target_: names no callable that returns a torch.nn.Module")
    where = f"model._target_={target}"
    classes = data.y.dtype.kind == "i"
    num_outputs = data.num_outputs
    sizes = {"input_shape": tuple(data.x.shape[1:]), "num_outputs": num_outputs}
    # Hydra logs what it also raises; the line that we make of it is enough.
    logging.getLogger("hydra.utils").addHandler(logging.NullHandler())
    logging.getLogger("hydra.utils").propagate = False
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            wanted = inspect.signature(get_object(target)).parameters
            given = {k: v for k, v in sizes.items() if k in wanted and k not in config}
            module = instantiate(config, **given)
        except (InstantiationException, ImportError, ValueError, TypeError) as error:
            if isinstance(error.__cause__, InputError):
                raise error.__cause__ from None
            cause = error.__cause__ or error
            hint = "; be where its file is" if isinstance(cause, ModuleNotFoundError) else ""
            raise InputError(f"{where}: {reason(cause)}{hint}") from error
        if not isinstance(module, nn.Module):
            raise InputError(f"{where}: makes a {type(module).__name__}, not a torch.nn.Module")
        width = _try(module, sizes["input_shape"], where)
        if width != num_outputs and not (classes and width > num_outputs):
            raise InputError(f"{where}: gives {width} outputs a row; the data needs {num_outputs}")
    return module


def _try(module: nn.Module, shape: Any, where: str) -> int:
    """Push two rows through the module, which also sizes lazy layers; return the outputs of one."""
    try:
        with torch.no_grad():
            module(torch.zeros(2, *shape))
            before = {name: buffer.clone() for name, buffer in module.named_buffers()}
            width = int(module(torch.rand(2, *shape)).reshape(2, -1).shape[1])
    except Exception as error:  # whatever the user's code raises
        raise InputError(
            f"{where}: does not take rows of shape {list(shape)}: {reason(error)}"
        ) from error
    for name, buffer in module.named_buffers():
        if not torch.equal(before[name], buffer):
            layer = name.rpartition(".")[0] or "itself"
            raise InputError(
                f"{where}: layer {layer} keeps running statistics of the rows it saw ({name}), "
                "which clients must not share; use torch.nn.GroupNorm"
            )
    return width
