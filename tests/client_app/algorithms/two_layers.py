"""A model of a body u and a head h that is small enough to be differentiated by hand: y ≈ h u x."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nufed.client_app.algorithm import Batches, BatchSizes
from nufed.client_app.meta_gradient import Params

TIGHT = 1e-10
BODY, HEAD = "body.weight", "head.weight"
KEYS = {"name": "it", "alpha": 0.3, "beta": 0.2, "tau": 2}
SIZES = BatchSizes(support=4, query=4)
Rows = tuple[NDArray[np.float64], NDArray[np.float64]]


class Point(NamedTuple):
    """A body and a head."""

    u: float
    h: float

    @property
    def params(self) -> Params:
        """As the loss takes them."""
        return {BODY: number(self.u), HEAD: number(self.h)}


def number(value: float) -> Tensor:
    """Return it as a parameter."""
    return torch.tensor([value], dtype=torch.float64)


def loss_fn(params: Params, x: Tensor, y: Tensor) -> Tensor:
    """f(u, h) = ½ mean (h u x − y)², for one client or a stack of them."""
    off = params[HEAD] * params[BODY] * x - y
    return off.square().mean(-1) / 2


def value(at: Point, rows: Rows) -> float:
    """Return f."""
    x, y = rows
    return float(((at.h * at.u * x - y) ** 2).mean() / 2)


def by_body(at: Point, rows: Rows) -> float:
    """Return ∂f/∂u."""
    x, y = rows
    return float(((at.h * at.u * x - y) * at.h * x).mean())


def by_head(at: Point, rows: Rows) -> float:
    """Return ∂f/∂h."""
    x, y = rows
    return float(((at.h * at.u * x - y) * at.u * x).mean())


def by_head_twice(at: Point, rows: Rows) -> float:
    """Return ∂²f/∂h²."""
    return float((at.u**2 * rows[0] ** 2).mean())


def by_head_and_body(at: Point, rows: Rows) -> float:
    """Return ∂²f/∂h∂u."""
    x, y = rows
    return float((2 * at.h * at.u * x**2 - x * y).mean())


def drawn(number: int, seed: int) -> list[Rows]:
    """Return so many batches of 4 rows."""
    random = np.random.default_rng(seed)
    return [(random.normal(size=4), random.normal(size=4)) for _ in range(number)]


def batch(rows: Rows) -> tuple[Tensor, Tensor]:
    """Return rows as the loss takes them."""
    x, y = rows
    return torch.from_numpy(x), torch.from_numpy(y)


def support(rows: Sequence[Rows]) -> tuple[Tensor, Tensor]:
    """Return batches with a leading axis."""
    x, y = zip(*map(batch, rows), strict=True)
    return torch.stack(x), torch.stack(y)


def queries(rows: Sequence[Rows]) -> list[Batches]:
    """Return the batches of local steps that need one each."""
    return [{"query": batch(each)} for each in rows]


def anil(at: Point, inner: Sequence[Rows], outer: Rows, alpha: float) -> tuple[Point, Point]:
    """Return ∂F/∂(u, h) with and without Hessians, where h alone moves: h^{l+1} = h^l − α ∂f/∂h.

    Derivatives of h^l by u and by h are carried along, by the chain rule.
    """
    by_u, by_h = 0.0, 1.0
    for rows in inner:
        keeps = 1 - alpha * by_head_twice(at, rows)
        by_u = keeps * by_u - alpha * by_head_and_body(at, rows)
        by_h = keeps * by_h
        at = Point(at.u, at.h - alpha * by_head(at, rows))
    slope = by_head(at, outer)
    first = Point(by_body(at, outer), slope)
    return Point(first.u + slope * by_u, slope * by_h), first
