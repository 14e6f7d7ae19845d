"""Each client by itself: a model that is trained on its own rows alone, from the start."""

import numpy as np

from nufed.client_app.baselines.clients import Array, Clients, Scores
from nufed.client_app.baselines.training import curves, doubling, trained
from nufed.tasks.task import Task

SIZES = 0.01, 0.001
"""Of steps of Adam for a network, its usual size and ten times as much."""
LINEAR = 0.1, 0.01
TRIED = 10  # clients whose rows choose between sizes


def alone(of: Clients) -> Scores:
    """Score the run's own model, each client's trained on its rows alone."""
    return _scores(of, of.own, SIZES)


def alone_linear(of: Clients) -> Scores | None:
    """Score a linear model likewise."""
    task = of.linear()
    return None if task is None else _scores(of, task, LINEAR)


def _scores(of: Clients, task: Task, sizes: tuple[float, ...]) -> Scores:
    """Train for as many steps as each client's held-out rows ask for, by a size that all have."""
    points, start = doubling(of.longest), task.initial_params()

    def losses(held_out: bool, clients: list[int], size: float) -> dict[str, Array]:
        on = of.validated(task) if held_out else task
        return curves(of, on, start, clients, trained(size, points), of.longest)

    some = [losses(True, of.numbers[:TRIED], size)["loss"] for size in sizes]
    ends = [np.nan_to_num(_mean(each), nan=np.inf).min() for each in some]
    size = sizes[int(np.argmin(ends))]
    chosen = best(losses(True, of.numbers, size)["loss"])
    return {
        name: values[np.arange(len(values)), chosen]
        for name, values in losses(False, of.numbers, size).items()
    }


def best(losses: Array) -> np.ndarray:
    """Return the point of the least loss for each client, [clients], given [clients, points].

    Clients of which nothing is known have that of the least mean.
    """
    of_all = int(np.argmin(np.nan_to_num(_mean(losses), nan=np.inf)))
    unknown = ~np.isfinite(losses).any(1)
    found = np.argmin(np.where(np.isfinite(losses), losses, np.inf), 1)
    return np.where(unknown, of_all, found)


def _mean(losses: Array) -> Array:
    known = losses[~np.isnan(losses).all(1)]
    return known.mean(0) if len(known) else np.zeros(losses.shape[1])
