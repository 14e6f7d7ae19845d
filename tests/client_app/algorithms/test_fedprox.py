"""FedProx: SGD on f + μ/2 ‖w − w_0‖²."""

import numpy as np
import pytest
from numpy.linalg import matrix_power, solve

from nufed.client_app.algorithm import BatchSizes
from nufed.client_app.algorithms.fedprox import FedProx
from nufed.conf.errors import InputError
from tests.client_app.algorithms.quadratic import (
    ALPHA,
    BETA,
    DIMENSION,
    TIGHT,
    Array,
    Quadratic,
    curve_of,
    off,
    params,
    point,
    quadratics,
    train_on,
)

MU, TAU = 0.7, 3
EYE = np.eye(DIMENSION)


def fedprox(mu: float = MU, tau: int = TAU) -> FedProx:
    batch = BatchSizes(support=None, query=None)
    return FedProx(name="fedprox", alpha=ALPHA, beta=BETA, tau=tau, batch=batch, mu=mu)


def minimum(client: Quadratic, w: Array, mu: float) -> Array:
    """Where f + μ/2 ‖· − w‖² is least: the zero of H (· − c) + μ (· − w)."""
    return solve(client.hessian + mu * EYE, client.hessian @ client.optimum + mu * w)


def test_the_first_step_is_that_of_fedavg() -> None:
    (client,) = quadratics()
    w = point(0)
    done = train_on(client, fedprox(tau=1), params(w=w), {})
    assert off(done.update, w=BETA * client.gradient(w)) < TIGHT


def test_a_round() -> None:
    """w_τ = m + (I − β (H + μ I))^τ (w − m), m where the proximal objective is least."""
    (client,) = quadratics()
    w = point(0)
    done = train_on(client, fedprox(), params(w=w), {})
    m = minimum(client, w, MU)
    end = m + matrix_power(EYE - BETA * (client.hessian + MU * EYE), TAU) @ (w - m)
    assert off(done.update, w=w - end) < TIGHT
    second = w - BETA * client.gradient(w)
    held = client.gradient(second) + MU * (second - w)
    assert float(done.norm[1]) == pytest.approx(np.linalg.norm(held), abs=TIGHT)
    assert float(done.loss[1]) == pytest.approx(client.loss(second), abs=TIGHT)


def test_many_steps_end_where_the_proximal_objective_is_least() -> None:
    """Not at the client's optimum, and the nearer to where they began the larger μ is."""
    (client,) = quadratics()
    w = point(0)
    far = list[float]()
    for mu in (0.5, 1.0, 3.0):
        update = train_on(client, fedprox(mu, tau=300), params(w=w), {}).update["w"].numpy()
        assert np.abs(w - update - minimum(client, w, mu)).max() < TIGHT
        far.append(float(np.linalg.norm(update)))
    assert far == sorted(far, reverse=True)


def test_fine_tuning_is_not_held_back() -> None:
    (client,) = quadratics()
    w = point(1)
    for k, model in enumerate(curve_of(client, fedprox(), params(w=w), {}, 3)):
        factor = matrix_power(EYE - ALPHA * client.hessian, k)
        assert np.abs(model - client.optimum - factor @ (w - client.optimum)).max() < TIGHT


def test_a_negative_mu_is_refused() -> None:
    with pytest.raises(InputError, match=r"algorithm\.mu=-1\.0: must be above 0"):
        fedprox(mu=-1.0)
