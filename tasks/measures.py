"""Losses and metrics of one's own: `task.loss` and `task.metrics`, by name.

A name is that of a function (outputs, y) or of a class whose objects are called so, such as
``torch.nn.functional.huber_loss`` or ``torchmetrics.classification.MulticlassF1Score``. Where its
signature names them it is given ``reduction="none"`` and, of classes, ``num_classes``.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object
from torch import Tensor, nn

from nufed.conf.errors import InputError, reason
from nufed.conf.making import find, make, prepared
from nufed.conf.metric_names import OURS
from nufed.conf.schema import TaskConfig, require
from nufed.tasks.module_state import same
from nufed.tasks.objective import (
    ACCURACY,
    BALANCED,
    LOWER_IS_BETTER,
    MAE,
    Batch,
    Function,
    Metric,
    Objective,
)
from nufed.tasks.undefined import lacks

DIRECTION = "higher_is_better"
RESERVED = ("loss", "train_loss", "k", "clients", "client", "rows", "test_rows", "round")
STATISTICS = ("_std", "_worst_decile", "_bottom", "_undefined")
OF_CLASSES = {f"{OURS}.is_right": ACCURACY, f"{OURS}.balanced_accuracy": BALANCED}
OF_REALS = {f"{OURS}.off_by": MAE}
"""Our own, which are known to be means over rows; others are found out to be."""
LONGEST_NAME = 100  # characters of a metric's; it is in every row of metrics.jsonl


def make_objective(
    config: TaskConfig,
    *,
    classes: bool,
    width: int,
    device: torch.device,
    dtype: torch.dtype,
    rare: bool = False,
) -> Objective:
    """Return the loss and metrics that a configuration names, or ours where it names none.

    Parameters
    ----------
    config
        The `task` group.
    classes
        Whether y holds classes.
    width
        Outputs of the model: the number of classes, where it holds these.
    device, dtype
        Of what they are given.
    rare
        Whether nearly all rows are of one class.

    Raises
    ------
    InputError
        If a name stands for nothing that can be called, or its package is not installed.
    """
    given = {"num_classes": width} if classes else {}
    empty = torch.empty(0, dtype=dtype, device=device)

    def made(key: str, value: Any) -> Metric:
        metric = _made(key, value, given, empty)
        of = metric.of.to(device, dtype) if isinstance(metric.of, nn.Module) else metric.of
        return metric._replace(of=_as_function(of))

    loss = None if config.loss is None else made("task.loss", config.loss).of
    metrics = None
    if config.metrics is not None:
        metrics = {n: made(f"task.metrics.{n}", v) for n, v in _named(config).items()}
    lower_is_better(config)
    return Objective(classes, loss, metrics, rare)


def lower_is_better(config: TaskConfig) -> frozenset[str]:
    """Return the names of the reported metrics of which less is better.

    Raises
    ------
    InputError
        If that cannot be told of one of them.
    """
    higher = {name: _higher_is_better(name, entry) for name, entry in _named(config).items()}
    return (LOWER_IS_BETTER - higher.keys()) | {name for name, is_it in higher.items() if not is_it}


def usable(
    objective: Objective, config: TaskConfig, outputs: Tensor, y: Tensor, *, twice: bool
) -> Objective:
    """Try losses and metrics on a few real rows; return them, knowing which give one value a row.

    Parameters
    ----------
    outputs, y
        [B, …] What the model gives for them, and their targets.
    twice
        Whether gradients of gradients are asked of the loss.

    Raises
    ------
    InputError
        If one fails, has another shape than it must have, or a loss lacks a derivative.
    """
    batch = objective.aligned(outputs, y)
    if objective.row_loss is not None:
        where = f"task.loss={_name(config.loss)}"
        losses = _tried(where, objective.row_loss, batch)
        _require_one_a_row(where, losses, batch)
        _require_derivatives(where, losses, batch.outputs, twice)
    if not objective.classes and objective.metrics is None and batch.outputs.shape != batch.y.shape:
        raise InputError(
            f"task.loss={_name(config.loss)}: with outputs {list(batch.outputs.shape)} for targets "
            f"{list(batch.y.shape)} there is no mae; say what to report, as task.metrics={{}}"
        )
    if objective.metrics is None:
        return objective
    rows = batch._replace(outputs=batch.outputs.detach())
    settled = {name: _settled(name, metric, rows) for name, metric in objective.metrics.items()}
    return replace(objective, metrics=settled)


def _settled(name: str, metric: Metric, batch: Batch) -> Metric:
    """Return a metric, as one of each row if that is what it turns out to be."""
    where = f"task.metrics.{name}"
    if metric.lacks is not None and metric.lacks(batch.outputs, batch.y):
        return metric  # it is of torchmetrics, and there is nothing to try it on
    value = _tried(where, metric.of, batch)
    if metric.by_row:
        _require_one_a_row(where, value, batch)
    elif value.ndim:
        twice = Batch(torch.cat([batch.outputs] * 2), torch.cat([batch.y] * 2), None)
        if [len(value), len(_tried(where, metric.of, twice))] != [len(batch.y), len(twice.y)]:
            raise InputError(
                f"{where}: gives shape {list(value.shape)} for {len(batch.y)} rows; it must be one "
                "number, or one value a row"
            )
        return metric._replace(by_row=True)
    return metric


def _tried(where: str, of: Function, batch: Batch) -> Tensor:
    lent = batch._replace(outputs=batch.outputs.clone(), y=batch.y.clone())
    try:
        value = of(lent.outputs, lent.y)
    except Exception as error:  # whatever the user's code raises
        shapes = f"outputs {list(batch.outputs.shape)} and y {list(batch.y.shape)}"
        raise InputError(f"{where}: fails on {shapes}: {reason(error)}") from error
    if not isinstance(value, Tensor):
        raise InputError(f"{where}: gives a {type(value).__name__}, not a tensor")
    for name, now, was in (("outputs", lent.outputs, batch.outputs), ("y", lent.y, batch.y)):
        if not same(now, was):
            raise InputError(
                f"{where}: writes to the {name} that it is given, which others are given too; "
                f"work on {name}.clone()"
            )
    return value


def _require_derivatives(where: str, losses: Tensor, outputs: Tensor, twice: bool) -> None:
    if not losses.requires_grad:
        raise InputError(f"{where}: has no gradient; make it of differentiable operations")
    try:
        (first,) = torch.autograd.grad(losses.sum(), outputs, create_graph=True)
        if twice and first.requires_grad:
            torch.autograd.grad(first.sum(), outputs, allow_unused=True)
    except RuntimeError as error:
        raise InputError(
            f"{where}: {reason(error):.150}; algorithm.mode=hessian_free or first_order needs no "
            "second derivative"
        ) from error


def _require_one_a_row(where: str, values: Tensor, batch: Batch) -> None:
    if values.ndim == 0 or len(values) != len(batch.y):
        raise InputError(
            f"{where}: gives shape {list(values.shape)} for {len(batch.y)} rows; it must return "
            "one value a row, or take reduction='none'"
        )


def _named(config: TaskConfig) -> dict[str, Any]:
    """Return the metrics that are asked for, name -> entry."""
    metrics = config.metrics or {}
    example = "name: {_target_: …}, such as {f1: {_target_: torchmetrics.…}}"
    require(isinstance(metrics, dict), "task.metrics", metrics, example)
    for name in metrics:
        usable = name.isidentifier() and name not in RESERVED and not name.endswith(STATISTICS)
        require(usable, "task.metrics", name, f"a plain name, none of {', '.join(RESERVED)}")
        require(len(name) <= LONGEST_NAME, "task.metrics", name, f"at most {LONGEST_NAME} long")
    return dict(metrics)


def _made(key: str, entry: Any, given: dict[str, Any], like: Tensor) -> Metric:
    """Return what an entry names, ready to be called, as far as its signature tells."""
    spec = _spec(key, entry)
    target = _target(key, spec)
    if (own := (OF_CLASSES | OF_REALS).get(spec["_target_"])) is not None:
        _require_ours(key, spec, classes="num_classes" in given)
        return own
    known = _parameters(target)
    sizes = {name: value for name, value in given.items() if name in known and name not in spec}
    by_row = "reduction" in known and not hasattr(target, "compute")
    if by_row:
        sizes["reduction"] = "none"
        _require_plain_mean(key, spec)
    arguments = {name: value for name, value in spec.items() if name != DIRECTION}
    tensors = {
        name: _as_tensor(arguments.pop(name), like)
        for name in list(arguments)
        if _wants_tensor(known, name, arguments[name])
    }
    try:
        if inspect.isclass(target):
            function = make(arguments | sizes, **tensors)
        else:
            function = partial(prepared(arguments | sizes), **tensors)
    except (InstantiationException, TypeError, ValueError) as error:
        raise InputError(f"{key}={_name(entry)}: {reason(error.__cause__ or error)}") from error
    if not callable(function):
        raise InputError(f"{key}={_name(entry)}: its objects cannot be called with (outputs, y)")
    told = lacks(function if inspect.isclass(target) else target, arguments | sizes)
    return Metric(function, by_row, told)


def _require_ours(key: str, spec: Mapping[str, Any], *, classes: bool) -> None:
    """Raise where one of our metrics is asked of targets that it is not of, or is given more."""
    name = spec["_target_"]
    if (name in OF_CLASSES) != classes:
        of, holds = ("real numbers", "classes") if classes else ("classes", "real numbers")
        raise InputError(f"{key}={name}: is of {of}, and y holds {holds}; name another")
    if more := sorted(spec.keys() - {"_target_", DIRECTION}):
        raise InputError(f"{key}={name}: has no {more[0]}; leave it out")


def _require_plain_mean(key: str, spec: Mapping[str, Any]) -> None:
    """Raise where `reduction` asks for anything but the mean over rows, which alike they are."""
    asked = spec.get("reduction", "none")
    plain = asked == "none" or (asked == "mean" and "weight" not in spec)
    allowed = "left out: each row has its loss, times its class weight, and the mean is taken"
    require(plain, f"{key}.reduction", asked, allowed)


def _wants_tensor(known: Mapping[str, inspect.Parameter], name: str, value: Any) -> bool:
    """Tell whether a list of numbers stands for a tensor, as YAML has no other way to say it.

    By the annotation, as of torch's class weights; where there is none, by the name.
    """
    if not isinstance(value, list):
        return False
    annotation = known[name].annotation if name in known else inspect.Parameter.empty
    if annotation in (inspect.Parameter.empty, Any, "Any"):
        return name.endswith(("weight", "weights"))
    words = set(re.findall(r"\w+", str(annotation)))
    return "Tensor" in words and not words & {"list", "List", "Sequence", "Iterable"}


def _as_tensor(value: list[Any], like: Tensor) -> Any:
    """Return nested lists of numbers as a tensor like `like`, and any other as it is."""
    try:
        return torch.tensor(value, dtype=like.dtype, device=like.device)
    except (TypeError, ValueError):
        return value


def _as_function(made: Callable[..., Any]) -> Function:
    """Return a torchmetrics object as a function that remembers nothing; others as they are."""
    if not (hasattr(made, "compute") and hasattr(made, "reset")):
        return made
    metric: Any = made

    def of(outputs: Tensor, y: Tensor) -> Tensor:
        metric.reset()
        metric.update(outputs, y)
        value: Tensor = metric.compute()
        return value

    return of


def _higher_is_better(name: str, entry: Any) -> bool:
    """Tell from the entry, from torchmetrics, or from its being a loss."""
    key = f"task.metrics.{name}"
    spec = _spec(key, entry)
    if DIRECTION in spec:
        require(
            type(spec[DIRECTION]) is bool, f"{key}.{DIRECTION}", spec[DIRECTION], "true or false"
        )
        return bool(spec[DIRECTION])
    target = _target(key, spec)
    known = getattr(_torchmetric(target) or target, DIRECTION, None)
    if type(known) is bool:
        return known
    if "reduction" in _parameters(target):
        return False
    raise InputError(
        f"{key}={_name(entry)}: is higher or lower better? Say "
        f"{key}={{_target_: {spec['_target_']}, {DIRECTION}: true}}, or false"
    )


def _torchmetric(target: Any) -> Any:
    """Return the class of a function of torchmetrics, which knows its direction; else None."""
    package, _, rest = str(getattr(target, "__module__", "")).partition(".functional.")
    if package != "torchmetrics":
        return None
    classes = vars(get_object(f"torchmetrics.{rest.split('.')[0]}"))
    wanted = target.__name__.replace("_", "")
    return next((found for name, found in classes.items() if name.lower() == wanted), None)


def _spec(key: str, entry: Any) -> dict[str, Any]:
    """Return an entry as a dict with `_target_`, of which a name alone is the short form."""
    spec = {"_target_": entry} if isinstance(entry, str) else entry
    valid = isinstance(spec, dict) and isinstance(spec.get("_target_"), str)
    require(valid, key, entry, "a name, or {_target_: name, …} with its arguments")
    return dict(spec)


def _target(key: str, spec: dict[str, Any]) -> Any:
    name = spec["_target_"]
    try:
        return find(name)
    except Exception as error:  # importing may raise whatever the user's module raises
        cause = error.__cause__ or error
        if isinstance(cause, ModuleNotFoundError) and cause.name == "torchmetrics":
            raise InputError(
                f"{key}={name}: needs {cause.name}; pip install {cause.name}"
            ) from error
        raise InputError(f"{key}={name}: {reason(error)}") from error


def _parameters(target: Any) -> Mapping[str, inspect.Parameter]:
    """Return the arguments that a signature names."""
    try:
        return inspect.signature(target).parameters
    except ValueError:  # of a function that is not written in Python
        return {}


def _name(entry: Any) -> str:
    return str(entry.get("_target_")) if isinstance(entry, dict) else str(entry)
