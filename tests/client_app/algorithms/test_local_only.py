"""A client by itself: SGD over all of its rounds, and nothing sent."""

import numpy as np
import pytest
from numpy.linalg import matrix_power

from nufed.client_app.algorithm import BatchSizes
from nufed.client_app.algorithms.local_only import LocalOnly
from tests.client_app.algorithms.quadratic import (
    ALPHA,
    BETA,
    DIMENSION,
    TIGHT,
    Quadratic,
    curve_of,
    off,
    params,
    point,
    quadratics,
    train_on,
)

TAU = 3


def local_only(tau: int = TAU) -> LocalOnly:
    batch = BatchSizes(support=None, query=None)
    return LocalOnly(name="local_only", alpha=ALPHA, beta=BETA, tau=tau, batch=batch)


def descended(client: Quadratic, v: np.ndarray, steps: int, size: float = BETA) -> np.ndarray:
    """v after so many steps: c + (I − β H)^t (v − c)."""
    factor = matrix_power(np.eye(DIMENSION) - size * client.hessian, steps)
    return client.optimum + factor @ (v - client.optimum)


def test_a_step() -> None:
    (client,) = quadratics()
    v = point(0)
    done = train_on(client, local_only(tau=1), {}, params(w=v))
    assert off(done.state, w=v - BETA * client.gradient(v)) < TIGHT
    assert float(done.loss) == pytest.approx(client.loss(v), abs=TIGHT)
    assert float(done.norm) == pytest.approx(np.linalg.norm(client.gradient(v)), abs=TIGHT)


def test_rounds_go_on_from_where_the_last_one_ended() -> None:
    """Two rounds of τ steps are 2τ steps; no round of others comes between them."""
    (client,) = quadratics()
    v, algorithm = point(0), local_only()
    first = train_on(client, algorithm, {}, algorithm.state(params(w=v)))
    second = train_on(client, algorithm, {}, first.state)
    assert off(first.state, w=descended(client, v, TAU)) < TIGHT
    assert off(second.state, w=descended(client, v, 2 * TAU)) < TIGHT


def test_nothing_is_shared() -> None:
    (client,) = quadratics()
    algorithm = local_only()
    assert algorithm.shared(params(w=point(0))) == {}
    assert train_on(client, algorithm, {}, params(w=point(0))).update == {}


def test_fine_tuning_goes_on_from_its_own_model() -> None:
    (client,) = quadratics()
    v = point(1)
    curve = curve_of(client, local_only(), {}, params(w=v), 4)
    for k, model in enumerate(curve):
        assert np.abs(model - descended(client, v, k, ALPHA)).max() < TIGHT
    assert len(curve) == 5
