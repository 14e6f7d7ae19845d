"""The constants: attained where they are tight, and never exceeded by the real meta-gradient."""

from dataclasses import replace
from itertools import pairwise, product
from math import sqrt

import numpy as np
import pytest
import torch

from nufed.client_app.algorithms.meta_gradient import MetaGradient, meta_gradient_of
from nufed.client_app.meta_gradient import MODES, meta_gradient
from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from nufed.theory import quadratics as oracle
from nufed.theory.constants import (
    Constants,
    Method,
    gradient_bound,
    growth,
    heterogeneity,
    smoothness,
)
from nufed.theory.estimator import estimator, hessian_free_bias, inner_error
from tests.helpers import random_quadratics
from tests.theory.two_rows import (
    EDGE,
    PROBLEMS,
    Clients,
    constants_of,
    cosines,
    empty,
    moments,
    true_meta_gradients,
)

STEPS = (1, 2, 5, 10)
POINT = torch.tensor([0.7, -0.4], dtype=torch.float64)
GIVEN = Constants(
    L=1.5, rho=0.7, B=2.0, sigma_G=0.8, sigma_H=0.6, gamma_G=0.5, gamma_H=0.4, negative=0.3
)


def concave(L: float, optima: torch.Tensor, spread: float = 0.0) -> Clients:
    """Return f'' = −L ± spread in one dimension, with optima [n, 2] of the rows."""
    n = len(optima)
    curvature = torch.tensor([-L - spread, -L + spread], dtype=torch.float64).expand(n, 2)
    return replace(empty(n, 1), curvature=curvature[..., None, None], optimum=optima[..., None])


# Ratio 1: no constant can be smaller.


@pytest.mark.parametrize("nu", STEPS)
def test_concave_clients_attain_smoothness_heterogeneity_and_first_order_bias(nu: int) -> None:
    L, alpha = 1.2, 0.25
    optima = torch.tensor([[-0.4, -0.4], [0.7, 0.7]], dtype=torch.float64)
    clients, method = concave(L, optima), Method(alpha, nu)
    w = torch.tensor([[0.9], [1.9]], dtype=torch.float64)
    meta = true_meta_gradients(clients, w, method)[..., 0]
    theta = [oracle.fine_tuned(*_numpy(clients, i), w[0].numpy(), alpha, nu) for i in range(2)]
    B = max(abs(L * (theta[i] - optima[i, 0].item())).item() for i in range(2))
    gamma_G = float(L * (optima[1, 0] - optima[0, 0]) / 2)
    constants = Constants(L, 0.0, B, gamma_G=gamma_G)

    assert float((meta[1] - meta[0]).abs().max()) == pytest.approx(smoothness(constants, method))
    spread = float((meta[0] - meta[0].mean()).square().mean().sqrt())
    assert spread == pytest.approx(heterogeneity(constants, method))
    assert float(meta[0].abs().max()) == pytest.approx(gradient_bound(constants, method))
    first_order = moments(clients, w[0], replace(method, mode="first_order"))
    bound = estimator(constants, replace(method, mode="first_order")).bias
    assert float(first_order.bias.max()) == pytest.approx(bound)


@pytest.mark.parametrize("nu", STEPS)
@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_concave_clients_with_additive_noise_attain_the_variance(
    nu: int, fresh: bool, mode: str
) -> None:
    """Gradients ± σ_G, the same Hessian in every row."""
    L, sigma_G = 1.2, 0.5
    optima = torch.tensor([[-sigma_G / L, sigma_G / L]], dtype=torch.float64)
    support = 1 if fresh and nu > 2 else 2  # few enough outcomes to enumerate
    for shared in (True, False):
        method = Method(0.25, nu, mode, 1e-3, support, 3, None, fresh, shared)
        moment = moments(concave(L, optima), torch.ones(1, dtype=torch.float64), method)
        bound = estimator(Constants(L, 0.0, 5.0, sigma_G), method)
        assert float(moment.variance) == pytest.approx(bound.variance, rel=1e-9)


