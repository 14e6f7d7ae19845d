"""Which code a configuration names, and whether it may be called.

What a person types may name any code. What comes from elsewhere (a run folder, a server, a
submitter) may name what is there to be named: NuFed's own options, and modules, losses, optimizers,
metrics and partitioners of the libraries beneath. Any other code is called where the person who
would run it names the module that they trust.
"""

import inspect
import os
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from nufed.conf.errors import InputError
from nufed.conf.schema import LONGEST, Config, require
from nufed.conf.text import printable

NAMED = re.compile(r"tracking\.\w+\._target_")
"""A key of a tracker, whatever that is called."""
OPTION = re.compile(r"^ *(?:_target_|launcher): *([\w.]+)", re.MULTILINE)
NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
SCHEDULED = re.compile(r"(schedule)\.\w+(?=\._target_$)")
EVERYTHING = "*"
SOURCE = "dataset.source"
TRUST = "NUFED_TRUST"
"""Names the modules that ServerApps and ClientApps trust, in their environment."""
HOW = "if you trust it, add trust={}"
HOW_HERE = f"whoever runs this ServerApp or SuperNode, and trusts it, sets {TRUST}={{}}"


class Trusted(NamedTuple):
    """A package of a library: what is defined there may be named, if it is of one kind."""

    package: str
    base: str | None = None
    """Subclasses of it may be named; None: functions."""


METRICS = "aggregation", "classification", "nominal", "regression", "retrieval", "segmentation"
"""Of torchmetrics; many of the others read models from files, or fetch them."""
LIBRARIES = {
    "torch.nn": (
        Trusted("torch.nn.functional"),
        Trusted("torch.nn", "torch.nn.modules.module.Module"),
    ),
    "torch.optim": (Trusted("torch.optim", "torch.optim.optimizer.Optimizer"),),
    "torchmetrics": (
        *(Trusted(f"torchmetrics.functional.{each}") for each in (*METRICS, "pairwise")),
        *(Trusted(f"torchmetrics.{each}", "torchmetrics.metric.Metric") for each in METRICS),
    ),
    "flwr_datasets.partitioner": (
        Trusted("flwr_datasets.partitioner", "flwr_datasets.partitioner.partitioner.Partitioner"),
    ),
}


def foreign(config: Config) -> dict[str, str]:
    """Return key -> name of the code that a configuration names and others have no say in."""
    return {key: name for key, name in _named(config) if not is_known(key, name)}


def is_known(key: str, name: str) -> bool:
    """Tell whether anybody may name it there: such a part of a library, or an option of the group.

    One of NuFed's is an option at its own key alone. What reads a data set may call what its
    ``source`` names, and so is no model, nor an argument of one.
    """
    place = "tracking._target_" if NAMED.fullmatch(key) else SCHEDULED.sub(r"\1", key)
    if name in _options().get(place, ()):
        return True
    if len(name) > LONGEST:
        return False
    root = next((each for each in LIBRARIES if f"{name}.".startswith(f"{each}.")), None)
    module, _, attribute = name.rpartition(".")
    if root is None or not NAME.fullmatch(name) or len(module) < len(root):
        return False
    if find_spec(root.partition(".")[0]) is None:
        return True  # who calls it says that it is not installed
    try:
        found = getattr(import_module(module), attribute, None)  # one step: no walk through globals
    except ImportError:
        return False
    return any(_is_of(found, part) for part in LIBRARIES[root])


def require_allowed(
    config: Config, where: str, trust: Collection[str] = (), how: str = HOW
) -> None:
    """Raise an `InputError` if a configuration from elsewhere names code that nobody trusts here.

    Parameters
    ----------
    where
        What a person calls where it comes from.
    trust
        The modules that they trust, or the very names.
    how
        What to do about it, with a place for the modules.
    """
    asked = {key: name for key, name in foreign(config).items() if not _covered(name, trust)}
    if not asked:
        return
    called = {key: printable(name)[:LONGEST] for key, name in asked.items()}
    said = " and ".join(f"its {key} is {name}" for key, name in list(called.items())[:3])
    modules = list(dict.fromkeys(name.rpartition(".")[0] or name for name in called.values()))
    if any(_is_no_ones(name) for name in asked.values()):
        raise InputError(f"{where}: {said}, which no run has a use for; it is not called")
    wanted = modules[0] if len(modules) == 1 else f"[{','.join(modules)}]"
    raise InputError(f"{where}: {said}, code that is not NuFed's; {how.format(wanted)}")


