"""The losses by which `choice` chooses: of a client's train rows, each held out in its turn."""

from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from nufed.client_app import sampling
from nufed.client_app.algorithm import Algorithm
from nufed.client_app.choice import folds
from nufed.client_app.meta_gradient import Params
from nufed.tasks.module_state import unchanged
from nufed.tasks.streams import model_randomness
from nufed.tasks.task import Task


def held_out_losses(
    task: Task,
    algorithm: Algorithm,
    shared: Params,
    state: Params,
    rows: NDArray[np.int64],
    random: np.random.Generator,
    *,
    steps: int,
    batch: int | None,
) -> NDArray[np.float64]:
    """Return the loss of each row held out, after k = 0 … K steps on rows of other folds.

    Parameters
    ----------
    shared, state
        What the client's model comes of.
    rows
        The numbers of its train rows, at least 2. No other row is looked at.
    random
        Draws folds and batches.
    steps
        K.
    batch
        Rows a step; None takes all.

    Returns
    -------
    ndarray, [K + 1, R]
        Infinite from where a model or loss was not finite.
    """
    measured = list[NDArray[np.float64]]()
    for fold in folds(random, len(rows)):
        kept, held = np.delete(rows, fold), task.batch(rows[fold])
        batches, each = sampling.fine_tuning(
            random, steps, batch, len(kept), by_epoch=algorithm.by_epoch
        )
        losses = np.full((steps + 1, len(fold)), np.inf)
        with model_randomness(random), unchanged(task.module), torch.no_grad():
            support = (task.batch(kept[some]) for some in batches)
            models = algorithm.personal(task.loss, shared, state, support)
            for k, params in enumerate(islice(models, 0, None, each)):
                loss = task.by_row(params, *held)["loss"]
                if not (all(p.isfinite().all() for p in params.values()) and loss.isfinite().all()):
                    break
                losses[k] = loss.double().cpu().numpy()
        measured.append(losses)
    return np.concatenate(measured, 1)
