"""A module that was given as an object: it stays as it is, and what trains is copies of it."""

import weakref
from collections.abc import Iterator
from copy import deepcopy
from itertools import chain
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from nufed.conf.errors import InputError, reason
from nufed.tasks.module_state import same


class Instance:
    """Makes copies of a module as it was when it was given, each on the CPU.

    Raises
    ------
    InputError
        If it cannot be copied.
    """

    def __init__(self, module: nn.Module) -> None:
        self.__name__ = type(module).__name__
        self.given = weakref.ref(module)
        try:
            self._module = deepcopy(module)
        except Exception as error:  # whatever the copying of its attributes raises
            raise InputError(
                f"model={self.__name__}(…): cannot be copied ({reason(error):.200}); give its "
                "class, or a function that makes it"
            ) from error
        for p in self._module.parameters():
            p.grad = None
        if any(tensor.device.type != "cpu" for tensor in _tensors(self._module)):
            self._module.cpu()

    def __call__(self) -> nn.Module:
        """Return a copy."""
        return deepcopy(self._module)

    def is_of(self, module: nn.Module) -> bool:
        """Tell whether it makes copies of this module, as that is now."""
        return self.given() is module and _alike(module, self._module)


_made: list[Instance] = []


def instance_of(module: nn.Module) -> Instance:
    """Return what copies a module; of one that has not changed since, the same as before."""
    for each in _made:
        if each.is_of(module):
            return each
    _made.append(Instance(module))
    return _made[-1]


def _alike(a: nn.Module, b: nn.Module) -> bool:
    """Tell whether a module is what its copy is; one that cannot be compared is not."""
    if _outline(a) != _outline(b):
        return False
    pairs = zip(_tensors(a), _tensors(b), strict=True)
    return all(
        is_lazy(p) or (p.requires_grad == q.requires_grad and same(p.cpu(), q)) for p, q in pairs
    )


def _outline(module: nn.Module) -> list[tuple[Any, ...]]:
    """Return what a module is but for its tensors."""
    return [
        (name, type(each), {key: repr(value) for key, value in vars(each).items() if key[0] != "_"})
        for name, each in module.named_modules()
    ] + [(name,) for name, _ in chain(module.named_parameters(), module.named_buffers())]


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    return chain(module.parameters(), module.buffers())
