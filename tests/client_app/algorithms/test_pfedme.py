"""pFedMe: personal models near the shared one, which descends the Moreau envelope."""

import numpy as np
import pytest
from numpy.linalg import matrix_power, solve

from nufed.client_app.algorithm import BatchSizes, algorithm_of
from nufed.client_app.algorithms.pfedme import PFedMe
from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from tests.client_app.algorithms.quadratic import (
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

ALPHA, LAMDA, NU, TAU = 0.2, 1.5, 4, 3
EYE = np.eye(DIMENSION)


def pfedme(nu: int = NU, tau: int = TAU) -> PFedMe:
    batch = BatchSizes(support=None, query=None)
    return PFedMe(name="pfedme", alpha=ALPHA, beta=BETA, tau=tau, batch=batch, nu=nu, lamda=LAMDA)


def nearest(client: Quadratic, w: Array) -> Array:
    """Where f + λ/2 ‖· − w‖² is least."""
    curved = client.hessian + LAMDA * EYE
    return solve(curved, client.hessian @ client.optimum + LAMDA * w)


def near(client: Quadratic, w: Array, steps: int) -> Array:
    """θ after steps of size α from w: m + (I − α (H + λ I))^ν (w − m)."""
    m = nearest(client, w)
    return m + matrix_power(EYE - ALPHA * (client.hessian + LAMDA * EYE), steps) @ (w - m)


def test_a_step() -> None:
    (client,) = quadratics()
    w = point(0)
    done = train_on(client, pfedme(tau=1), params(w=w), {})
    envelope = LAMDA * (w - near(client, w, NU))
    assert off(done.update, w=BETA * envelope) < TIGHT
    assert float(done.norm) == pytest.approx(np.linalg.norm(envelope), abs=TIGHT)
    assert float(done.loss) == pytest.approx(client.loss(w), abs=TIGHT)
    assert done.state == {}


def test_a_round() -> None:
    """The next step's θ is near the w that the last one led to."""
    (client,) = quadratics()
    w = start = point(0)
    done = train_on(client, pfedme(), params(w=start), {})
    for step in range(TAU):
        assert float(done.loss[step]) == pytest.approx(client.loss(w), abs=TIGHT)
        w = w - BETA * LAMDA * (w - near(client, w, NU))
    assert off(done.update, w=start - w) < TIGHT


def test_with_many_inner_steps_it_descends_the_moreau_envelope() -> None:
    """∇F(w) = λ H (H + λ I)⁻¹ (w − c): flatter than f, with the same optimum."""
    (client,) = quadratics()
    w = point(0)
    done = train_on(client, pfedme(nu=300, tau=1), params(w=w), {})
    slope = LAMDA * client.hessian @ solve(client.hessian + LAMDA * EYE, w - client.optimum)
    assert off(done.update, w=BETA * slope) < TIGHT
    assert np.linalg.norm(slope) < np.linalg.norm(client.gradient(w))


def test_the_personal_model_stays_near_the_shared_one() -> None:
    (client,) = quadratics()
    w = point(1)
    curve = curve_of(client, pfedme(), params(w=w), {}, 300)
    for k in (0, 1, 2, 300):
        assert np.abs(curve[k] - near(client, w, k)).max() < TIGHT
    assert np.abs(curve[300] - nearest(client, w)).max() < TIGHT
    assert np.linalg.norm(curve[300] - client.optimum) > 0.1


def test_curvature_chooses_no_steps_for_it() -> None:
    """Its step sizes depend on λ."""
    config = compose_config(["algorithm=pfedme", "algorithm.beta=auto"])
    with pytest.raises(InputError, match=r"algorithm\.beta=auto: .* PFedMe; give a number"):
        algorithm_of(config.algorithm)


def test_no_inner_step_is_refused() -> None:
    with pytest.raises(InputError, match=r"algorithm\.nu=0: must be at least 1"):
        pfedme(nu=0)
