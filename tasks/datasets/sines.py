"""Sine waves, each client its own: the regression that MAML was first shown on.

Client i has y = A_i sin(x − φ_i), with A_i uniform in [0.1, 5], φ_i in [0, π] and x in [−5, 5]
(Finn et al. 2017, section 5.1, which gives the ranges; the sign of φ is that of its authors' code,
cbfinn/maml). One function for all can at best be their mean, −2.55 · 2/π · cos x, while ten rows of
a client tell its wave.
"""

import math

import numpy as np
from numpy.typing import NDArray

from nufed.conf.memory import require_room
from nufed.conf.schema import require
from nufed.tasks.rows import Rows
from nufed.tasks.streams import Purpose, stream

AMPLITUDE = 0.1, 5.0
PHASE = 0.0, math.pi
X = -5.0, 5.0


def clients(num_clients: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw the amplitudes A [n] and the phases φ [n]."""
    return _drawn(stream(Purpose.DATA, seed), num_clients)


def _drawn(
    random: np.random.Generator, num_clients: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return random.uniform(*AMPLITUDE, num_clients), random.uniform(*PHASE, num_clients)


def read(num_clients: int, train_rows: int, test_rows: int, noise: float, seed: int) -> Rows:
    """Return float64 rows x [N, 1] and y [N], each client's train rows before its test rows.

    Parameters
    ----------
    num_clients, train_rows, test_rows
        Clients, and rows of each.
    noise
        Standard deviation of what is added to y, train and test rows alike.
    seed
        Draws the waves, x and the noise; x is the same whatever the noise.

    Raises
    ------
    InputError
        For an argument out of its range.
    """
    for name, value, valid, allowed in (
        ("num_clients", num_clients, num_clients >= 1, "at least 1"),
        ("train_rows", train_rows, train_rows >= 1, "at least 1"),
        ("test_rows", test_rows, test_rows >= 1, "at least 1"),
        ("noise", noise, 0 <= noise < math.inf, "a standard deviation, 0 or more"),
    ):
        require(valid, f"dataset.{name}", value, allowed)
    size = num_clients, train_rows + test_rows
    require_room(3 * 8 * math.prod(size), "dataset=sines", f"{math.prod(size):,} rows take")
    random = stream(Purpose.DATA, seed)
    amplitude, phase = _drawn(random, num_clients)
    x = random.uniform(*X, size)
    y = amplitude[:, None] * np.sin(x - phase[:, None]) + noise * random.normal(size=size)
    client = np.repeat(np.arange(num_clients), size[1])
    test = np.tile(np.arange(size[1]) >= train_rows, num_clients)
    return Rows(x.reshape(-1, 1), y.ravel(), client, test)