@pytest.mark.parametrize("nu", STEPS)
def test_noisy_hessians_attain_the_variance(nu: int) -> None:
    """Hessian noise on each factor, none in the gradients: [(q² + h)^ν − q^{2ν}] B²."""
    L, sigma_H = 1.2, 0.5
    clients = concave(L, torch.zeros(1, 2, dtype=torch.float64), sigma_H)
    w, method = torch.ones(1, dtype=torch.float64), Method(0.25, nu, hessian=1 if nu > 2 else 2)
    B = L * (1 + 0.25 * L) ** nu
    bound = estimator(Constants(L, 0.0, B, sigma_H=sigma_H), method)
    moment = moments(clients, w, method)
    assert float(moment.error) == pytest.approx(bound.variance, rel=1e-9)
    assert bound.bias == 0
    assert float(moment.bias) < 1e-12


@pytest.mark.parametrize("fresh", [True, False])
def test_shared_batches_attain_their_variance_where_noise_is_small(fresh: bool) -> None:
    """Rows whose Hessians differ by ± σ_H on the trajectory, and whose gradients do not."""
    L, alpha, sigma_H, w = 1.2, 0.25, 1e-3, torch.zeros(1, dtype=torch.float64)
    k = 2 * torch.pi / (alpha * L)  # θ¹ is −α L, and the gradients differ by sin k w
    clients = concave(L, torch.ones(1, 2, dtype=torch.float64))
    waves = [[sign * sigma_H / k**2, 0.0, k] for sign in (-1, 1)]
    clients = replace(clients, waves=torch.tensor([waves], dtype=torch.float64))
    method = Method(alpha, 2, support=1, fresh=fresh, shared=True)
    B = L * (1 + alpha * L) ** 2
    bound = estimator(Constants(L + sigma_H, 0.0, B, sigma_H=sigma_H), method)
    moment = moments(clients, w, method)
    assert 0.999 * bound.variance <= float(moment.error) <= bound.variance
    assert float(moment.bias) <= bound.bias + 1e-12
    if not fresh:  # one noise in two factors has a mean
        assert float(moment.bias) == pytest.approx((alpha * sigma_H) ** 2 * B, rel=1e-3)


def test_a_kink_of_the_curvature_attains_the_hessian_free_bias() -> None:
    """f'' = −ρ|x| around w: the two gradients of a difference straddle the kink."""
    rho, delta, alpha = 2.0, 0.05, 0.25
    w, nothing = {"w": torch.zeros(1, dtype=torch.float64)}, torch.zeros(1)

    def loss(params: dict[str, torch.Tensor], _: torch.Tensor) -> torch.Tensor:
        return (params["w"] - rho * params["w"].abs() ** 3 / 6).sum()

    found = [
        float(
            meta_gradient(
                loss, w, (nothing[None],), (nothing,), alpha=alpha, mode=mode, delta=delta
            )["w"]
        )
        for mode in ("hessian_free", "exact")
    ]
    B = 1 + rho * alpha**2 / 2  # |f'(θ¹)|, θ¹ = −α
    method = Method(alpha, 1, "hessian_free", delta)
    constants = Constants(1.0, rho, B)
    error = abs(found[0] - found[1])
    assert error == pytest.approx(hessian_free_bias(constants, method), rel=1e-9)
    assert estimator(constants, method) == pytest.approx((error, error**2), rel=1e-9)


@pytest.mark.parametrize("nu", [0, *STEPS])
@pytest.mark.parametrize(("lowest", "alpha"), [(0.0, 0.3), (0.2, 0.3), (-0.4, 0.3), (-2.0, 0.2)])
def test_smoothness_of_quadratics_is_exact(nu: int, lowest: float, alpha: float) -> None:
    L = 2.0
    spectrum = np.append(np.linspace(lowest, L, 30), 1 / (alpha * (2 * nu + 1)))
    hessian = np.diag(np.clip(spectrum, lowest, L))
    steepest = max(
        np.linalg.norm(oracle.meta_gradient(hessian, np.zeros(31), unit, alpha, nu))
        for unit in np.eye(31)
    )
    constants = Constants(L, 0.0, 1.0, negative=-lowest)
    assert steepest == pytest.approx(smoothness(constants, Method(alpha, nu)), rel=1e-12)


