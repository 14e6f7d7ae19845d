"""Clients with two rows each, for which every expectation is a finite sum: no sampling error.

A batch of D rows drawn with replacement is told by the share p of the second row in it, and D p is
binomial. So all that a stochastic meta-gradient can come to is enumerated, as a stack of clients,
and goes through `nufed.client_app.meta_gradient` in one call.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import comb
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import hessian, jacrev, vmap

from nufed.client_app.meta_gradient import meta_gradient, trajectory
from nufed.theory.constants import Constants, Method


@dataclass(frozen=True)
class Clients:
    """f_{i,r}(w) = ½ (w − c)ᵀ H (w − c) + a cos(k·w + φ) + log(1 + exp(−x·w)); [n, 2, …] each."""

    curvature: Tensor
    """H [n, 2, d, d]"""
    optimum: Tensor
    """c [n, 2, d]"""
    waves: Tensor
    """(a, φ, k) [n, 2, 2 + d]"""
    inputs: Tensor
    """x [n, 2, d]; where it is 0 there is no logistic term."""

    @property
    def shape(self) -> tuple[int, int]:
        """n and d."""
        n, _, d = self.optimum.shape
        return n, d

    def rows(self, w: Tensor, client: Tensor) -> Tensor:
        """Return f_{i,0}(w) and f_{i,1}(w), [K, 2], of K clients [K], each at its own w [K, d]."""
        w = w[:, None]
        off = w - self.optimum[client]
        quadratic = ((self.curvature[client] @ off[..., None])[..., 0] * off).sum(-1) / 2
        size, phase, *k = self.waves[client].unbind(-1)
        wave = size * torch.cos((torch.stack(k, -1) * w).sum(-1) + phase)
        x = self.inputs[client]
        logistic = F.softplus(-(x * w).sum(-1)) * (x != 0).any(-1)
        return quadratic + wave + logistic

    def loss(self, params: dict[str, Tensor], client: Tensor, share: Tensor) -> Tensor:
        """Return the losses [K] of a stack of K clients, on batches with these shares of row 1."""
        first, second = self.rows(params["w"], client).unbind(-1)
        return (1 - share) * first + share * second


def empty(n: int, d: int) -> Clients:
    """Return clients whose loss is 0."""
    shapes = ((d, d), (d,), (2 + d,), (d,))
    return Clients(*(torch.zeros(n, 2, *shape, dtype=torch.float64) for shape in shapes))


def quadratics(
    curvature: Sequence[float], n: int = 3, spread: float = 0.5, seed: int = 0
) -> Clients:
    """Return clients in two dimensions whose rows' Hessians have eigenvalues all over a range."""
    random = np.random.default_rng(seed)
    turns = np.linalg.qr(random.normal(size=(n, 2, 2, 2))).Q
    values = random.uniform(*curvature, (n, 2, 2))
    hessians = torch.from_numpy(np.einsum("nrij,nrj,nrkj->nrik", turns, values, turns))
    optima = torch.from_numpy(spread * random.normal(size=(n, 2, 2)))
    return replace(empty(n, 2), curvature=hessians, optimum=optima)


def logistics(n: int = 3, ridge: float = 0.1, seed: int = 0) -> Clients:
    """Return logistic regressions with an l2 penalty."""
    inputs = torch.from_numpy(np.random.default_rng(seed).normal(size=(n, 2, 2)))
    penalty = ridge * torch.eye(2, dtype=torch.float64).expand(n, 2, 2, 2)
    return replace(empty(n, 2), inputs=inputs, curvature=penalty)


def cosines(n: int = 3, seed: int = 0) -> Clients:
    """Return clients of waves with whole wave numbers: periodic, so that constants are global."""
    random = np.random.default_rng(seed)
    k = random.integers([1, 0], [3, 2], (n, 2, 2))
    size, phase = random.uniform(0.5, 1, (n, 2, 1)), random.uniform(0, 1.5, (n, 2, 1))
    return replace(empty(n, 2), waves=torch.from_numpy(np.concatenate([size, phase, k], -1)))


PROBLEMS = {
    "convex": quadratics((0.1, 1.0)),
    "indefinite": quadratics((-0.5, 1.0)),
    "logistic": logistics(),
    "cosines": cosines(),
}
EDGE = 2.0
"""Constants are the largest over |w_j| ≤ EDGE, or over a whole period of waves."""


class Moments(NamedTuple):
    """What is exactly true of the stochastic meta-gradients of n clients, each [n]."""

    bias: Tensor
    """‖E G − ∇F_i‖"""
    variance: Tensor
    """E‖G − E G‖²"""
    error: Tensor
    """E‖G − ∇F_i‖²"""
    reach: float
    """The largest entry of any inner model."""


