"""Both ends of the spectrum of many symmetric operators at once, by products with vectors alone.

Lanczos with full reorthogonalisation: after s products the operator is seen through an s × s
tridiagonal matrix, whose extreme eigenvalues (Ritz values) lie *within* the true spectrum and
converge to its ends first. After as many steps as there are dimensions they are exact.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

Product = Callable[[Tensor], Tensor]
"""v [M, P] -> A v [M, P], of M symmetric operators on vectors of length P."""


class Spectrum(NamedTuple):
    """The ends of M spectra: [M], in float64 on the CPU, NaN where a product is not finite."""

    lowest: Tensor
    highest: Tensor
    lowest_residual: Tensor
    """‖A y − λ y‖ of the Ritz pair: an eigenvalue of A is no further from λ than this."""
    highest_residual: Tensor
    direction: Tensor
    """[M, P] y of the highest, of length 1, on the vectors' device."""

    @property
    def norm(self) -> Tensor:
        """The operator norm, max |λ|."""
        return torch.maximum(self.highest, -self.lowest)

    @property
    def norm_residual(self) -> Tensor:
        """The residual at the end that `norm` is taken from."""
        top = self.highest >= -self.lowest
        return torch.where(top, self.highest_residual, self.lowest_residual)


def lanczos(product: Product, like: Tensor, steps: int, random: torch.Generator) -> Spectrum:
    """Return the ends of the spectra of M operators.

    Parameters
    ----------
    product
        The operators; called once a step.
    like
        [M, P] A tensor of the vectors' shape, type and device.
    steps
        Products to spend, at least 1; at most P are.
    random
        Draws the start, on the CPU: the same for every device.
    """
    members, size = like.shape
    steps = min(steps, size)
    basis = like.new_zeros(members, steps, size)
    diagonal, beside = (like.new_zeros(members, steps) for _ in range(2))
    v = _normal(like, random)
    for j in range(steps):
        basis[:, j] = v
        w = product(v)
        diagonal[:, j] = (w * v).sum(-1)
        w = _orthogonal(w, basis[:, : j + 1])
        left = torch.linalg.vector_norm(w, dim=-1)
        # Nothing new is left where the vectors so far span an invariant subspace: from another one
        # on, and the tridiagonal matrix falls into blocks.
        spent = left <= 100 * torch.finfo(w.dtype).eps * _scale(diagonal, beside)
        beside[:, j] = left.masked_fill(spent, 0)
        v = w / left.clamp_min(torch.finfo(w.dtype).tiny)[:, None]
        if spent.any() and j + 1 < steps:
            v = torch.where(spent[:, None], _fresh(like, basis[:, : j + 1], random), v)
    return _ends(diagonal.double().cpu(), beside.double().cpu(), basis)


def _ends(diagonal: Tensor, beside: Tensor, basis: Tensor) -> Spectrum:
    """Return the extreme Ritz values; `beside`[:, j] joins vector j to the next, [M, s] both."""
    finite = torch.isfinite(diagonal).all(1) & torch.isfinite(beside).all(1)
    diagonal, beside = (x.masked_fill(~finite[:, None], 0) for x in (diagonal, beside))
    off = torch.diag_embed(beside[:, :-1], 1)
    values, vectors = torch.linalg.eigh(torch.diag_embed(diagonal) + off + off.mT)
    residuals = beside[:, -1:] * vectors[:, -1].abs()
    ends = (values[:, 0], values[:, -1], residuals[:, 0], residuals[:, -1])
    a, b, c, d = (end.masked_fill(~finite, torch.nan) for end in ends)
    return Spectrum(a, b, c, d, (basis.mT @ vectors[:, :, -1:].to(basis))[..., 0])


def _scale(diagonal: Tensor, beside: Tensor) -> Tensor:
    """Return the size of the operator as far as it is seen, [M]."""
    return diagonal.abs().amax(1) + beside.amax(1)


def _normal(like: Tensor, random: torch.Generator) -> Tensor:
    """Return random directions, of length 1, [M, P]."""
    v = torch.randn(like.shape, generator=random, dtype=like.dtype)
    return normalize(v.to(like.device), dim=-1, eps=0)


def _fresh(like: Tensor, basis: Tensor, random: torch.Generator) -> Tensor:
    return normalize(_orthogonal(_normal(like, random), basis), dim=-1, eps=0)


def _orthogonal(w: Tensor, basis: Tensor) -> Tensor:
    """Return w [M, P] less its part within the bases [M, j, P]; twice is enough (Parlett 1980)."""
    for _ in range(2):
        w = w - (basis.mT @ (basis @ w[..., None]))[..., 0]
    return w
