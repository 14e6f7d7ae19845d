"""Ditto: two models in step, one averaged and one kept."""

import numpy as np
import pytest
from numpy.linalg import matrix_power, solve

from nufed.client_app.algorithm import BatchSizes
from nufed.client_app.algorithms.ditto import Ditto
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

LAMDA, TAU = 0.6, 3
EYE = np.eye(DIMENSION)


def ditto(lamda: float = LAMDA, tau: int = TAU) -> Ditto:
    batch = BatchSizes(support=None, query=None)
    return Ditto(name="ditto", alpha=ALPHA, beta=BETA, tau=tau, batch=batch, lamda=lamda)


def held(client: Quadratic, v: Array, w: Array, steps: int) -> Array:
    """v after steps on f + λ/2 ‖· − w‖²: m + (I − β (H + λ I))^t (v − m)."""
    curved = client.hessian + LAMDA * EYE
    m = solve(curved, client.hessian @ client.optimum + LAMDA * w)
    return m + matrix_power(EYE - BETA * curved, steps) @ (v - m)


def descended(client: Quadratic, w: Array, steps: int, size: float = BETA) -> Array:
    """w after steps on f."""
    factor = matrix_power(EYE - size * client.hessian, steps)
    return client.optimum + factor @ (w - client.optimum)


def test_a_step() -> None:
    (client,) = quadratics()
    w, v = point(0), point(1)
    done = train_on(client, ditto(tau=1), params(w=w), params(w=v))
    assert off(done.update, w=BETA * client.gradient(w)) < TIGHT
    assert off(done.state, w=v - BETA * (client.gradient(v) + LAMDA * (v - w))) < TIGHT
    assert float(done.loss) == pytest.approx(client.loss(w), abs=TIGHT)
    assert float(done.metrics["personal_loss"]) == pytest.approx(client.loss(v), abs=TIGHT)


def test_two_rounds() -> None:
    """v goes on from where it was, held to the shared model that the second round begins with."""
    (client,) = quadratics()
    w, other, algorithm = point(0), point(2), ditto()
    first = train_on(client, algorithm, params(w=w), algorithm.state(params(w=w)))
    v = held(client, w, w, TAU)
    assert off(first.state, w=v) < TIGHT
    second = train_on(client, algorithm, params(w=other), first.state)
    assert off(second.state, w=held(client, v, other, TAU)) < TIGHT
    assert off(second.update, w=other - descended(client, other, TAU)) < TIGHT


def test_the_personal_model_leaves_no_trace_in_what_is_shared() -> None:
    """The update is FedAvg's, whatever v and λ are."""
    (client,) = quadratics()
    w = point(0)
    for lamda, v in ((0.1, point(1)), (2.0, point(2))):
        done = train_on(client, ditto(lamda), params(w=w), params(w=v))
        assert off(done.update, w=w - descended(client, w, TAU)) < TIGHT


def test_a_large_lambda_keeps_the_personal_model_at_the_shared_one() -> None:
    """Round after round from one w, v ends at the minimum of f + λ/2 ‖· − w‖²."""
    (client,) = quadratics()
    w, far = point(0), list[float]()
    for lamda in (0.5, 1.0, 6.0):
        v = train_on(client, ditto(lamda, tau=300), params(w=w), params(w=point(1))).state["w"]
        m = solve(client.hessian + lamda * EYE, client.hessian @ client.optimum + lamda * w)
        assert np.abs(v.numpy() - m).max() < TIGHT
        far.append(float(np.linalg.norm(v.numpy() - w)))
    assert far == sorted(far, reverse=True)


def test_fine_tuning_goes_on_from_the_personal_model() -> None:
    (client,) = quadratics()
    w, v = point(0), point(1)
    curve = curve_of(client, ditto(), params(w=w), params(w=v), 3)
    for k, model in enumerate(curve):
        assert np.abs(model - descended(client, v, k, ALPHA)).max() < TIGHT


def test_a_negative_lambda_is_refused() -> None:
    with pytest.raises(InputError, match=r"algorithm\.lamda=-1\.0: must be above 0"):
        ditto(lamda=-1.0)
