"""What hostile clients do: named attacks, each a pure function of their rows or of the updates.

The updates of a round are a stack here, [K, …], the hostile clients' first.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from nufed.client_app.meta_gradient import Params
from nufed.tasks.task import Task

HOSTILE = 2  # clients, the first of the federation


def own_rows(task: Task) -> Task:
    """Train on the rows as they are."""
    return task


def as_trained(updates: Params) -> Params:
    """Send the updates as they are."""
    return updates


@dataclass(frozen=True)
class Attack:
    """What hostile clients do to their rows before training, and to their updates after it."""

    rows: Callable[[Task], Task] = own_rows
    updates: Callable[[Params], Params] = as_trained


def scaled(updates: Params, factor: float) -> Params:
    """Send `factor` times the update: one below 0 leads up the hill instead of down."""
    return {name: torch.cat([p[:HOSTILE] * factor, p[HOSTILE:]]) for name, p in updates.items()}


def reversed_labels(task: Task) -> Task:
    """Train as told on train rows whose classes are reversed, C − 1 − y (Fang et al. 2020).

    Support and query batches alike come from them. Test rows stay, as do other clients' rows.
    """
    part, y = task.data.partition, np.array(task.data.y)
    for client in range(HOSTILE):
        rows = part.train_rows(client)
        y[rows] = task.data.num_outputs - 1 - y[rows]
    return replace(task, data=replace(task.data, y=y))


def min_sum(updates: Params) -> Params:
    """Send, all the same, what is as far against the honest mean as lies among honest updates.

    Min-Sum (Shejwalkar and Houmansadr 2021) along the mean's unit vector. The hostile clients know
    the m honest updates u_i of the round, with mean ū, and all of them send

        v = ū − γ ū / ‖ū‖,   the largest γ with  Σ_j ‖v − u_j‖² ≤ max_i Σ_j ‖u_i − u_j‖²,

    which is no farther off, in the measure that Krum takes, than an honest update may be, and at no
    distance from its twin. Since Σ_j (ū − u_j) = 0, the left side is Σ_j ‖ū − u_j‖² + m γ².
    """
    honest = torch.cat([p[HOSTILE:].flatten(1) for p in updates.values()], 1).double()
    mean = honest.mean(0)
    farthest = torch.cdist(honest, honest).square().sum(1).max()
    gamma = ((farthest - (honest - mean).square().sum()).clamp(min=0) / len(honest)).sqrt()
    share = 1 - gamma / mean.norm()

    def sent(p: Tensor) -> Tensor:
        same = share * p[HOSTILE:].mean(0, keepdim=True)
        return torch.cat([same.expand(HOSTILE, *same.shape[1:]), p[HOSTILE:]])

    return {name: sent(p) for name, p in updates.items()}


ATTACKS = {
    "×−10": Attack(updates=partial(scaled, factor=-10.0)),
    "sign flip": Attack(updates=partial(scaled, factor=-1.0)),
    "label flip": Attack(rows=reversed_labels),
    "collusion": Attack(updates=min_sum),
}