def test_smoothness_of_convex_quadratics_falls_with_nu() -> None:
    constants = Constants(1.0, 0.0, 1.0, negative=0.0)
    found = [smoothness(constants, Method(1.0, nu)) for nu in (1, 2, 5, 10, 50)]
    assert found == pytest.approx([(k / (k + 1)) ** k / (k + 1) for k in (2, 4, 10, 20, 100)])
    assert found[-1] == pytest.approx(1 / (2 * np.e * 50), rel=0.01)


def test_the_peak_of_convex_quadratics_is_within_up_to_alpha_of_4_over_3l() -> None:
    """There λ = L comes to as much as the peak for ν = 1, and to less for more steps."""
    constants, alpha = Constants(3.0, 0.0, 1.0, negative=0.0), 4 / 9
    for nu in range(1, 50):
        peak = (2 * nu / (2 * nu + 1)) ** (2 * nu) / (alpha * (2 * nu + 1))
        assert smoothness(constants, Method(alpha, nu)) == pytest.approx(peak, rel=1e-12)
    above = Method(1.001 * alpha, 1)
    assert smoothness(constants, above) > 1.001 * (2 / 3) ** 2 / (3 * above.alpha)


# Never exceeded: every outcome of every batch, through the real meta-gradient.

MEASURED = {
    (name, each_row): constants_of(clients, each_row=each_row)
    for name, clients in PROBLEMS.items()
    for each_row in (False, True)
}
SCHEMES = [(True, False), (False, False), (True, True), (False, True)]


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("nu", [0, 1, 2, 3])
def test_bias_and_variance_hold(problem: str, mode: str, nu: int) -> None:
    for (fresh, shared), alpha in product(SCHEMES, (0.1, 0.4)):
        method = Method(alpha, nu, mode, 0.1, 1, 1, 1, fresh, shared)
        bound = estimator(MEASURED[problem, shared or not fresh], method)
        moment = moments(PROBLEMS[problem], POINT, method)
        assert moment.reach < EDGE or problem == "cosines"
        variance = moment.variance if mode == "first_order" else moment.error
        assert float(moment.bias.max()) <= bound.bias + 1e-12
        assert float(variance.max()) <= bound.variance


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("nu", [0, *STEPS])
def test_smoothness_and_heterogeneity_hold(problem: str, nu: int) -> None:
    constants, method = MEASURED[problem, False], Method(0.3, nu)
    random = torch.Generator().manual_seed(nu)
    near = EDGE / 2 * (2 * torch.rand(200, 2, generator=random, dtype=torch.float64) - 1)
    off = 0.05 * torch.randn(200, 2, generator=random, dtype=torch.float64)
    meta, beside = (true_meta_gradients(PROBLEMS[problem], w, method) for w in (near, near + off))
    slope = (beside - meta).norm(dim=-1) / off.norm(dim=-1, keepdim=True)
    assert float(slope.max()) <= smoothness(constants, method)
    spread = (meta - meta.mean(1, keepdim=True)).square().sum(-1).mean(1)
    assert float(spread.max()) <= heterogeneity(constants, method) ** 2
    assert float(meta.norm(dim=-1).max()) <= gradient_bound(constants, method)


@pytest.mark.parametrize("nu", STEPS)
def test_heterogeneity_of_quadratics_holds(nu: int) -> None:
    """A5 needs to hold along the trajectory of the mean of the losses alone."""
    (hessians, optima), alpha, w = random_quadratics(8, 4, seed=nu), 0.3, np.ones(4)
    mean = hessians.mean(0)
    centre = np.linalg.solve(hessians.sum(0), np.einsum("nij,nj->i", hessians, optima))
    phi = [oracle.fine_tuned(mean, centre, w, alpha, step) for step in range(nu + 1)]
    gradients = np.einsum("nij,lnj->lni", hessians, np.array(phi)[:, None] - optima)
    spread = gradients - gradients.mean(1, keepdims=True)
    deviations = hessians - mean
    constants = Constants(
        L=2.0,
        rho=0.0,
        B=np.linalg.norm(gradients, axis=-1).max(),
        gamma_G=np.sqrt((spread**2).sum(-1).mean(1)).max(),
        gamma_H=sqrt(np.linalg.eigvalsh((deviations @ deviations).mean(0)).max()),
        negative=0.0,
    )
    clients = range(8)
    meta = np.array([oracle.meta_gradient(hessians[i], optima[i], w, alpha, nu) for i in clients])
    found = sqrt(((meta - meta.mean(0)) ** 2).sum(-1).mean())
    assert found <= heterogeneity(constants, Method(alpha, nu))


