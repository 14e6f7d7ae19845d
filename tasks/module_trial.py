"""Push a few rows through a user's module once, before anything depends on it.

What it is lent again and again it must leave as it is, and what it gives must be what the data
needs: found out here, where it costs one line, and not by figures that are wrong.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _NormBase

from nufed.conf.errors import InputError, reason
from nufed.tasks.module_state import Params, buffers, evaluating, same, trainable
from nufed.tasks.outputs import scores
from nufed.tasks.store import FederatedData
from nufed.tasks.streams import Purpose, global_states, seeded, stream
from nufed.tasks.tokens import hint, require_known, require_seen

ROWS = 2, 3  # in a batch: outputs that are as long as both have a row each
MORE = 5  # and what a forward does to a larger batch alone


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
            few, more, many = (_rows(n, shape, kind) for n in (*ROWS, MORE))
            changed, before = _Changes(module), global_states()
            small, large = _scores(changed.by(few)), _scores(changed.by(more))
            changed.by(many)
            draws = before != global_states()
            with evaluating(module):
                changed.by(many)
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
    _require_lent_are_used(module, more, where)
    return Trial(width, integers, changed.input, draws)


class _Changes:
    """What a module changes of what it is lent: compared with how it was before."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._buffers = _copies(buffers(module))
        self._params = _copies(dict(module.named_parameters()))
        self._versions = {name: p._version for name, p in module.named_parameters()}
        self._changed: tuple[str, Tensor] | None = None
        self.input = False
        """Whether it wrote to its input."""

    def by(self, x: Tensor) -> Any:
        """Return what the module gives for rows, and note what it changed."""
        given = x.clone()
        version, returned = given._version, self._module(given)
        self.input |= given._version != version or not same(given, x)
        if self._changed is None:
            self._changed = next(((name, x) for name in self._names()), None)
        return returned

    def _names(self) -> Iterator[str]:
        """Yield the parameters and the buffers that are not what they were."""
        for name, p in self._module.named_parameters():
            if p._version != self._versions[name] or not same(p, self._params[name]):
                yield name
        now = buffers(self._module)
        for name in self._buffers | now:
            were = self._buffers.get(name)
            if were is None or name not in now or not same(now[name], were):
                yield name

    def require_none(self, where: str) -> None:
        """Raise an `InputError` if it changed a buffer or a parameter."""
        if self._changed is None:
            return
        name, x = self._changed
        if name in self._params:
            raise _writes_to(name, where)
        raise InputError(f"{where}: {_of_state(self._module, name, x)}")

    def require_none_of_other_parameters(self, where: str, x: Tensor) -> None:
        """Raise an `InputError` if it changes parameters that are larger than its own: clamps."""
        large = {name: 8 * p.detach() + 1 for name, p in trainable(self._module).items()}
        were = _copies(large)
        try:
            with torch.no_grad():
                functional_call(self._module, large, (x.clone(),))
        except Exception:  # nor need it be defined there, as a Cholesky factor
            return
        for name, p in large.items():
            if not same(p, were[name]):
                raise _writes_to(name, where)


def _require_lent_are_used(module: nn.Module, x: Tensor, where: str) -> None:
    """Raise an `InputError` if parameters that it is lent are not those that it computes with.

    Compared with parameters of its own that have the same values, in outputs and gradients. It may
    hold on to its own elsewhere (in a list, in a closure), or compute again in backward, when it
    has its own back, as `torch.utils.checkpoint` does.
    """
    lent = {name: 1.1 * p.detach() + 0.01 for name, p in trainable(module).items()}
    try:
        with _having(module, lent) as own:
            expected = _values_and_slopes(module, own, x)
            again = _values_and_slopes(module, own, x)
        leaves = {name: p.clone().requires_grad_() for name, p in lent.items()}
        found = _values_and_slopes(lambda rows: functional_call(module, leaves, (rows,)), leaves, x)
    except Exception:  # who differentiates it for use says why it cannot be
        return
    if not torch.equal(expected[OUTPUTS], again[OUTPUTS]):
        raise InputError(
            f"{where}: gives something else each time, though torch, NumPy and Python are seeded; "
            "draw from their global generators, not from one of its own"
        )
    scale = max((float(each.abs().max()) for each in expected.values() if each.numel()), default=0)
    for name, theirs in expected.items():
        if not torch.allclose(found[name], theirs, rtol=1e-2, atol=1e-3 * scale, equal_nan=True):
            what = "what it gives" if name == OUTPUTS else f"its gradient by {name}"
            raise InputError(
                f"{where}: does not compute with the parameters that it is lent ({what} is "
                "another); read them as attributes in forward, without torch.utils.checkpoint "
                "(algorithm.recompute=true saves memory)"
            )


OUTPUTS = ""  # which is no parameter's name


def _values_and_slopes(
    forward: Callable[[Tensor], Any], params: Params, x: Tensor
) -> dict[str, Tensor]:
    """Return a module's outputs and the gradient of their mean square, by name."""
    with seeded(stream(Purpose.MODEL, 0)), torch.enable_grad():
        outputs = scores(forward(x.clone()))
        loss = outputs.square().mean()
        slopes = torch.autograd.grad(loss, list(params.values()), allow_unused=True)
    named = zip(params.items(), slopes, strict=True)
    return {OUTPUTS: outputs.detach()} | {
        name: torch.zeros_like(p) if slope is None else slope for (name, p), slope in named
    }


@contextmanager
def _having(module: nn.Module, values: Params) -> Iterator[Params]:
    """Give a module's parameters other values meanwhile; yield the parameters."""
    own = trainable(module)
    kept = {name: p.data for name, p in own.items()}
    try:
        for name, p in own.items():
            p.data = values[name]
        yield own
    finally:
        for name, p in own.items():
            p.data = kept[name]


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
            "not share; use torch.nn.GroupNorm, or .eval() in the constructor, which freezes them, "
            "or for nn.BatchNorm1d, 2d and 3d algorithm=fedbn, whose clients keep their own"
        )
    freezes = ", or .eval() in the constructor, which keeps it" * _is_kept(module, name, x)
    return (
        f"{layer} changes its buffer {buffer} in every forward, and so a client's loss depends on "
        f"how often it was computed; leave the layer out{freezes}"
    )


def _is_kept(module: nn.Module, name: str, x: Tensor) -> bool:
    """Tell whether a forward in eval mode leaves a buffer as it is."""
    with evaluating(module), torch.no_grad():
        before = _copies(buffers(module))
        module(x.clone())
    return name in before and same(before[name], buffers(module)[name])


def _require_scores(few: Tensor, more: Tensor, where: str, dtype: torch.dtype) -> None:
    """Raise unless outputs are real numbers of the right type, a row of them for each row."""
    if few.is_complex() or not few.is_floating_point():
        kind = str(few.dtype).removeprefix("torch.")
        raise InputError(f"{where}: gives {kind} outputs; return real scores, which have gradients")
    if few.dtype != dtype:
        given, wanted = (str(each).removeprefix("torch.") for each in (few.dtype, dtype))
        other = f", or say engine.precision={given}" * (given == "float64")
        raise InputError(
            f"{where}: gives {given} outputs, and engine.precision asks for {wanted}; return "
            f"outputs.to(torch.{wanted}){other}"
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
