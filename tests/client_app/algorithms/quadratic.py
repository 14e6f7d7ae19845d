"""Rounds of a client whose loss is a quadratic, whose steps are known in closed form.

∇f(w) = H (w − c), so a step of size β on all of its rows is w ← w − β H (w − c).
"""

from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from nufed.client_app.algorithm import Algorithm, Draws, Trained, local_update
from nufed.client_app.meta_gradient import Batch, Params, Support
from tests.helpers import quadratic_loss, random_quadratics

Array = NDArray[np.float64]

TIGHT = 1e-10
ALPHA, BETA = 0.3, 0.2
DIMENSION = 3


class Quadratic(NamedTuple):
    """A client."""

    hessian: Array
    """[d, d]"""
    optimum: Array
    """[d]"""

    def loss(self, w: Array) -> float:
        """Return f(w)."""
        return float((w - self.optimum) @ self.hessian @ (w - self.optimum) / 2)

    def gradient(self, w: Array) -> Array:
        """Return H (w − c)."""
        return self.hessian @ (w - self.optimum)

    @property
    def batch(self) -> Batch:
        """All of its rows."""
        return torch.from_numpy(self.hessian), torch.from_numpy(self.optimum)

    def batches(self, of: Draws) -> Batch:
        """Return as many batches as a local step asks for."""
        hessian, optimum = self.batch
        return hessian.expand(*of.shape, -1, -1), optimum.expand(*of.shape, -1)

    def support(self, steps: int) -> Support:
        """Return a batch for each fine-tuning step."""
        return self.batches(Draws((steps,), None))


def quadratics(n: int = 1) -> list[Quadratic]:
    """Return clients of different curvature and different optima."""
    return [Quadratic(*one) for one in zip(*random_quadratics(n, DIMENSION, seed=3), strict=True)]


def params(**leaves: Iterable[float] | float) -> Params:
    """Return leaves as tensors."""
    return {name: torch.tensor(np.asarray(leaf, np.float64)) for name, leaf in leaves.items()}


def point(seed: int) -> Array:
    """Return parameters w."""
    return np.random.default_rng(seed).normal(size=DIMENSION)


def train_on(client: Quadratic, algorithm: Algorithm, shared: Params, state: Params) -> Trained:
    """Carry a client through a round."""
    batches = {name: client.batches(of) for name, of in algorithm.draws().items()}
    step = partial(algorithm.step, quadratic_loss)
    return local_update(algorithm, step, shared, state, [batches] * algorithm.tau)


def curve_of(
    client: Quadratic, algorithm: Algorithm, shared: Params, state: Params, steps: int
) -> list[Array]:
    """Return a client's model after 0, 1, … fine-tuning steps."""
    models = algorithm.personal(quadratic_loss, shared, state, client.support(steps))
    return [model["w"].numpy() for model in models]


def off(found: Params, **leaves: Iterable[float] | float) -> float:
    """Return the largest difference between parameters and what they should be."""
    expected = params(**leaves)
    assert found.keys() == expected.keys()
    return max(float((found[name] - p).abs().max()) for name, p in expected.items())
