"""Which rows form a batch; `nufed.tasks.streams` says where the randomness comes from.

A batch of D rows is a uniformly random subset of the client's train rows. The support, query and
Hessian batches of a round are drawn independently of each other, as the analysis of the stochastic
meta-gradient asks.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Draw(NamedTuple):
    """Batches of row numbers for a stack of K clients."""

    rows: NDArray[np.int64]
    """[*batches, K, D]"""
    counts: NDArray[np.bool_] | None = None
    """[*batches, K, D]: False where a client has fewer rows and one of them fills the place; None
    where every entry counts."""

    def of(self, clients: Sequence[int]) -> "Draw":
        """Return the batches of some of the K clients, by position."""
        counts = None if self.counts is None else self.counts[..., clients, :]
        return Draw(self.rows[..., clients, :], counts)


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
    return subset(random.random((*batches, size)), np.asarray(rows))


def draw_stack(
    random: Sequence[np.random.Generator],
    batches: Sequence[int],
    size: int | None,
    rows: NDArray[np.int64],
    among: NDArray[np.int64] | None = None,
) -> Draw:
    """Draw for K clients at once what `draw` draws for each; `random` and `rows` are [K].

    `among` is as in `every_row`.
    """
    if size is None:
        return every_row(batches, rows, among)
    uniform = np.stack([r.random((*batches, size)) for r in random], axis=len(batches))
    return Draw(subset(uniform, rows))


def fine_tuning(
    random: np.random.Generator, steps: int, size: int | None, rows: int, *, by_epoch: bool
) -> tuple[list[NDArray[np.int64]], int]:
    """Draw the batches that a client's model is fine-tuned on.

    Parameters
    ----------
    random, size, rows
        As of `draw`.
    steps
        How many steps.
    by_epoch
        Whether a step is a pass over all rows in a random order, its last batch as short as it is.

    Returns
    -------
    tuple
        Row numbers, batch after batch; and how many batches a step has.
    """
    if not by_epoch:
        return list(draw(random, (steps,), size, rows)), 1
    size = rows if size is None else size
    orders = [random.permutation(rows) for _ in range(steps)]
    starts = range(0, rows, size)
    return [order[start : start + size] for order in orders for start in starts], len(starts)


def fine_tuning_stack(
    random: Sequence[np.random.Generator],
    steps: int,
    size: int | None,
    rows: NDArray[np.int64],
    *,
    by_epoch: bool,
) -> tuple[Draw, int]:
    """Draw for K clients at once what `fine_tuning` draws for each; `random` and `rows` are [K].

    The epochs of all have as many batches as the longest: nothing counts of what the others lack.
    """
    if not by_epoch:
        return draw_stack(random, (steps,), size, rows), 1
    longest = int(rows.max())
    size = longest if size is None else min(size, longest)
    each = -(-longest // size)
    orders = [
        [np.resize(r.permutation(n), (each, size)) for _ in range(steps)]
        for r, n in zip(random, rows, strict=True)
    ]
    shape = (len(rows), steps * each, size)
    there = np.arange(each * size).reshape(each, size) < rows[:, None, None]
    counts = np.tile(there, (1, steps, 1))
    return Draw(np.reshape(orders, shape).swapaxes(0, 1), counts.swapaxes(0, 1)), each


def every_row(
    batches: Sequence[int], rows: NDArray[np.int64], among: NDArray[np.int64] | None = None
) -> Draw:
    """Return all rows of each client, in order, in batches that are as long as the longest.

    The longest of these clients, or of all those whose rows are given as `among`: then every stack
    of them has one shape.
    """
    among = rows if among is None else among
    order = np.arange(among.max())
    shape = (*batches, len(rows), len(order))
    positions = np.broadcast_to(np.minimum(order, rows[:, None] - 1), shape)
    ragged = among.min() < len(order)
    return Draw(positions, np.broadcast_to(order < rows[:, None], shape) if ragged else None)


def subset(uniform: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Turn uniform numbers in [0, 1) into random subsets of 0 … rows − 1, one along the last axis.

    Floyd's algorithm (Bentley and Floyd 1987), all subsets at once: for j = rows − D … rows − 1,
    take a number t ≤ j, or j itself where t was taken before. O(D²) a subset, whatever `rows` is.

    Parameters
    ----------
    uniform
        [..., D]
    rows
        Shaped like `uniform` without its last axis, or broadcast to it. Where it is less than D,
        rows are taken with repetition.
    """
    size = uniform.shape[-1]
    first = np.broadcast_to(rows, uniform.shape[:-1]) - size
    chosen = np.empty((size, *uniform.shape[:-1]), np.int64)  # this axis first: rows are compared
    for position in range(size):
        last = first + position
        candidate = (uniform[..., position] * (last + 1)).astype(np.int64)
        taken = (chosen[:position] == candidate).any(0)
        chosen[position] = np.where(taken, last, candidate)
    subsets = np.moveaxis(chosen, 0, -1)
    if (first < 0).any():
        repeating = (uniform * np.asarray(rows)[..., None]).astype(np.int64)
        subsets = np.where((first < 0)[..., None], repeating, subsets)
    return subsets
