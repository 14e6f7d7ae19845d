"""Push a few rows through a user's module once, before anything depends on it.

What it is lent again and again it must leave as it is, and what it gives must be what the data
needs: found out here, where it costs one line, and not by figures that are wrong.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _NormBase

from conf.errors import InputError, reason
from tasks.module_state import Params, buffers, evaluating, same, trainable
from tasks.outputs import scores
from tasks.store import FederatedData
from tasks.tokens import hint, require_known, require_seen

ROWS = 2, 3  # in a batch: outputs that are as long as both have a row each


class Trial(NamedTuple):
    """What was found."""

    width: int
    """Outputs of a row, or of a place of it where y is a sequence."""
    integers: bool
    """Whether it is given x as integers, which an embedding needs and a matrix product refuses."""
    writes_input: bool
    """Whether it writes to the x that it is given: it gets copies, then."""
    draws: bool
    """Whether it draws random numbers, as dropout does."""


def tried(
    module: nn.Module,
    data: FederatedData,
    where: str,
    *,
    dtype: torch.dtype,
    any_width: bool = False,
    class_axis: str | None = None,
) -> Trial:
    """Push rows through a module, which also sizes lazy layers.

    Parameters
    ----------
    module
        On the CPU, as its constructor left it.
    where
        What names it to a person.
    dtype
        Of real x, and of the parameters that train.
    any_width
        Whether any number of outputs will do, as a loss of one's own may ask.
    class_axis
        ``last`` where a person says that outputs of a sequence have their classes there.

    Raises
    ------
    InputError
        If it does not take the rows, changes what it must not, or its outputs are not usable.
    """
    shape = data.x.shape[1:]
    try:
        # Integers are tried as such first; a module that does not take them gets them as reals.
        integers = _holds_integers(data) and _takes(module, torch.zeros(2, *shape).long())
        kind = torch.int64 if integers else dtype
        with torch.no_grad():
            module(torch.zeros(ROWS[0], *shape, dtype=kind))
            few, more = (_rows(n, shape, kind) for n in ROWS)
            changed, before = _Changes(module, few), torch.get_rng_state()
            small, large = _scores(module(few)), _scores(module(more))
            draws = not torch.equal(before, torch.get_rng_state())
    except Exception as error:  # whatever the user's code raises
        said = "" if isinstance(error, _NoScores) else hint(module, data)
        raise InputError(f"{where}: {_refusal(error, list(shape))}{said}") from error
    changed.require_none(where)
    if integers:
        require_known(module, data, where)
    else:
        require_seen(module, data, where, dtype)
    _require_scores(small, large, where, dtype)
    width = _width(small, data, where, any_width, class_axis)
    changed.require_none_of_other_parameters(where, more)
    return Trial(width, integers, changed.input, draws)


class _Changes:
    """What a module changed of what it was lent: compared with how it was before."""

    def __init__(self, module: nn.Module, x: Tensor) -> None:
        self._module, self._x = module, x
        self._version, self._was = x._version, x.clone()
        self._buffers = _copies(buffers(module))
        self._params = _copies(dict(module.named_parameters()))
        self._versions = {name: p._version for name, p in module.named_parameters()}

    @property
    def input(self) -> bool:
        """Whether it wrote to its input."""
        return self._x._version != self._version or not same(self._x, self._was)

    def require_none(self, where: str) -> None:
        """Raise an `InputError` if it changed a buffer or a parameter."""
        for name, p in self._module.named_parameters():
            if p._version != self._versions[name] or not same(p, self._params[name]):
                raise _writes_to(name, where)
        for name, buffer in buffers(self._module).items():
            if not same(buffer, self._buffers[name]):
                raise InputError(f"{where}: {_of_state(self._module, name, self._x)}")

    def require_none_of_other_parameters(self, where: str, x: Tensor) -> None:
        """Raise an `InputError` if it changes parameters that are larger than its own: clamps."""
        large = {name: 8 * p.detach() + 1 for name, p in trainable(self._module).items()}
        were = _copies(large)
        with torch.no_grad():
            functional_call(self._module, large, (x.clone(),))
        for name, p in large.items():
            if not same(p, were[name]):
                raise _writes_to(name, where)


def _writes_to(name: str, where: str) -> InputError:
    return InputError(
        f"{where}: writes to its parameter {name} in forward (as max_norm of nn.Embedding), but "
        "all clients begin from it; compute with a changed copy of it instead"
    )


def _of_state(module: nn.Module, name: str, x: Tensor) -> str:
    """Say what to do about a buffer that a forward changes."""
    owner, _, buffer = name.rpartition(".")
    layer = f"layer {owner or 'itself'}"
    if isinstance(module.get_submodule(owner), _NormBase):
        return (
            f"{layer} keeps running statistics of the rows it saw ({buffer}), which clients must "
            "not share; use torch.nn.GroupNorm, or .eval() in the constructor, which freezes them"
        )
    freezes = ", or .eval() in the constructor, which keeps it" * _is_kept(module, name, x)
    return (
        f"{layer} changes its buffer {buffer} in every forward, and so a client's loss depends on "
        f"how often it was computed; leave the layer out{freezes}"
    )


def _is_kept(module: nn.Module, name: str, x: Tensor) -> bool:
    """Tell whether a forward in eval mode leaves a buffer as it is."""
    with evaluating(module), torch.no_grad():
        before = buffers(module)[name].clone()
        module(x.clone())
    return same(before, buffers(module)[name])


def _require_scores(few: Tensor, more: Tensor, where: str, dtype: torch.dtype) -> None:
    """Raise unless outputs are real numbers of the right type, a row of them for each row."""
    if few.is_complex() or not few.is_floating_point():
        kind = str(few.dtype).removeprefix("torch.")
        raise InputError(f"{where}: gives {kind} outputs; return real scores, which have gradients")
    if few.dtype != dtype:
        given, wanted = (str(each).removeprefix("torch.") for each in (few.dtype, dtype))
        raise InputError(
            f"{where}: gives {given} outputs, and engine.precision asks for {wanted}; return "
            f"outputs.to(torch.{wanted}), or say engine.precision={given}"
        )
    if (few.shape[:1], more.shape[:1]) != tuple((rows,) for rows in ROWS):
        raise InputError(
            f"{where}: gives outputs of shape {list(few.shape)} for {ROWS[0]} rows and "
            f"{list(more.shape)} for {ROWS[1]}; rows must be their first axis"
        )


def _width(
    outputs: Tensor, data: FederatedData, where: str, any_width: bool, class_axis: str | None
) -> int:
    """Return the outputs of a row or place, if they are shaped as the data needs."""
    shape, places, needed = tuple(outputs.shape[1:]), tuple(data.y.shape[1:]), data.num_outputs
    gives = f"{where}: gives outputs of shape {list(shape)} a row"
    if data.classes and places:
        if shape[:-1] != places or shape[-1] < needed:
            raise InputError(
                f"{gives}; the data needs {[*places, needed]}, classes at each place and last, "
                "as of model=transformer"
            )
        if shape[1:] == places and class_axis is None:
            raise InputError(
                f"{gives}, and either axis may be that of the classes; if it is the last, say "
                "task.class_axis=last, else move it there, outputs.movedim(1, -1)"
            )
        return shape[-1]
    width = int(np.prod(shape))
    if any_width:
        return width
    if width != needed and not (data.classes and width > needed):
        raise InputError(f"{where}: gives {width} outputs a row; the data needs {needed}")
    # Targets of any shape may come side by side, as of a last linear layer.
    if len(shape) != 1 and (data.classes or _squeezed(shape) != _squeezed(places)):
        wanted = [needed] if data.classes else list(places)
        raise InputError(f"{gives}; the data needs {wanted}, and as many by chance may be others")
    return width


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _refusal(error: Exception, shape: list[int]) -> str:
    """Return what a forward that raised, or gave no tensor, is answered with."""
    if isinstance(error, _NoScores):
        return reason(error)
    return f"does not take rows of shape {shape}: {reason(error)}"


class _NoScores(TypeError):
    """A module's return value is not the one tensor that is needed."""


def _scores(returned: Any) -> Tensor:
    try:
        return scores(returned)
    except TypeError as error:
        raise _NoScores(str(error)) from error


def _rows(number: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return rows that differ, of reals; tokens may be of a vocabulary of one."""
    if dtype == torch.int64:
        return torch.zeros(number, *shape, dtype=dtype)
    return torch.rand(number, *shape, dtype=dtype)


def _holds_integers(data: FederatedData) -> bool:
    return data.x.dtype.kind in "iu" and data.x.dtype != np.uint8


def _takes(module: nn.Module, rows: Tensor) -> bool:
    try:
        with torch.no_grad():
            module(rows)
    except Exception:  # whatever the user's code raises
        return False
    return True


def _copies(tensors: Params) -> Params:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
