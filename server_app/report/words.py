"""Figures in words, the same wherever a report says them."""

import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from nufed.conf.schema import Config
from nufed.conf.text import count
from nufed.strategies.curves import exists

LOWER, HIGHER = "↓\N{NO-BREAK SPACE}lower is better", "↑\N{NO-BREAK SPACE}higher is better"
TRAITS = {"num_classes_per_partition": "classes each", "num_shards_per_partition": "shards each"}
"""Of partitioners."""


def number(value: float | None, metric: str) -> str:
    """Return a value of a metric: accuracies to a thousandth, others with three digits."""
    if value is None or not math.isfinite(value):
        return "not finite"
    return f"{value:.3f}" if metric == "accuracy" else f"{value:.3g}"


def point(curves: Mapping[str, Any], metric: str, statistic: str, i: int) -> str:
    """Return a statistic of a metric at a point of a group's curve, as metrics.jsonl has it."""
    if not exists(curves, metric, i):
        return "undefined"
    return number(curves[metric + statistic][i], metric)


def steps(k: int) -> str:
    """Return ``5 fine-tuning steps``."""
    return count(k, "fine-tuning step")


def direction(*, lower_is_better: bool) -> str:
    """Return ``↑ higher is better``."""
    return LOWER if lower_is_better else HIGHER


def directed(metric: str, *, lower_is_better: bool) -> str:
    """Return ``accuracy ↑``."""
    return f"{metric} {direction(lower_is_better=lower_is_better)[0]}"


def data_of(config: Config, clients: int | None = None) -> str:
    """Return ``digits, 50 clients by shards (2 classes each)``.

    Parameters
    ----------
    clients
        How many there are, where that is known; else what the configuration says.
    """
    part, spec = config.partition, config.partition.partitioner or {}
    found = clients or part.num_clients
    many = "clients" if found is None else f"{found:,} clients"
    name, path = config.dataset["name"], config.dataset.get("path")
    if isinstance(path, str):
        name = f"{name} {PurePath(path).name}"
    if part.partitioner is None:
        return f"{name}, {many} of its own"
    notes = [f"{spec[key]} {word}" for key, word in TRAITS.items() if type(spec.get(key)) is int]
    notes += [f"alpha {spec['alpha']}"] if type(spec.get("alpha")) is float else []
    told = f" ({', '.join(notes)})" if notes else ""
    return f"{name}, {many} by {part.name}{told}"


def clients(n: int, group: str) -> str:
    """Return ``10 new clients``."""
    return f"{n:,} {group} client{'' if n == 1 else 's'}"


def rounded(count: float) -> str:
    """Return a mean number of things, of which three digits say all: ``870`` or ``12,300``."""
    return f"{float(f'{count:.3g}'):,.0f}" if count >= 100 else f"{count:.3g}"


def size(count: float) -> str:
    """Return a number of bytes as one would say it."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"


def duration(seconds: float) -> str:
    """Return seconds as one would say them."""
    if seconds < 90:
        return f"{seconds:.3g} s"
    minutes, hours = seconds / 60, seconds / 3600
    return f"{minutes:.0f} min" if minutes < 90 else f"{hours:.1f} h"


def shown(value: Any) -> str:
    """Return a value of a configuration as its YAML file has it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
