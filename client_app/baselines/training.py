"""Training without federation: Adam, for as long as held-out train rows get better by it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from nufed.client_app.algorithm import Algorithm, BatchSizes
from nufed.client_app.baselines.clients import Array, Clients
from nufed.client_app.meta_gradient import LossFn, Params, Support, steps, value_and_gradient
from nufed.client_app.work import Measuring
from nufed.tasks.task import Task

FIRST, SECOND, EPS = 0.9, 0.999, 1e-8
"""Of Adam, as everybody has them."""
BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Trained(Algorithm):
    """Steps of Adam of size α in the place of fine-tuning, of which some are measured."""

    measured: tuple[int, ...]
    """Numbers of steps, from 0."""

    def personal(
        self, loss_fn: LossFn, shared: Params, state: Params, support: Support
    ) -> Iterator[Params]:
        """Yield the model after as many steps as are `measured`.

        w ← w − α m̂ / (√v̂ + ε),  m̂ = m / (1 − a^t),  v̂ = v / (1 − b^t),
        m ← a m + (1 − a) g,  v ← b v + (1 − b) g²

        (Kingma and Ba 2015, section 2). Entry by entry, so that it serves a stack of clients.
        torch's own would import the compiler, which takes longer than all of these steps.
        """
        model = dict(shared)
        mean, square = ({name: torch.zeros_like(p) for name, p in model.items()} for _ in "mv")
        yield model
        for step, batch in enumerate(steps(support), 1):
            gradient = value_and_gradient(loss_fn, model, batch).gradient
            size, unbiased = self.alpha / (1 - FIRST**step), math.sqrt(1 - SECOND**step)
            for name, g in gradient.items():
                mean[name] = torch.lerp(g, mean[name], FIRST)
                square[name] = torch.lerp(g.square(), square[name], SECOND)
                root = square[name].sqrt() / unbiased + EPS
                model[name] = model[name].addcdiv(mean[name], root, value=-size)
            if step in self.measured:
                yield dict(model)


def trained(size: float, measured: tuple[int, ...]) -> Trained:
    """Return training by steps of a size."""
    batch = BatchSizes(support=BATCH, query=BATCH)
    return Trained(name="trained", alpha=size, beta=1.0, tau=1, batch=batch, measured=measured)


def doubling(longest: int) -> tuple[int, ...]:
    """Return 0, 1, 2, 4, … up to `longest`: after so many steps a model is measured."""
    return (0, *(2**i for i in range(longest.bit_length()) if 2**i < longest), longest)


def curves(
    of: Clients, task: Task, model: Params, clients: list[int], algorithm: Algorithm, steps: int
) -> dict[str, Array]:
    """Measure clients' models on their test rows, metric -> [clients, points].

    NaN for clients without a test row, and those that failed.
    """
    has = [i for i in clients if len(task.data.partition.test_rows(i))]
    report = of.measure(task, model, Measuring(algorithm, of.config.seed, has, steps, BATCH))
    if not report.clients:
        raise RuntimeError("; ".join(report.reasons[:1]) or "no client has a test row")
    place = {client: row for row, client in enumerate(clients)}
    found = np.reshape(report.curves, (len(report.metrics), len(report.clients), -1))
    made = np.full((len(report.metrics), len(clients), found.shape[-1]), np.nan)
    made[:, [place[client] for client in report.clients]] = found
    return dict(zip(report.metrics, made, strict=True))
