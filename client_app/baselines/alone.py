"""Each client by itself: a model that is trained on its own rows alone, from the start."""

import numpy as np
import torch

from nufed.client_app.baselines.clients import Array, Clients, Scores
from nufed.client_app.baselines.training import curves, doubling, trained
from nufed.client_app.meta_gradient import Params
from nufed.tasks.task import Task

SIZES = 0.01, 0.003, 0.001
"""Of steps of Adam for a network: its usual one last."""
LINEAR = 0.1, 0.03, 0.01
TRIED = 60
"""Clients at most whose held-out rows choose among these, spread over all."""


def alone(of: Clients) -> Scores:
    """Score the run's own model, each client's trained on its rows alone."""
    return _scores(of, of.own, of.own.initial_params(), SIZES)


def alone_linear(of: Clients) -> Scores | None:
    """Score a linear model likewise, from zero: fewer steps are then a stronger regularisation."""
    task = of.linear()
    if task is None:
        return None
    zero = {name: torch.zeros_like(p) for name, p in task.initial_params().items()}
    return _scores(of, task, zero, LINEAR)


def _scores(of: Clients, task: Task, start: Params, sizes: tuple[float, ...]) -> Scores:
    """Train by the size and number of steps that do best on held-out rows of many clients.

    Each client's own choice would be by a few rows, and worse for it.
    """
    points = doubling(of.longest)

    def trained_by(size: float, on: Task, clients: list[int]) -> Scores:
        return curves(of, on, start, clients, trained(size, points), of.longest)

    held_out, some = of.validated(task), of.numbers[:: -(-len(of.numbers) // TRIED)]
    size, point = best({size: trained_by(size, held_out, some) for size in sizes}, of)
    ends = trained_by(size, task, of.numbers)
    return {name: values[:, point] for name, values in ends.items()}


def best(tried: dict[float, dict[str, Array]], of: Clients) -> tuple[float, int]:
    """Return the size of steps, and the point of its curve, at which the mean over clients is best.

    By the metric that is compared, then by the loss: of few rows many accuracies are the same.

    Parameters
    ----------
    tried
        Size -> metric -> [clients, points].
    """
    sign = 1.0 if of.lower_is_better else -1.0
    found = [
        (sign * by, loss, size, point)
        for size, scores in tried.items()
        for point, (by, loss) in enumerate(
            zip(_mean(scores[of.metric]), _mean(scores["loss"]), strict=True)
        )
    ]
    known = [each for each in found if np.isfinite(each[:2]).all()]
    _, _, size, point = min(known or [(0.0, 0.0, next(iter(tried)), 0)])
    return size, point


def _mean(values: Array) -> Array:
    """Return the mean over clients at each point; NaN where nothing is known of one."""
    known = values[~np.isnan(values).all(1)]
    return known.mean(0) if len(known) else np.full(values.shape[1], np.nan)
