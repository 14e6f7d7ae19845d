"""Make the module that a configuration names, sized from the data, as its constructor leaves it."""

import inspect
import logging
from functools import cache
from typing import Any, NamedTuple

import torch
from hydra.errors import InstantiationException
from torch import nn

from nufed.conf.errors import InputError, reason
from nufed.conf.making import find, make
from nufed.tasks.module_parts import require_usable
from nufed.tasks.module_state import trainable
from nufed.tasks.module_trial import Trial, tried
from nufed.tasks.statistics import tracked
from nufed.tasks.store import FederatedData
from nufed.tasks.streams import Purpose, seeded, stream

OURS = "nufed.tasks."

log = logging.getLogger("nufed")


class Made(NamedTuple):
    """A module, and what was found when rows were pushed through it."""

    module: nn.Module
    """On the CPU."""
    trial: Trial


def make_module(
    config: dict[str, Any],
    data: FederatedData,
    seed: int,
    dtype: torch.dtype = torch.float32,
    *,
    any_width: bool = False,
    class_axis: str | None = None,
    statistics: bool = False,
) -> Made:
    """Return the module, its initial parameters drawn from `seed`.

    Parameters
    ----------
    config
        The composed `model` group: `_target_` and its arguments. What `sizes` tells of the data is
        given to it too where its signature names it.
    dtype
        What parameters that train have to be. float64 makes all reals so; float32 changes nothing.
    any_width, class_axis
        As of `nufed.tasks.module_trial.tried`.
    statistics
        Whether running statistics of batch normalization become parameters.

    Raises
    ------
    InputError
        If it cannot be made, does not take the rows of the data, or cannot be shared by clients.
    """
    target = config.get("_target_")
    if not isinstance(target, str):
        raise InputError("model._target_: names no callable that returns a torch.nn.Module")
    where = f"model._target_={target}"
    if target.startswith(OURS):
        class_axis = "last"
    with seeded(stream(Purpose.MODEL, seed)):
        module = _not_compiled(_called(config, data, target, where), where)
        module = tracked(module) if statistics else module
        module = module.double() if dtype == torch.float64 else module
        _require_type(module, where, dtype)
        require_usable(module, where)
        trial = tried(module, data, where, dtype=dtype, any_width=any_width, class_axis=class_axis)
    _require_trainable(module, where)
    return Made(module, trial)


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


def _called(config: dict[str, Any], data: FederatedData, target: str, where: str) -> nn.Module:
    """Call what the configuration names."""
    try:
        wanted = inspect.signature(find(target)).parameters
        given = {k: v for k, v in sizes(data).items() if k in wanted and k not in config}
        module = make(config, **given)
    except (InstantiationException, ImportError, ValueError, TypeError) as error:
        if isinstance(error.__cause__, InputError):
            raise error.__cause__ from None
        cause = error.__cause__ or error
        raise InputError(f"{where}: {reason(cause)}") from error
    if not isinstance(module, nn.Module):
        raise InputError(f"{where}: makes a {type(module).__name__}, not a torch.nn.Module")
    return module


def _not_compiled(module: nn.Module, where: str) -> nn.Module:
    """Return a module as it was before `torch.compile`, whose programs have no second derivative.

    It computes the same.
    """
    wrapped = [
        (parent, name, child)
        for parent in module.modules()
        for name, child in parent.named_children()
        if _is_compiled(child)
    ]
    for parent, name, child in wrapped:
        setattr(parent, name, child._orig_mod)
    called = [each for each in module.modules() if each._compiled_call_impl is not None]
    for each in called:
        each._compiled_call_impl = None
    if wrapped or called or _is_compiled(module):
        _say_not_compiled(where)
    inside: nn.Module = module._orig_mod if _is_compiled(module) else module  # type: ignore[assignment]
    return inside


@cache  # server and clients may share a process
def _say_not_compiled(where: str) -> None:
    log.info("%s: torch.compile is taken off it; engine.compile compiles whole steps", where)


def _is_compiled(module: nn.Module) -> bool:
    """Tell whether `torch.compile` wrapped a module; to ask by its class would import all of it."""
    return type(module).__name__ == "OptimizedModule"


def _require_trainable(module: nn.Module, where: str) -> None:
    """Raise unless a parameter trains."""
    if not trainable(module):
        count = sum(p.numel() for p in module.parameters())
        what = f"all {count:,} are frozen (requires_grad is False)" if count else "it has none"
        raise InputError(f"{where}: no parameter trains, {what}; there is nothing to learn")


def _require_type(module: nn.Module, where: str, dtype: torch.dtype) -> None:
    """Raise unless the parameters that train are of the type that the engine computes in."""
    wanted = str(dtype).removeprefix("torch.")
    for name, p in trainable(module).items():
        if p.dtype != dtype:
            kind = str(p.dtype).removeprefix("torch.")
            other = ", or say engine.precision=float64" * (kind == "float64")
            raise InputError(
                f"{where}: its parameter {name} is {kind}, and engine.precision asks for {wanted}; "
                f"make it {wanted}{other}"
            )