def moments(clients: Clients, w: Tensor, method: Method) -> Moments:
    """Return the moments of all clients' meta-gradients at w [d]."""
    nu, (n, _) = method.nu, clients.shape
    inner = nu if method.fresh else min(nu, 1)
    hessians = 0 if method.shared or method.mode == "first_order" else nu
    rows = [method.support] * inner + [method.hessian] * hessians + [method.query]
    shares, probability = _outcomes(rows)
    count = len(probability)
    support, hessian_batch, query = shares.split([inner, hessians, 1])
    batches = [
        (clients_of(n, count, len(s)), s.repeat_interleave(n, -1))
        for s in (support.expand(nu, count), hessian_batch)
    ]
    params = {"w": w.expand(count * n, -1)}
    gradient = meta_gradient(
        clients.loss,
        params,
        batches[0],
        (clients_of(n, count), query[0].repeat_interleave(n)),
        alpha=method.alpha,
        mode=method.mode,
        delta=method.delta,
        hessian=batches[1] if hessians else None,
    )["w"]
    path = trajectory(clients.loss, params, batches[0], alpha=method.alpha)
    reach = max(float(theta["w"].abs().max()) for theta in path)
    gradient = gradient.reshape(count, n, -1)
    weights = probability[:, None]
    mean = (weights[..., None] * gradient).sum(0)
    true = true_meta_gradients(clients, w[None], method)[0]
    variance = (weights * (gradient - mean).square().sum(-1)).sum(0)
    bias = (mean - true).norm(dim=-1)
    return Moments(bias, variance, variance + bias**2, reach)


def true_meta_gradients(clients: Clients, w: Tensor, method: Method) -> Tensor:
    """Return ∇F_i, all rows in every batch: [points, n, d] for w [points, d]."""
    (n, d), points = clients.shape, len(w)
    half = torch.full((points * n,), 0.5, dtype=torch.float64)
    gradient = meta_gradient(
        clients.loss,
        {"w": w.repeat_interleave(n, 0)},
        (clients_of(n, points, method.nu), half.expand(method.nu, -1)),
        (clients_of(n, points), half),
        alpha=method.alpha,
    )["w"]
    return gradient.reshape(points, n, d)


def clients_of(n: int, count: int, *axes: int) -> Tensor:
    """Return the client of each place in a stack: 0 … n − 1, `count` times."""
    return torch.arange(n).repeat(count).expand(*axes, -1)


def _outcomes(rows: Sequence[int | None]) -> tuple[Tensor, Tensor]:
    """Return the shares [batches, outcomes] of batches of so many rows, and their probability."""
    shares, probabilities = [], []
    for size in rows:
        d = size or 2
        hits = torch.arange(d + 1, dtype=torch.float64)
        chance = torch.tensor([comb(d, k) / 2**d for k in range(d + 1)], dtype=torch.float64)
        shares.append(hits / d if size else torch.tensor([0.5], dtype=torch.float64))
        probabilities.append(chance if size else torch.ones(1, dtype=torch.float64))
    grid = torch.cartesian_prod(*shares).reshape(-1, len(rows)).T
    return grid, torch.cartesian_prod(*probabilities).reshape(-1, len(rows)).prod(1)


def constants_of(clients: Clients, *, each_row: bool = False, points: int = 25) -> Constants:
    """Return the constants, as the largest on a grid.

    With `each_row`, L, ρ and the curvature are those of every row's loss.
    """
    n, d = clients.shape
    edge = torch.pi if clients.waves.any() else EDGE
    axis = torch.linspace(-edge, edge, points, dtype=torch.float64)
    w = torch.cartesian_prod(*[axis] * d).reshape(-1, d)

    def rows(at: Tensor, client: Tensor) -> Tensor:
        return clients.rows(at[None], client)[0]

    gradient, curvature, third = (  # [points, n, 2, d, …]
        vmap(vmap(derivative, (None, 0)), (0, None))(w, torch.arange(n)[:, None])
        for derivative in (jacrev(rows), hessian(rows), jacrev(hessian(rows)))
    )
    g, h = gradient.mean(2), curvature.mean(2)
    of = curvature if each_row else h
    bent = third if each_row else third.mean(2)
    eigenvalues = torch.linalg.eigvalsh(of)

    def rms(deviations: Tensor, axis: int) -> float:
        return float(deviations.square().sum(-1).mean(axis).max().sqrt())

    def rms_hessian(deviations: Tensor, axis: int) -> float:
        return float(torch.linalg.eigvalsh((deviations @ deviations).mean(axis)).max().sqrt())

    return Constants(
        L=float(eigenvalues.abs().max()),
        rho=float(bent.flatten(-3).norm(dim=-1).max()),  # Frobenius: at least the norm
        B=float(g.norm(dim=-1).max()),
        sigma_G=rms(gradient - g[:, :, None], 2),
        sigma_H=rms_hessian(curvature - h[:, :, None], 2),
        gamma_G=rms(g - g.mean(1, keepdim=True), 1),
        gamma_H=rms_hessian(h - h.mean(1, keepdim=True), 1),
        negative=float(-eigenvalues.min()),
    )
