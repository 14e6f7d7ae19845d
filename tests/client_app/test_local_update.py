"""τ local steps, and where the clients' common fixed point lies."""

import numpy as np
import pytest
import torch

from nufed.client_app.algorithm import Batches
from nufed.theory import quadratics
from tests.helpers import meta_steps, quadratic_loss, random_quadratics

ALPHA = 0.3


def batches(hessians: np.ndarray, optima: np.ndarray, tau: int, nu: int) -> list[Batches]:
    """Full-batch data of a stack of quadratic clients."""
    h, c = torch.from_numpy(hessians), torch.from_numpy(optima)
    support = h.expand(nu, *h.shape), c.expand(nu, *c.shape)
    return [{"support": support, "query": (h, c)}] * tau


@pytest.mark.parametrize("nu", [0, 1, 5])
def test_local_steps_in_closed_form(nu: int) -> None:
    """w_τ = c + (I − β M^{2ν} H)^τ (w − c), and the losses and norms on the way there."""
    hessians, optima = random_quadratics(1, 3, seed=nu)
    h, c, beta, tau = hessians[0], optima[0], 0.2, 4
    w = np.random.default_rng(9).normal(size=3)
    end, result = meta_steps(
        quadratic_loss, {"w": torch.from_numpy(w)}, batches(h, c, tau, nu), alpha=ALPHA, beta=beta
    )
    for step in range(tau):
        gradient = quadratics.meta_gradient(h, c, w, ALPHA, nu)
        assert float(result.loss[step]) == pytest.approx(
            quadratics.meta_loss(h, c, w, ALPHA, nu), abs=1e-12
        )
        assert float(result.norm[step]) == pytest.approx(np.linalg.norm(gradient), abs=1e-12)
        w = w - beta * gradient
    assert np.abs(end["w"].numpy() - w).max() < 1e-12


@pytest.mark.parametrize("nu", [0, 1, 3])
@pytest.mark.parametrize("tau", [1, 5])
def test_rounds_with_all_clients_converge_to_the_fixed_point(nu: int, tau: int) -> None:
    """Averaging all clients' w_τ again and again leads to w_fed(β, τ), to 1e-10."""
    hessians, optima = random_quadratics(6, 3, seed=11)
    beta, w = 0.5, torch.zeros(3, dtype=torch.float64)
    data = batches(hessians, optima, tau, nu)
    for _ in range(1200):
        stack = {"w": w.expand(6, 3)}
        w = meta_steps(quadratic_loss, stack, data, alpha=ALPHA, beta=beta)[0]["w"].mean(0)
    expected = quadratics.fixed_point_exact(hessians, optima, ALPHA, nu, beta, tau)
    assert np.abs(w.numpy() - expected).max() < 1e-10


def test_a_stack_of_clients_is_each_of_them_by_itself() -> None:
    """Parameters, losses and norms of three clients with a leading axis, against one at a time."""
    hessians, optima = random_quadratics(3, 4, seed=5)
    w = torch.from_numpy(np.random.default_rng(1).normal(size=(3, 4)))
    ends, together = meta_steps(
        quadratic_loss, {"w": w}, batches(hessians, optima, 5, 2), alpha=ALPHA, beta=0.2
    )
    assert together.loss.shape == together.norm.shape == (5, 3)
    for i in range(3):
        end, alone = meta_steps(
            quadratic_loss,
            {"w": w[i]},
            batches(hessians[i], optima[i], 5, 2),
            alpha=ALPHA,
            beta=0.2,
        )
        for mine, theirs in ((alone.loss, together.loss), (alone.norm, together.norm)):
            assert (mine - theirs[:, i]).abs().max() < 1e-12
        assert (end["w"] - ends["w"][i]).abs().max() < 1e-12
