"""What trackers draw: a row of metrics.jsonl as flat, named numbers."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from nufed.conf.command import leaves
from nufed.conf.schema import Config
from nufed.server_app.tracking import Row
from nufed.strategies.curves import GROUPS

TRAIN = {
    "train_loss": "train/loss",
    "update_norm": "train/update_norm",
    "meta_grad_norm": "train/meta_grad_norm",
    "train_s": "train/seconds",
    "clients": "train/clients",
    "epsilon": "privacy/epsilon",
}


def round_scalars(row: Row) -> dict[str, float]:
    """Return what every round has: ``train/loss``, ``train/update_norm``, …; finite values only."""
    found = {tag: row[key] for key, tag in TRAIN.items() if key in row}
    if "failures" in row:
        found["train/dropped_updates"] = len(row["failures"])
    for group in ("metrics", "cost"):  # those of the algorithm; what was spent so far
        found |= {f"{group}/{name}": value for name, value in row.get(group, {}).items()}
    diagnostics = row.get("diagnostics", {})
    found["diagnostics/meta_grad_norm2"] = diagnostics.get("meta_grad_norm2")
    for name, estimate in diagnostics.get("estimates", {}).items():
        found[f"diagnostics/{name}"] = estimate.get("value")
    return _finite(found)


def evaluation_scalars(row: Row) -> dict[str, float]:
    """Return what an evaluated round has besides, finite values only.

    Of participating and of new clients, ``<group>/<metric>_k<k>`` is the mean after k fine-tuning
    steps; the other statistics, such as ``<group>/accuracy_worst_decile_k5``, are of the last k.
    """
    found = dict[str, Any]()
    for group in GROUPS:
        curves = row.get(group, {})
        for name, curve in curves.items():
            if name != "k" and isinstance(curve, list):
                is_mean = name in means(curves)
                for k in curves["k"] if is_mean else curves["k"][-1:]:
                    found[f"{group}/{name}_k{k}"] = curve[k]
    return _finite(found)


def means(curves: Mapping[str, Any]) -> list[str]:
    """Return the metrics of a group's curves, without what else is told of them."""
    return [name for name in curves if f"{name}_worst_decile" in curves]


def scalars(row: Row) -> dict[str, float]:
    """Return all that a row has for a tracker."""
    return round_scalars(row) | evaluation_scalars(row)


def flat_config(config: Config) -> dict[str, Any]:
    """Return a configuration as dotted keys, for trackers that know no nested ones."""
    return dict(leaves(asdict(config)))


def _finite(values: dict[str, Any]) -> dict[str, float]:
    return {
        tag: float(value)
        for tag, value in values.items()
        if value is not None and math.isfinite(value)
    }
