"""What a module returns, as one tensor: it may be wrapped, as libraries of models like to do."""

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

LOGITS = "logits"
"""Under this name, most libraries return what the loss is of."""


def scores(returned: Any) -> Tensor:
    """Return the tensor that a module's return value stands for.

    That is the tensor itself; or ``.logits`` of an object, or of a mapping; or the only tensor of a
    mapping, sequence or dataclass.

    Raises
    ------
    TypeError
        If there is none, or several; the text says what there is.
    """
    if isinstance(returned, Tensor):
        return returned
    named = returned.get(LOGITS) if isinstance(returned, Mapping) else None
    logits = getattr(returned, LOGITS, named)
    if isinstance(logits, Tensor):
        return logits
    tensors = [each for each in _parts(returned) if isinstance(each, Tensor)]
    if len(tensors) == 1:
        return tensors[0]
    kind = "None" if returned is None else f"a {type(returned).__name__}"
    held = f" of {len(tensors)} tensors" if tensors else ""
    raise TypeError(f"gives {kind}{held}; return the one tensor that the loss is of, or .{LOGITS}")


def _parts(returned: Any) -> Iterable[Any]:
    if isinstance(returned, Mapping):
        return returned.values()
    if isinstance(returned, list | tuple):
        return returned
    if is_dataclass(returned):
        return [getattr(returned, field.name) for field in fields(returned)]
    return []
