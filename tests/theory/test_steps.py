"""Step sizes from curvature."""

import numpy as np
import pytest
import torch

from nufed.client_app.algorithm import algorithm_of
from nufed.client_app.curvature import Curvature
from nufed.client_app.meta_gradient import meta_gradient
from nufed.conf.compose import compose_config
from nufed.theory.steps import steepest, suggested_steps

LARGEST = 4.0


def test_steps_keep_to_valleys_and_to_negative_curvature() -> None:
    assert suggested_steps(Curvature(2.0, 1.0), nu=0, flattened=0) == (0.25, 0.5)
    assert suggested_steps(Curvature(2.0, 0.0), nu=5, flattened=0) == (0.5, 0.5)
    assert suggested_steps(Curvature(2.0, 1.0), nu=5, flattened=0) == (0.2, 0.5)
    for nu in (1, 5, 100):
        alpha, beta = suggested_steps(Curvature(3.0, 2.0), nu, 2 * nu)
        assert (1 + 2.0 * alpha) ** nu <= np.e
        assert alpha <= 1 / 3.0 <= beta


@pytest.mark.parametrize("power", [0, 1, 2, 10, 200])
@pytest.mark.parametrize("alpha", [0.0025, 0.03, 0.25])
def test_the_steepest_is_the_largest_of_all_curvatures(alpha: float, power: int) -> None:
    curvatures = np.linspace(0, LARGEST, 100_001)
    wanted = (curvatures * (1 - alpha * curvatures) ** power).max()
    assert steepest(LARGEST, alpha, power) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("mode", ["exact", "first_order", "hessian_free"])
@pytest.mark.parametrize("nu", [0, 1, 3])
def test_of_quadratics_what_is_descended_is_as_curved_as_is_said(mode: str, nu: int) -> None:
    """The Jacobian of the meta-gradient is H (I − αH)^c, of which the eigenvalues are known."""
    curvatures, alpha = torch.linspace(0, LARGEST, 9, dtype=torch.float64), 0.1
    algorithm = algorithm_of(
        compose_config([f"algorithm.nu={nu}", f"algorithm.mode={mode}"]).algorithm
    )

    def direction(w: torch.Tensor) -> torch.Tensor:
        def loss(params: dict[str, torch.Tensor], scale: torch.Tensor) -> torch.Tensor:
            return 0.5 * scale * (curvatures * params["w"] ** 2).sum()

        support, query = (torch.ones(nu).double(),), (torch.tensor(1.0).double(),)
        return meta_gradient(loss, {"w": w}, support, query, alpha=alpha, mode=mode)["w"]

    at = torch.ones(9, dtype=torch.float64)
    change = [direction(at + e) - direction(at) for e in torch.eye(9, dtype=torch.float64)]
    found = torch.stack(change).diagonal().max()
    assert float(found) == pytest.approx(
        float((curvatures * (1 - alpha * curvatures) ** algorithm.flattened).max()), rel=1e-6
    )
