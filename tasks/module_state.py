"""What a module consists of: parameters that train, frozen ones, and buffers.

Parameters that train are an argument of every function here, and the module's own values of them
are where they began. All else is as the module has it and stays so.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nufed.conf.errors import InputError

Params = dict[str, Tensor]


class Size(NamedTuple):
    """How many parameters a model has."""

    trained: int
    frozen: int = 0

    @classmethod
    def of(cls, module: nn.Module) -> "Size":
        """Count those of a module."""
        counts = (sum(p.numel() for p in some(module).values()) for some in (trainable, frozen))
        return cls(*counts)

    def __str__(self) -> str:
        whole = f"{sum(self):,} parameters"
        return f"{whole}, of which {self.trained:,} train" if self.frozen else whole


def trainable(module: nn.Module) -> Params:
    """Return the parameters that train, name -> tensor; of one with several names the first."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def frozen(module: nn.Module) -> Params:
    """Return the parameters that do not: ``requires_grad`` is False."""
    return {name: p for name, p in module.named_parameters() if not p.requires_grad}


def buffers(module: nn.Module) -> Params:
    """Return the buffers, those too that a state_dict leaves out."""
    return dict(module.named_buffers())


class Places:
    """Where a module looks its parameters up.

    `torch.func.functional_call` finds them anew at every call, which takes longer than the products
    of a small layer.
    """

    def __init__(self, module: nn.Module) -> None:
        names = {id(p): name for name, p in module.named_parameters()}
        self._places = [
            (owner._parameters, key, names[id(p)], p)
            for owner in module.modules()
            for key, p in owner._parameters.items()
            if p is not None
        ]
        """(where, under what key, the name that `params` has for it, the module's own)"""
        self._names = {*names.values()}

    @contextmanager
    def hold(self, params: Params) -> Iterator[None]:
        """Let the module compute with `params`; it has its own ones for what is not among them.

        Raises
        ------
        KeyError
            If the module has none of that name.
        """
        if unknown := params.keys() - self._names:
            raise KeyError(f"the module has no parameter {min(unknown)}")
        for where, key, name, own in self._places:
            where[key] = params.get(name, own)  # type: ignore[assignment]
        try:
            yield
        finally:
            for where, key, _, own in self._places:
                where[key] = own


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Compute as ``module.eval()`` does, and leave each child in the mode that it was in.

    The flags alone are changed: `eval` and `train` may be a user's own, and do more than that.
    """
    training = [child for child in module.modules() if child.training]
    for child in training:
        child.training = False
    try:
        yield
    finally:
        for child in training:
            child.training = True


@contextmanager
def unchanged(module: nn.Module) -> Iterator[None]:
    """Raise an `InputError` if what does not train is written to, or replaced, meanwhile.

    The trial of a model (tasks/module_trial.py) finds most that does; this what it did not meet.
    """
    before = {name: (tensor, tensor._version) for name, tensor in _still(module)}
    yield
    for name, tensor in _still(module):
        then, version = before.get(name, (None, 0))
        if tensor is not then or tensor._version != version:
            raise InputError(
                f"model: its forward changed {name}, which does not train, with these rows though "
                "not in its trial; compute with a changed copy of it instead"
            )


def _still(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield what does not train."""
    yield from module.named_buffers()
    yield from frozen(module).items()


def whole_state(module: nn.Module, params: Params) -> Params:
    """Return the module's ``state_dict()`` with `params` in place of what it has itself."""
    names = {id(p): name for name, p in module.named_parameters()}
    state = module.state_dict(keep_vars=True)
    return {key: params.get(names.get(id(t), ""), t).detach() for key, t in state.items()}


def load_whole_state(module: nn.Module, state: Params) -> Params:
    """Take over frozen parameters and buffers; return the parameters that train.

    Parameters
    ----------
    state
        As `whole_state` returns it; or of version 0.1, all parameters and no buffer.

    Raises
    ------
    ValueError
        If names or shapes are not the module's.
    """
    own = module.state_dict(keep_vars=True)
    names = {id(p): name for name, p in module.named_parameters()}
    older = {names[id(t)]: t for t in own.values() if id(t) in names}
    known = own if state.keys() == own.keys() else older
    if _shapes(state) != _shapes(known):
        raise ValueError("names or shapes of tensors differ")
    for key, tensor in known.items():
        if _kind(state[key]) != _kind(tensor):
            raise ValueError(f"{key:.80} is {state[key].dtype}")
    trained = Params()
    with torch.no_grad():
        for key, tensor in known.items():
            if tensor.requires_grad:
                trained[names[id(tensor)]] = state[key].to(tensor.device, tensor.dtype)
            else:
                tensor.copy_(state[key])
    return {name: trained[name] for name in trainable(module)}


def digest(tensors: Params) -> str:
    """Return a checksum of names, types, shapes and contents; "" of no tensors."""
    if not tensors:
        return ""
    found = hashlib.sha256()
    for name, tensor in tensors.items():
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        found.update(content.numpy().data)
    return found.hexdigest()[:32]


def _kind(tensor: Tensor) -> tuple[bool, bool]:
    return tensor.is_floating_point(), tensor.is_complex()


def same(a: Tensor, b: Tensor) -> bool:
    """Tell whether two tensors hold the same; NaN is the same as NaN."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return torch.equal(a, b) or bool(torch.isclose(a, b, rtol=0, atol=0, equal_nan=True).all())


def kinds(tensors: Params) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Return the shape and type of each."""
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}


def _shapes(tensors: Params) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}