def test_independent_batches_leave_quadratics_unbiased_and_shared_ones_do_not() -> None:
    clients, constants = PROBLEMS["convex"], MEASURED["convex", True]
    for nu in (1, 2, 3):
        apart = Method(0.4, nu, support=1, query=1, hessian=1)
        assert estimator(constants, apart).bias == 0
        assert float(moments(clients, POINT, apart).bias.max()) < 1e-15
        shared = moments(clients, POINT, replace(apart, shared=True)).bias
        for client, bias in enumerate(shared):
            expected = oracle_of_shared_rows(clients, client, 0.4, nu)
            assert float(bias) == pytest.approx(expected, rel=1e-9)
        assert float(shared.max()) <= estimator(constants, replace(apart, shared=True)).bias


def oracle_of_shared_rows(clients: Clients, client: int, alpha: float, nu: int) -> float:
    """Return ‖E G − ∇F_i‖ at POINT, where each inner step and its Hessian are of one row, a drawn.

    With V_ν = ∇f_i and V_l(t) = E Ã V_{l+1}(Ã t + α H̃ c̃), Ã = I − α H̃, E G is V_0(w). All V_l are
    affine, M t + m. For ν = 1 the bias is α² ‖Cov(H̃, H g̃)‖.
    """
    rows = clients.curvature[client].numpy(), clients.optimum[client].numpy()
    H, pull = rows[0].mean(0), np.einsum("rij,rj->ri", *rows)
    M, m = H, -pull.mean(0)
    A = oracle.contraction(rows[0], alpha)
    for _ in range(nu):
        m = np.mean([a @ (alpha * M @ b + m) for a, b in zip(A, pull, strict=True)], 0)
        M = np.mean(A @ M @ A, 0)
    w, centre = POINT.numpy(), np.linalg.solve(H, pull.mean(0))
    return float(np.linalg.norm(M @ w + m - oracle.meta_gradient(H, centre, w, alpha, nu)))


@pytest.mark.parametrize(("nu", "rows"), [(1, (1, 4, 16)), (2, (1, 2, 4))])
def test_bias_falls_with_the_rows_of_a_batch_as_1_over_d(nu: int, rows: tuple[int, ...]) -> None:
    """So does its bound for ν = 1; that for a larger ν falls as 1/√D."""
    clients, constants = cosines(), MEASURED["cosines", False]
    found = [
        float(moments(clients, POINT, Method(0.1, nu, support=d, query=1, hessian=1)).bias.max())
        for d in rows
    ]
    bounds = [estimator(constants, Method(0.1, nu, support=d)).bias for d in rows]
    for (a, b), (few, many) in zip(pairwise(found), pairwise(rows), strict=True):
        assert a / b == pytest.approx(many / few, rel=0.25)
    assert all(a <= b for a, b in zip(found, bounds, strict=True))
    large = [Method(0.1, nu, support=d) for d in (1000, 4000)]
    ratio = [estimator(constants, m).bias for m in large]
    assert ratio[0] / ratio[1] == pytest.approx(4 if nu == 1 else 2, rel=0.05)


# Known cases.


def test_nu_0_is_fedavg() -> None:
    method = Method(0.1, 0, support=3, query=4, hessian=5)
    assert smoothness(GIVEN, method) == GIVEN.L
    assert heterogeneity(GIVEN, method) == GIVEN.gamma_G
    assert gradient_bound(GIVEN, method) == GIVEN.B
    for mode in MODES:
        for shared in (False, True):
            found = estimator(GIVEN, replace(method, mode=mode, shared=shared))
            assert found == pytest.approx((0.0, GIVEN.sigma_G**2 / 4))


