"""When a metric does not exist: of rows of one class there is no AUROC, of one row no R².

It is then NaN, whatever a library puts in its place: torchmetrics warns and returns 0 for AUROC,
returns 0 without a word where AUROC is binned, and raises for R². A convention that a metric states
itself, such as F1's `zero_division`, is its value and stays.
"""

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from inspect import Parameter, signature
from typing import Any

import torch
from torch import Tensor

from nufed.conf.errors import reason

Lacks = Callable[[Tensor, Tensor], str | None]
"""(outputs, y) -> what these rows lack for a metric to exist; None if nothing."""

# By the names that torchmetrics has for classes and functions, without what they start with.
BOTH_SIDES = ("auroc", "logauc", "eer")
ONE_SIDE = ("averageprecision",)
KINDS = ("binary", "multiclass", "multilabel")
VARYING = ("spearmancorrcoef", "relativesquarederror")
STAND_IN = re.compile(
    r"No (positive|negative) samples|Falls back to|Setting the correlation coefficient to nan"
    r"|Returns 0 score"
)
"""What torchmetrics says when it returns something else than it was asked for."""

MOST = 16  # reasons that are told

_noted: ContextVar[list[str] | None] = ContextVar("noted", default=None)
_told: dict[str | tuple[str, type[Warning], int], int] = {}


class Undefined(Exception):
    """A metric does not exist for some rows; the text says why."""


@contextmanager
def noting() -> Iterator[list[str]]:
    """Yield a list that gets ``metric: reason`` of whatever turns out not to exist meanwhile."""
    noted = list[str]()
    token = _noted.set(noted)
    try:
        yield noted
    finally:
        _noted.reset(token)


def note(metric: str, why: object) -> None:
    """Write down, once, why a metric does not exist, if somebody wants to know."""
    noted, line = _noted.get(), f"{metric}: {why}"
    if noted is not None and len(noted) < MOST and line not in noted:
        noted.append(line)


def value(of: Callable[[Tensor, Tensor], Tensor], lacks: Lacks | None, *rows: Tensor) -> Tensor:
    """Return a metric of some rows, (outputs, y).

    Parameters
    ----------
    of
        The metric, which worked on other rows.
    lacks
        Tells whether these will do, where that is known of it; else its own warnings do.

    Raises
    ------
    Undefined
        If it does not exist for them.
    """
    if lacks is not None and (why := lacks(*rows)):
        raise Undefined(why)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = of(*rows)
        except torch.OutOfMemoryError:
            raise
        except (ValueError, ArithmeticError, LookupError, RuntimeError) as error:
            raise Undefined(reason(error)) from error
    for each in caught:
        if not STAND_IN.search(str(each.message)):
            words = str(each.message)
            warnings.warn_explicit(words, each.category, each.filename, each.lineno, None, _told)
        elif lacks is None:
            raise Undefined(str(each.message).split(",")[0].split(". ")[0])
    return found


def lacks(metric: Callable[..., Any], arguments: Mapping[str, Any]) -> Lacks | None:
    """Return what tells whether rows will do for a metric of torchmetrics; None of any other.

    Parameters
    ----------
    metric
        An object, or a function.
    arguments
        What either was made with, or is called with.
    """
    named: Any = metric if hasattr(metric, "__name__") else type(metric)
    if not str(named.__module__).startswith("torchmetrics."):
        return None
    usual = {
        name: each.default
        for name, each in signature(named).parameters.items()
        if each.default is not Parameter.empty
    }
    given = usual | dict(arguments)
    name = named.__name__.lower().replace("_", "")
    kind = next((each for each in KINDS if name.startswith(each)), given.get("task"))
    name = name.removeprefix(str(kind))
    if name == "r2score":
        return partial(_lack_rows, least=2 + given["adjusted"])
    if name in VARYING:
        return _lack_variation
    if name not in BOTH_SIDES + ONE_SIDE or kind not in ("binary", "multiclass"):
        return None
    if kind == "binary":
        wanted = [0, 1] if name in BOTH_SIDES else [1]
    else:
        every = given.get("average") != "weighted"
        if name in ONE_SIDE:  # which leaves out classes that are not there, unless it is binned
            every = every and given.get("thresholds") is not None
        wanted = [*range(given["num_classes"])] if every else []
    return partial(_lack_classes, wanted=wanted, ignored=given.get("ignore_index"))


def _lack_classes(outputs: Tensor, y: Tensor, wanted: list[int], ignored: int | None) -> str | None:
    there = set(torch.unique(y).tolist()) - {ignored}
    if missing := [each for each in wanted if each not in there]:
        return f"no row of class {missing[0]}"
    return None if wanted == [1] or len(there) > 1 else "rows of one class alone"


def _lack_rows(outputs: Tensor, y: Tensor, least: int) -> str | None:
    return None if len(y) >= least else f"fewer than {least} rows"


def _lack_variation(outputs: Tensor, y: Tensor) -> str | None:
    for what, values in (("targets", y), ("outputs", outputs)):
        columns = values.reshape(len(values), -1)
        if bool((columns == columns[:1]).all(0).any()):
            return f"{what} that are all the same"
    return None
