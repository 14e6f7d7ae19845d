"""Whether the tensors that a module consists of can be lent, saved and brought back."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from nufed.conf.errors import InputError
from nufed.tasks.module_state import Params, buffers, trainable


def require_usable(module: nn.Module, where: str) -> None:
    """Raise an `InputError` for a tensor that no file holds, or whose gradient would be another.

    Parameters
    ----------
    where
        What names the module to a person.
    """
    if isinstance(module, torch.jit.ScriptModule):
        raise InputError(
            f"{where}: is a program of torch.jit, to which no parameters can be lent; give the "
            "module that it was made of"
        )
    named: Params = {f"parameter {name}": p for name, p in module.named_parameters()}
    named |= {f"buffer {name}": buffer for name, buffer in buffers(module).items()}
    named = {name: tensor for name, tensor in named.items() if not is_lazy(tensor)}
    for name, tensor in named.items():
        _require_plain(tensor, f"{where}: its {name}")
    _require_own_memory(named, where)
    _require_in_state(module, where)
    for name, p in trainable(module).items():
        if p._backward_hooks or getattr(p, "_post_accumulate_grad_hooks", None):
            raise InputError(
                f"{where}: its parameter {name} has a hook on its gradient, which is not called; "
                "freeze it, or multiply by a mask in forward"
            )


def _require_plain(tensor: Tensor, name: str) -> None:
    if tensor.is_inference():
        raise InputError(f"{name} was made under torch.inference_mode; register its .clone()")
    if tensor.layout != torch.strided:
        raise InputError(
            f"{name} is sparse, which no file of tensors holds; register its .to_dense()"
        )
    if any(step == 0 and size > 1 for size, step in _axes(tensor)):
        raise InputError(
            f"{name} has elements that are one in memory, as expand makes them; register its "
            ".clone()"
        )


def _axes(tensor: Tensor) -> list[tuple[int, int]]:
    return list(zip(tensor.shape, tensor.stride(), strict=True))


def _require_own_memory(named: Params, where: str) -> None:
    """Raise if what trains lies in the memory of another: loading one would overwrite the other."""
    spans = sorted((*_span(tensor), name) for name, tensor in named.items() if tensor.numel())
    for (_, end, name), (start, _, after) in pairwise(spans):
        if start < end and (named[name].requires_grad or named[after].requires_grad):
            raise InputError(
                f"{where}: its {name} and its {after} share memory, and only one would be trained; "
                "use one of them in both places, or register a .clone()"
            )


def _span(tensor: Tensor) -> tuple[int, int]:
    """Return the addresses from which and up to which a tensor lies."""
    elements = 1 + sum((size - 1) * step for size, step in _axes(tensor))
    return tensor.data_ptr(), tensor.data_ptr() + elements * tensor.element_size()


def _require_in_state(module: nn.Module, where: str) -> None:
    """Raise unless the ``state_dict`` hands out every parameter itself, and holds tensors alone."""
    state = module.state_dict(keep_vars=True)
    for key, value in state.items():
        if not isinstance(value, Tensor):
            raise InputError(
                f"{where}: its state_dict has {key}, a {type(value).__name__}, which no file of "
                "tensors holds; register it as a buffer"
            )
    held = {id(tensor) for tensor in state.values()}
    missing = [name for name, p in module.named_parameters() if id(p) not in held]
    if missing:
        raise InputError(
            f"{where}: its state_dict does not hand out its parameter {missing[0]} itself, and so "
            "cannot save what trains; leave state_dict to torch.nn.Module"
        )