def test_nu_1_written_out() -> None:
    """Per-FedAvg: L_F = q² L + α ρ B and so on, q = 1 + α L = 2 at α = 1/L."""
    L, rho, B, sigma_G, sigma_H, gamma_G, gamma_H = 4.0, 0.7, 2.0, 0.8, 0.6, 0.5, 0.4
    constants = Constants(L, rho, B, sigma_G, sigma_H, gamma_G, gamma_H)
    alpha, D, D1, D2 = 1 / L, 3, 4, 5
    method = Method(alpha, 1, support=D, query=D1, hessian=D2)
    h, inner = alpha**2 * sigma_H**2 / D2, alpha * sigma_G / sqrt(D)
    assert smoothness(constants, method) == pytest.approx(4 * L + alpha * rho * B)
    assert heterogeneity(constants, method) == pytest.approx(
        min(4 * gamma_G + alpha * B * gamma_H, 2 * B)
    )
    bias, variance = estimator(constants, method)
    assert bias == pytest.approx(2 * rho / 2 * inner**2)
    assert bias <= 2 * L * inner
    assert variance == pytest.approx(h * B**2 + (4 + h) * sigma_G**2 / D1 + (2 * L * inner) ** 2)
    first_order = estimator(constants, replace(method, mode="first_order"))
    assert first_order.bias == pytest.approx(B + rho / 2 * inner**2)
    assert first_order.variance == pytest.approx(sigma_G**2 / D1 + (L * inner) ** 2)
    hessian_free = estimator(constants, replace(method, mode="hessian_free", delta=0.1))
    extra = alpha * rho * 0.1 / 2 * (B**2 + sigma_G**2 / D1)
    assert hessian_free.bias == pytest.approx(bias + extra)
    assert estimator(constants, replace(method, fresh=False)) == (bias, variance)


def test_bias_at_nu_2_and_3_written_out() -> None:
    """Lemma 3 and its refinement: q = 1 + α L = 1.25."""
    L, rho, B, sigma_G, alpha, D, q = 0.5, 0.3, 1.0, 0.2, 0.5, 2, 1.25
    constants = Constants(L, rho, B, sigma_G)
    first = alpha * sigma_G / sqrt(D)
    second = first * sqrt(1 + q**2)  # r_1 and r_2
    mean = alpha * rho / 2 * first**2
    product_error = alpha * rho * q * first
    outer = q**2 * (L * mean + rho / 2 * second**2) + product_error * L * second
    method = Method(alpha, 2, support=D)
    known = estimator(constants, method)
    assert known.bias == pytest.approx(product_error * B + outer)
    crude = q**2 * L * second + product_error * B
    assert known.variance == pytest.approx(crude**2)
    error = inner_error(constants, Method(alpha, 3, support=D))
    assert error.squared == pytest.approx([0, first**2, second**2, first**2 * (1 + q**2 + q**4)])
    assert error.mean[:3] == pytest.approx([0, 0, mean])
    r, m = error.root, error.mean
    product_error = alpha * rho * q**2 * (r[1] + r[2])
    outer = q**3 * (L * m[3] + rho / 2 * r[3] ** 2) + product_error * L * r[3]
    known = estimator(constants, Method(alpha, 3, support=D))
    assert known.bias == pytest.approx(product_error * B + outer)


def test_growth_knows_the_curvature() -> None:
    def q(negative: float | None, alpha: float) -> float:
        return growth(Constants(2.0, 0.0, 1.0, negative=negative), alpha)

    assert q(None, 0.5) == 2.0
    assert q(2.0, 0.5) == 2.0
    assert q(0.5, 0.5) == 1.25
    assert q(0.0, 1.0) == 1.0
    assert q(0.0, 1.5) == 2.0  # α above 2/L
    assert q(-0.5, 0.5) == 0.75
    assert q(-2.0, 0.5) == 0.0


def test_one_step_that_solves_every_client_leaves_nothing() -> None:
    """f'' = 1/α: q = 0."""
    constants = Constants(2.0, 0.0, 1.0, 0.5, 0.5, 0.5, 0.5, negative=-2.0)
    for nu in (2, 3):
        for mode in MODES:
            method = Method(0.5, nu, mode, support=2, query=2, hessian=2)
            assert smoothness(constants, method) == 0
            assert heterogeneity(constants, method) == 0
            assert all(np.isfinite(estimator(constants, method)))


