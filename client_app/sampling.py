"""Which rows form a batch: drawn from (seed, client, round), so that every engine sees the same.

A batch of D rows is a uniformly random subset of the client's train rows. The support, query and
Hessian batches of a round are drawn independently of each other, as the analysis of the stochastic
meta-gradient asks.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# One stream of random numbers for each use, so that evaluating more often leaves training as it is.
TRAIN, EVALUATE = 0, 1


def generator(seed: int, client: int, round: int, purpose: int) -> np.random.Generator:
    """Return the generator of one client's draws in one round."""
    return np.random.default_rng([seed, client, round, purpose])


def draw(
    random: np.random.Generator, batches: Sequence[int], size: int | None, rows: int
) -> NDArray[np.int64]:
    """Draw an array of shape `batches` of batches of `size` out of `rows` rows.

    Parameters
    ----------
    random
        Where the randomness comes from; the same number of draws whatever `rows` is.
    batches
        The shape of the array of batches, such as (τ, ν).
    size
        Rows a batch; None takes all rows, in order.
    rows
        How many rows there are to choose from, at least one.

    Returns
    -------
    ndarray of int64, [*batches, size]
        Row numbers in 0 … rows − 1, without repetition within a batch if the client has as many
        rows as a batch, else with.
    """
    if size is None:
        return np.broadcast_to(np.arange(rows), (*batches, rows))
    return subset(random.random((*batches, size)), rows)


def subset(uniform: NDArray[np.float64], rows: int) -> NDArray[np.int64]:
    """Turn uniform numbers in [0, 1) into random subsets of 0 … rows − 1, one along the last axis.

    Floyd's algorithm (Bentley and Floyd 1987), all subsets at once: for j = rows − D … rows − 1,
    take a number t ≤ j, or j itself where t was taken before. O(D²) a subset, whatever `rows` is.
    """
    size = uniform.shape[-1]
    if size > rows:
        return (uniform * rows).astype(np.int64)
    chosen = np.empty(uniform.shape, np.int64)
    for position, last in enumerate(range(rows - size, rows)):
        candidate = (uniform[..., position] * (last + 1)).astype(np.int64)
        taken = (chosen[..., :position] == candidate[..., None]).any(-1)
        chosen[..., position] = np.where(taken, last, candidate)
    return chosen
