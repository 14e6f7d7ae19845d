"""Synthetic(α, β): clients with models and inputs of their own (Li et al. 2020, FedProx).

Client k has y = argmax(W_k x + b_k) of ten classes and x ~ N(v_k, Σ) of 60 features, with Σ
diagonal, Σ_jj = j^−1.2 (as in Shamir et al. 2014); the entries of W_k and b_k ~ N(u_k, 1), those
of v_k ~ N(B_k, 1), and u_k ~ N(0, α²), B_k ~ N(0, β²). With `iid`, W and b ~ N(0, 1) are the same
for all, and v_k = 0.

FedProx's paper, section 5.1, writes u_k ~ N(0, α); its code (litian96/FedProx, data/synthetic_*)
and that of pFedMe (CharlieDinh/pFedMe, data/Logistic_Synthetic) draw with standard deviation α, and
made the data of every published figure, so that α and β are standard deviations here. It shows for
values other than 0 and 1 alone. u_k adds the same to the scores of all classes: y does not depend
on it, nor on α.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nufed.conf.memory import require_room
from nufed.conf.schema import require
from nufed.tasks.rows import Rows
from nufed.tasks.streams import Purpose, stream

FEATURES, CLASSES = 60, 10
DEVIATION = np.arange(1, FEATURES + 1) ** -0.6
"""Standard deviations √Σ_jj of x around v_k, [60]."""

Drawn = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def clients(alpha: float, beta: float, iid: bool, num_clients: int, seed: int) -> Drawn:
    """Draw W [n, 60, 10], b [n, 10] and v [n, 60]; arguments as of `read`."""
    return _drawn(stream(Purpose.DATA, seed), alpha, beta, iid, num_clients)


def _drawn(random: np.random.Generator, alpha: float, beta: float, iid: bool, n: int) -> Drawn:
    if iid:
        w, b = random.normal(size=(FEATURES, CLASSES)), random.normal(size=CLASSES)
        return np.tile(w, (n, 1, 1)), np.tile(b, (n, 1)), np.zeros((n, FEATURES))
    u, centre = alpha * random.normal(size=n), beta * random.normal(size=n)
    w = u[:, None, None] + random.normal(size=(n, FEATURES, CLASSES))
    b = u[:, None] + random.normal(size=(n, CLASSES))
    return w, b, centre[:, None] + random.normal(size=(n, FEATURES))


def read(
    alpha: float,
    beta: float,
    iid: bool,
    num_clients: int,
    sizes: Mapping[str, Any],
    seed: int,
) -> Rows:
    """Return x float32 [N, 60] and y [N] in 0 … 9, client after client.

    Parameters
    ----------
    alpha, beta
        Standard deviations of u_k and B_k; 0 with `iid`.
    iid
        Whether all clients have the same model and inputs.
    num_clients
        Clients.
    sizes
        A client has ⌊exp(N(mean, sigma²))⌋ + least rows, but at most `most`.
    seed
        Draws models, sizes and rows.

    Raises
    ------
    InputError
        For an argument out of its range, or more rows than fit memory.
    """
    for name, value in (("alpha", alpha), ("beta", beta)):
        valid = value == 0 if iid else 0 <= value < math.inf
        require(valid, f"dataset.{name}", value, "0 with dataset.iid=true" if iid else "0 or more")
    require(num_clients >= 1, "dataset.num_clients", num_clients, "at least 1")
    of_models = 8 * num_clients * (FEATURES + 1) * (CLASSES + 1)
    require_room(of_models, f"dataset.num_clients={num_clients}", "their models take")
    random = stream(Purpose.DATA, seed)
    w, b, v = _drawn(random, alpha, beta, iid, num_clients)
    size = _sizes(random, num_clients, **sizes)
    total = int(size.sum())
    require_room(3 * 4 * total * FEATURES, "dataset=synthetic", f"{total:,} rows take")
    x, y = np.empty((total, FEATURES), np.float32), np.empty(total, np.int64)
    for k, end in enumerate(np.cumsum(size)):
        own = slice(end - size[k], end)
        x[own] = v[k] + DEVIATION * random.normal(size=(size[k], FEATURES))
        y[own] = np.argmax(x[own] @ w[k] + b[k], axis=1)
    return Rows(x, y, np.repeat(np.arange(num_clients), size))


def _sizes(
    random: np.random.Generator, n: int, mean: float, sigma: float, least: int, most: int
) -> NDArray[np.int64]:
    """Draw how many rows each client has, [n]."""
    for name, value, valid, allowed in (
        ("mean", mean, math.isfinite(mean), "a number"),
        ("sigma", sigma, 0 <= sigma < math.inf, "0 or more"),
        ("least", least, least >= 2, "at least 2"),
        ("most", most, least <= most < 1e9, f"from {least}, which is least, to below 10^9"),
    ):
        require(valid, f"dataset.sizes.{name}", value, allowed)
    log = np.minimum(random.normal(mean, sigma, n), math.log(most))
    return np.minimum(np.exp(log).astype(np.int64) + least, most)