def modules_of(value: Any, key: str = "trust") -> tuple[str, ...]:
    """Return the modules that a person names as trusted, in a text or in a list.

    Raises
    ------
    InputError
        If one is no name of a module.
    """
    words = re.split(r"[\s,\[\]]+", value) if isinstance(value, str) else value
    words = () if words is None else words
    valid = isinstance(words, Iterable) and all(isinstance(word, str) for word in words)
    require(valid, key, value, "a module, such as mine, or a list of them")
    found = tuple(filter(None, words))
    for word in found:
        require(word == EVERYTHING or NAME.fullmatch(word) is not None, key, word, "a module")
    return found


def modules_here(node_config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the modules that whoever runs this ServerApp or SuperNode trusts.

    By ``trust`` in its node config, or by `NUFED_TRUST` in its environment.
    """
    of_node = modules_of(node_config.get("trust"))
    return (*of_node, *modules_of(os.environ.get(TRUST), TRUST))


def typed_here(node_config: Mapping[str, Any]) -> bool:
    """Tell whether whoever runs this process typed the run's configuration, on no other machine."""
    return node_config.get("trust") == EVERYTHING


def _named(config: Config) -> Iterator[tuple[str, str]]:
    """Yield key and name of all that a configuration would have called."""
    yield from _targets(asdict(config), "")
    launcher, dataset, task = config.engine.get("launcher"), config.dataset, config.task
    if launcher is not None:
        yield "engine.launcher", str(launcher)
    if "source" in dataset:
        yield SOURCE, str(dataset["source"])
    metrics = task.metrics if isinstance(task.metrics, dict) else {}
    entries = {"task.loss": task.loss} | {f"task.metrics.{k}": v for k, v in metrics.items()}
    yield from ((key, name) for key, name in entries.items() if isinstance(name, str))


def _targets(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Yield what is named by `_target_`, at any depth."""
    if isinstance(value, dict):
        for name, entry in value.items():
            path = f"{key}.{name}".lstrip(".")
            if name == "_target_":
                yield path, str(entry)
            else:
                yield from _targets(entry, path)
    elif isinstance(value, list | tuple):
        for i, entry in enumerate(value):
            yield from _targets(entry, f"{key}[{i}]")


@cache
def _options() -> Mapping[str, frozenset[str]]:
    """Return what the options of the configuration's groups name, by the key that names it."""
    found = {"engine.launcher": "engine", SOURCE: "dataset"}
    found |= {"strategy.optimizer._target_": "optimizer"}
    found |= {"partition.partitioner._target_": "partition"}
    groups = ("algorithm", "dataset", "model", "strategy", "rule", "sampler", "schedule")
    found |= {f"{group}._target_": group for group in (*groups, "tracking")}
    return {
        key: frozenset(
            name
            for file in Path(__file__).parent.glob(f"{group}/*.yaml")
            for name in OPTION.findall(file.read_text())
        )
        for key, group in found.items()
    }


def ours() -> frozenset[str]:
    """Return all that the options of the configuration's groups name."""
    return frozenset[str]().union(*_options().values())


def _is_of(found: object, part: Trusted) -> bool:
    """Tell whether something is defined in a part of a library, and of its kind."""
    if not f"{getattr(found, '__module__', None)}.".startswith(f"{part.package}."):
        return False
    if part.base is None:
        return inspect.isfunction(found) and not found.__name__.startswith("_")
    module, _, name = part.base.rpartition(".")
    return inspect.isclass(found) and issubclass(found, getattr(import_module(module), name))


def _covered(name: str, trust: Collection[str]) -> bool:
    return any(each == EVERYTHING or f"{name}.".startswith(f"{each}.") for each in trust)


def _is_no_ones(name: str) -> bool:
    """Tell whether a name is Python's own or ours: nobody's model, data or tracker."""
    package = name.partition(".")[0]
    return package in sys.stdlib_module_names or package in {
        each.partition(".")[0] for each in ours() if not each.startswith("torch")
    } - {"flwr_datasets"}
