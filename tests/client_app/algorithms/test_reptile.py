"""Reptile: a client's SGD, and ε of the way there."""

import numpy as np
import pytest
import torch
from numpy.linalg import matrix_power

from nufed.client_app.algorithm import BatchSizes
from nufed.client_app.algorithms.reptile import Reptile
from nufed.conf.errors import InputError
from tests.client_app.algorithms.quadratic import (
    ALPHA,
    BETA,
    DIMENSION,
    TIGHT,
    curve_of,
    off,
    params,
    point,
    quadratics,
    train_on,
)

EPSILON, TAU = 0.25, 3


def reptile(epsilon: float = EPSILON, tau: int = TAU) -> Reptile:
    batch = BatchSizes(support=None, query=None)
    return Reptile(name="reptile", alpha=ALPHA, beta=BETA, tau=tau, batch=batch, epsilon=epsilon)


def test_a_step() -> None:
    """Its update is ε β ∇f(w)."""
    (client,) = quadratics()
    w = point(0)
    done = train_on(client, reptile(tau=1), params(w=w), {})
    assert off(done.update, w=EPSILON * BETA * client.gradient(w)) < TIGHT
    assert float(done.loss) == pytest.approx(client.loss(w), abs=TIGHT)
    assert done.state == {}


def test_a_round() -> None:
    """ε (w − w_τ), w_τ = c + (I − β H)^τ (w − c)."""
    (client,) = quadratics()
    w = point(0)
    done = train_on(client, reptile(), params(w=w), {})
    there = matrix_power(np.eye(DIMENSION) - BETA * client.hessian, TAU) @ (w - client.optimum)
    assert off(done.update, w=EPSILON * (w - client.optimum - there)) < TIGHT


def test_epsilon_is_of_the_server_alone() -> None:
    """It scales the update, whatever τ is, and not the steps: these are seen by their norms."""
    (client,) = quadratics()
    w = params(w=point(0))
    half, whole = (train_on(client, reptile(epsilon), w, {}) for epsilon in (0.5, 1.0))
    assert off(half.update, w=whole.update["w"].numpy() / 2) < TIGHT
    assert torch.equal(half.norm, whole.norm)


def test_fine_tuning_takes_steps_of_sgd() -> None:
    (client,) = quadratics()
    w = point(1)
    for k, model in enumerate(curve_of(client, reptile(), params(w=w), {}, 3)):
        factor = matrix_power(np.eye(DIMENSION) - ALPHA * client.hessian, k)
        assert np.abs(model - client.optimum - factor @ (w - client.optimum)).max() < TIGHT


def test_a_step_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match=r"algorithm\.epsilon=0\.0: must be above 0"):
        reptile(epsilon=0.0)
