"""One model of all clients' rows in one place: what is lost by leaving them where they are."""

from collections.abc import Iterator
from itertools import islice

import numpy as np

from nufed.client_app.baselines.alone import SIZES
from nufed.client_app.baselines.clients import Clients, Scores
from nufed.client_app.baselines.training import curves, doubling, trained
from nufed.client_app.meta_gradient import Batch, Params
from nufed.tasks.streams import Purpose, model_randomness, stream
from nufed.tasks.task import Task

BATCH = 64
TIMES = 2  # the steps of a client by itself: there are more rows


def pooled(of: Clients) -> Scores:
    """Score the run's own model, trained on the train rows of all clients.

    The size of its steps, and their number, are chosen by rows held out of each client's.
    """
    task, longest = of.own, TIMES * of.longest
    held_out, points = of.validated(task), doubling(longest)
    found = [
        (_loss(held_out, of, model), size, step)
        for size in SIZES
        for step, model in zip(points, _models(held_out, of, size, longest), strict=True)
    ]
    _, size, step = min(found)
    *_, model = islice(_models(task, of, size, longest), points.index(step) + 1)
    ends = curves(of, task, model, of.numbers, trained(size, (0,)), 0)
    return {name: values[:, 0] for name, values in ends.items()}


def _models(task: Task, of: Clients, size: float, longest: int) -> Iterator[Params]:
    """Yield the model after 0, 1, 2, 4, … steps on the train rows of all clients."""
    part, random = task.data.partition, stream(Purpose.POOLED, of.config.seed)
    rows = np.concatenate([part.train_rows(client) for client in range(task.data.num_clients)])

    def batches() -> Iterator[Batch]:
        for _ in range(longest):
            yield task.batch(random.choice(rows, min(BATCH, len(rows))))

    steps = trained(size, doubling(longest))
    with model_randomness(random):
        yield from steps.personal(task.loss, task.initial_params(), {}, batches())


def _loss(held_out: Task, of: Clients, model: Params) -> float:
    """Return the mean loss of clients' held-out rows; ∞ where it is not finite."""
    losses = curves(of, held_out, model, of.numbers, trained(1.0, (0,)), 0)["loss"]
    mean = float(np.nanmean(losses)) if np.isfinite(losses).any() else np.inf
    return mean if np.isfinite(mean) else np.inf
