"""The closed forms: against each other, and against the example of the theory to four digits."""

from collections.abc import Callable

import numpy as np
import pytest

from nufed.theory import quadratics
from tests.helpers import random_quadratics

STEPS = (0, 1, 2, 3, 5, 10)

# h = (1, 0.1), c = (0, 1), α = 0.5: F^{ν_test}(w*(ν_train)), rows ν_train, columns ν_test.
OPTIMA = (0.0909, 0.2652, 0.5658, 0.8247, 0.9840, 1.0000)
MATRIX = (
    (2.273e-2, 1.916e-2, 1.696e-2, 1.522e-2, 1.237e-2, 7.407e-3),
    (3.109e-2, 1.658e-2, 1.209e-2, 1.020e-2, 8.098e-3, 4.838e-3),
    (8.475e-2, 2.426e-2, 8.841e-3, 4.715e-3, 2.900e-3, 1.690e-3),
    (1.708e-1, 4.320e-2, 1.125e-2, 3.221e-3, 6.260e-4, 2.756e-4),
    (2.420e-1, 6.052e-2, 1.513e-2, 3.787e-3, 2.402e-4, 2.539e-6),
    (2.500e-1, 6.250e-2, 1.562e-2, 3.906e-3, 2.441e-4, 2.384e-7),
)


def test_the_example_of_two_clients() -> None:
    hessians, optima, alpha = np.array([[[1.0]], [[0.1]]]), np.array([[0.0], [1.0]]), 0.5
    for row, trained in enumerate(STEPS):
        w = quadratics.optimum_exact(hessians, optima, alpha, trained)
        assert w[0] == pytest.approx(OPTIMA[row], abs=5e-5)
        for column, tested in enumerate(STEPS):
            losses = [
                quadratics.meta_loss(hessians[i], optima[i], w, alpha, tested) for i in range(2)
            ]
            assert np.mean(losses) == pytest.approx(MATRIX[row][column], rel=5e-4)


@pytest.mark.parametrize("nu", STEPS)
def test_first_order_with_twice_the_steps_has_the_exact_optimum(nu: int) -> None:
    hessians, optima = random_quadratics(8, 4, seed=nu)
    exact = quadratics.optimum_exact(hessians, optima, 0.3, nu)
    assert (
        np.abs(quadratics.optimum_first_order(hessians, optima, 0.3, 2 * nu) - exact).max() < 1e-10
    )


@pytest.mark.parametrize("nu", STEPS)
def test_the_meta_gradient_is_the_slope_of_the_meta_loss(nu: int) -> None:
    hessians, optima = random_quadratics(1, 4, seed=nu)
    h, c, w = hessians[0], optima[0], np.ones(4)
    slope = [
        (quadratics.meta_loss(h, c, w + e, 0.3, nu) - quadratics.meta_loss(h, c, w - e, 0.3, nu))
        / 2e-5
        for e in 1e-5 * np.eye(4)
    ]
    assert quadratics.meta_gradient(h, c, w, 0.3, nu) == pytest.approx(slope, abs=1e-9)


@pytest.mark.parametrize(
    ("fixed_point", "optimum"),
    [
        (quadratics.fixed_point_exact, quadratics.optimum_exact),
        (quadratics.fixed_point_first_order, quadratics.optimum_first_order),
    ],
)
def test_the_fixed_point_tends_to_the_optimum_as_beta_does_to_zero(
    fixed_point: Callable[..., np.ndarray], optimum: Callable[..., np.ndarray]
) -> None:
    """w_fed − w*(ν) = O(β): a tenth of β, a tenth of the distance."""
    hessians, optima = random_quadratics(8, 4, seed=0)
    target = optimum(hessians, optima, 0.3, 2)
    gaps = [
        np.linalg.norm(fixed_point(hessians, optima, 0.3, 2, beta, 5) - target)
        for beta in (1e-2, 1e-3, 1e-4)
    ]
    assert gaps[0] / gaps[1] == pytest.approx(10, rel=0.1)
    assert gaps[1] / gaps[2] == pytest.approx(10, rel=0.02)
