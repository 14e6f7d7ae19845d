"""Step sizes for a first run, from the curvature of the clients' losses where training starts.

    α = min{1/(2L), 1/(2νl)},  β = 1/(2L),  where all spectra of ∇²f_i(w_0) lie in [−l, L]

A step of α ≤ 1/L overshoots no valley. Along negative curvature, fine-tuning grows a difference by
(1 + αl)^ν, which is at most e where α ≤ 1/(νl): nothing in the analysis is then exponential in ν,
and where fine-tuning contracts, F is no more curved than the f_i. Half of all that: L and l are
measured on a few clients, and L grows as training goes on.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from client_app.meta_gradient import Params, hessian_vector_product
from tasks.task import Task
from theory.lanczos import lanczos

CLIENTS, ROWS, PRODUCTS = 8, 32, 8  # seconds for a convolutional network, instants for a small one


class Steps(NamedTuple):
    """The inner step size α and the local one β."""

    alpha: float
    beta: float


class Curvature(NamedTuple):
    """Ends of the spectra of some clients' Hessians, which lie in [−l, L]."""

    largest: float
    """L, the largest |λ|."""
    negative: float
    """l, 0 where nothing negative was found."""

    @property
    def known(self) -> bool:
        """Whether there is any, and it is finite."""
        return 0 < self.largest < math.inf


def suggested_steps(curvature: Curvature, nu: int) -> Steps:
    """Return α and β, to two digits: what rounding does to L and l does not show."""
    beta = 1 / (2 * curvature.largest)
    alpha = min(beta, 1 / (2 * nu * curvature.negative)) if nu * curvature.negative else beta
    return Steps(float(f"{alpha:.1e}"), float(f"{beta:.1e}"))


def curvature(task: Task, params: Params, clients: Sequence[int], seed: int) -> Curvature:
    """Return the curvature of a few clients' losses, on a few train rows of each, by Lanczos.

    Parameters
    ----------
    task
        Data, model and loss; dropout and bfloat16 are left out.
    params
        The model w.
    clients
        Those to draw from.
    seed
        Draws clients, rows, and where Lanczos starts.

    Returns
    -------
    Curvature
        Lower estimates of L and l; NaN where a Hessian is not finite.
    """
    random, start = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    ends = list[tuple[float, float]]()
    with task.measuring() as plain:
        w = {name: p.to(plain.device, plain.dtype) for name, p in params.items()}
        flat = _flat(w)[None]
        for client in random.permutation(np.asarray(clients))[:CLIENTS]:
            rows = random.permutation(plain.data.partition.train_rows(int(client)))[:ROWS]
            batch = plain.batch(rows)

            def product(v: Tensor, batch: tuple[Tensor, ...] = batch) -> Tensor:
                return _flat(hessian_vector_product(plain.loss, w, batch, _like(w, v[0])))[None]

            found = lanczos(product, flat, PRODUCTS, start)
            ends.append((float(found.norm), max(-float(found.lowest), 0.0)))
    largest, negative = np.array(ends).max(0).tolist()  # NaN where one is
    return Curvature(largest, negative)


def _flat(params: Params) -> Tensor:
    """Return parameters as one vector [P]."""
    return torch.cat([p.flatten() for p in params.values()])


def _like(params: Params, flat: Tensor) -> Params:
    """Return a vector [P] as parameters."""
    parts = torch.split(flat, [p.numel() for p in params.values()])
    return {name: v.view_as(p) for (name, p), v in zip(params.items(), parts, strict=True)}
