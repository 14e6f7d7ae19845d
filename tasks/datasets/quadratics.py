"""Heterogeneous quadratics with known optima, as least-squares data.

Client i's rows are A_i = √d · H_i^{1/2} with targets A_i c_i, so that a linear model's loss over
all of them, the mean of ½ (a·w − b)², is exactly

    f_i(w) = ½ (w − c_i)ᵀ H_i (w − c_i),

of which `nufed.theory.quadratics` has fine-tuned point, meta-gradient and optimum w*(ν) in closed
form.
"""

import numpy as np
from numpy.typing import NDArray

from nufed.conf.schema import require
from nufed.tasks.rows import Rows
from nufed.tasks.streams import Purpose, stream


def clients(
    num_clients: int, dimension: int, curvature: tuple[float, float], correlation: float, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw the Hessians H [n, d, d] and the optima c [n, d].

    Each H_i is a random rotation of eigenvalues that are log-uniform around the client's own
    curvature. c_i = correlation · s_i 1 + (1 − correlation) · noise, where s_i runs from 1 for the
    flattest client to −1 for the steepest: ν matters where optimum and curvature go together.
    """
    random = stream(Purpose.DATA, seed)
    low, high = np.log(curvature[0]), np.log(curvature[1])
    centre = np.linspace(0, 1, num_clients)
    eigenvalues = np.exp(
        low
        + (high - low)
        * np.clip(centre[:, None] + random.normal(0, 0.1, (num_clients, dimension)), 0, 1)
    )
    rotation = np.linalg.qr(random.normal(size=(num_clients, dimension, dimension))).Q
    hessians = np.einsum("nij,nj,nkj->nik", rotation, eigenvalues, rotation)
    noise = random.normal(size=(num_clients, dimension))
    return hessians, correlation * (1 - 2 * centre)[:, None] + (1 - correlation) * noise


def read(
    num_clients: int,
    dimension: int,
    curvature: tuple[float, float],
    correlation: float,
    seed: int,
) -> Rows:
    """Return float64 rows, d for training and the same d again for testing, a client.

    Raises
    ------
    InputError
        For an argument out of its range.
    """
    low, high = curvature
    for name, value, valid, allowed in (
        ("num_clients", num_clients, num_clients >= 1, "at least 1"),
        ("dimension", dimension, dimension >= 1, "at least 1"),
        ("curvature", curvature, 0 < low <= high, "[smallest, largest], both above 0"),
        ("correlation", correlation, 0 <= correlation <= 1, "between 0 and 1"),
    ):
        require(valid, f"dataset.{name}", value, allowed)
    hessians, optima = clients(num_clients, dimension, curvature, correlation, seed)
    values, vectors = np.linalg.eigh(hessians)
    roots = np.sqrt(dimension) * np.einsum("nij,nj,nkj->nik", vectors, np.sqrt(values), vectors)
    targets = np.einsum("nij,nj->ni", roots, optima)
    x = np.concatenate([roots, roots], axis=1).reshape(-1, dimension)
    y = np.concatenate([targets, targets], axis=1).reshape(-1)
    owner = np.repeat(np.arange(num_clients), 2 * dimension)
    test = np.tile(np.arange(2 * dimension) >= dimension, num_clients)
    return Rows(x, y, owner, test)