def test_inner_noise_averages_out_over_fresh_batches_and_stays_in_a_reused_one() -> None:
    """ν α = 0.5 fixed: E_ν falls as 1/ν, or does not."""
    for fresh, ratio in ((True, 2.0), (False, 1.0)):
        few, many = (
            inner_error(GIVEN, Method(0.5 / nu, nu, support=4, fresh=fresh)).squared[-1]
            for nu in (200, 400)
        )
        assert few / many == pytest.approx(ratio, rel=0.01)


@pytest.mark.parametrize(
    "field", ["L", "rho", "B", "sigma_G", "sigma_H", "gamma_G", "gamma_H", "negative"]
)
def test_larger_constants_never_give_smaller_bounds(field: str) -> None:
    for nu, mode, (fresh, shared) in product((0, 1, 2, 5), MODES, SCHEMES):
        method = Method(0.2, nu, mode, 0.1, 3, 4, 5, fresh, shared)
        before, after = (
            (smoothness(c, method), heterogeneity(c, method), *estimator(c, method))
            for c in (GIVEN, replace(GIVEN, **{field: 1.2 * getattr(GIVEN, field)}))
        )
        assert all(a <= b * (1 + 1e-12) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("field", ["support", "query", "hessian"])
def test_larger_batches_never_give_larger_bounds(field: str) -> None:
    for mode, (fresh, shared) in product(MODES, SCHEMES):
        method = Method(0.2, 3, mode, 0.1, 3, 4, 5, fresh, shared)
        small, large, all_rows = (
            estimator(GIVEN, replace(method, **{field: rows})) for rows in (5, 50, None)
        )
        assert all_rows.variance <= large.variance <= small.variance
        assert all_rows.bias <= large.bias <= small.bias


def with_steps(*overrides: str) -> MetaGradient:
    steps = ["algorithm.alpha=0.03", "algorithm.beta=0.1"]
    return meta_gradient_of(compose_config([*steps, *overrides]).algorithm)


def test_a_configuration_names_the_method() -> None:
    algorithm = with_steps("algorithm.nu=3", "algorithm.mode=hessian_free")
    assert Method.of(algorithm) == Method(
        0.03, 3, "hessian_free", 1e-3, support=20, query=20, hessian=None, shared=True
    )
    apart = with_steps("algorithm.batch.hessian=7", "algorithm.batch.support=null")
    method = Method.of(apart)
    assert (method.support, method.hessian, method.shared) == (None, 7, False)


@pytest.mark.parametrize("without", ["algorithm.nu=0", "algorithm.mode=first_order"])
def test_a_method_without_hessians_shares_no_batch_with_them(without: str) -> None:
    """So A2 and A3 are asked of the f_i alone, not of the losses on batches."""
    algorithm = with_steps(without)
    assert algorithm.batch.hessian is None
    assert not Method.of(algorithm).shared


def test_what_cannot_be_is_refused_in_a_line() -> None:
    with pytest.raises(InputError, match=r"^constants.L=0: must be above 0"):
        Constants(0, 0, 1)
    with pytest.raises(InputError, match=r"^constants.sigma_G=nan: must be 0 or more"):
        Constants(1, 0, 1, float("nan"))
    with pytest.raises(InputError, match=r"^constants.negative=3: must be between −L and L=1"):
        Constants(1, 0, 1, negative=3)
    with pytest.raises(InputError, match=r"^mode=magic: must be exact \| "):
        Method(0.1, 1, "magic")
    with pytest.raises(
        InputError, match=r"^algorithm.alpha=10: 99 steps .* say algorithm.alpha=0\.0051, "
    ):
        smoothness(Constants(2.0, 0.0, 1.0), Method(10, 99))


def _numpy(clients: Clients, client: int) -> tuple[np.ndarray, np.ndarray]:
    return clients.curvature[client, 0].numpy(), clients.optimum[client, 0].numpy()
