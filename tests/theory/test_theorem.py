"""The theorem: kept by real runs, and its step sizes and rounds are what they say."""

from dataclasses import replace
from itertools import product
from math import inf

import numpy as np
import pytest
import torch

from nufed.client_app.meta_gradient import MODES, adapt
from nufed.conf.errors import InputError
from nufed.theory.constants import Constants, Method, growth, smoothness
from nufed.theory.theorem import (
    Bound,
    Rounds,
    at_local_steps,
    at_rounds,
    best_beta,
    bound,
    largest_beta,
    rounds_for,
    simplified,
    suggested_alpha,
)
from tests.helpers import meta_steps
from tests.theory.two_rows import (
    Clients,
    clients_of,
    constants_of,
    cosines,
    empty,
    true_meta_gradients,
)

KNOWN = Constants(L=1.0, rho=0.5, B=2.0, sigma_G=0.5, sigma_H=0.5, gamma_G=0.3, gamma_H=0.2)
STOCHASTIC = Method(0.2, 2, support=10, query=10, hessian=10)
EXACT = Method(0.2, 2)
SOME = Rounds(clients=20, per_round=5, tau=4, beta=0.01, rounds=100)
METHODS = [
    STOCHASTIC,
    EXACT,
    replace(STOCHASTIC, shared=True),
    replace(STOCHASTIC, mode="first_order"),
    replace(STOCHASTIC, mode="hessian_free"),
]


def total(constants: Constants, method: Method, rounds: Rounds, gap: float = 1.0) -> float:
    found = bound(constants, method, rounds, gap)
    return inf if found is None else found.total


# Against runs of the real local update.


def alike(n: int) -> Clients:
    """Return quadratics with one Hessian and different optima, so that all constants are global."""
    random = np.random.default_rng(0)
    optima = random.normal(size=(n, 1, 2)) + 0.3 * random.normal(size=(n, 2, 2))
    curvature = torch.diag(torch.tensor([0.3, 1.0], dtype=torch.float64)).expand(n, 2, 2, 2)
    return replace(empty(n, 2), curvature=curvature, optimum=torch.from_numpy(optima / 2))


def gap_of(clients: Clients, w: torch.Tensor, method: Method) -> float:
    """Return F(w) − inf F, the infimum on a grid."""
    n, _ = clients.shape
    axis = torch.linspace(-torch.pi, torch.pi, 41, dtype=torch.float64)
    points = torch.cat([w[None], torch.cartesian_prod(axis, axis)])
    client = clients_of(n, len(points))
    half = torch.full((method.nu, len(client)), 0.5, dtype=torch.float64)
    support = client.expand(method.nu, -1), half
    params = {"w": points.repeat_interleave(n, 0)}
    theta = adapt(clients.loss, params, support, alpha=method.alpha)["w"]
    losses = clients.rows(theta, client).mean(-1).reshape(-1, n).mean(1)
    return float(losses[0] - losses.min())


def measured(clients: Clients, method: Method, rounds: Rounds, start: torch.Tensor) -> np.ndarray:
    """Return the means over k of ‖∇F(w_k)‖², and over k and t of ‖∇F(w̄_{k,t})‖², of 16 runs."""
    random = np.random.default_rng(0)
    runs, (n, d), m, nu = 16, clients.shape, rounds.per_round, method.nu

    def slope(w: torch.Tensor) -> float:
        return float(true_meta_gradients(clients, w, method).mean(1).square().sum(-1).mean())

    def shares(rows: int | None, *axes: int) -> torch.Tensor:
        shape = (*axes, runs * m)
        drawn = random.binomial(rows, 0.5, shape) / rows if rows else np.full(shape, 0.5)
        return torch.from_numpy(drawn)

    w, at_rounds, at_steps = start.expand(runs, d), [], []
    for _ in range(rounds.rounds):
        at_rounds.append(slope(w))
        drawn = np.concatenate([random.permutation(n)[:m] for _ in range(runs)])
        client = torch.from_numpy(drawn)
        params = {"w": w.repeat_interleave(m, 0)}
        for _ in range(rounds.tau):
            mean = params["w"].reshape(runs, m, d).mean(1)
            at_steps.append(slope(mean))
            inner = client.expand(nu, -1)
            step = {
                "support": (inner, shares(method.support, nu)),
                "query": (client, shares(method.query)),
            }
            if not method.shared:
                step["hessian"] = (inner, shares(method.hessian, nu))
            params, _ = meta_steps(
                clients.loss,
                params,
                [step],
                alpha=method.alpha,
                beta=rounds.beta,
                mode=method.mode,
                delta=method.delta,
            )
        w = params["w"].reshape(runs, m, d).mean(1)
    return np.array([np.mean(at_rounds), np.mean(at_steps)])


PROBLEMS = {"alike": alike(10), "cosines": cosines(10)}
CONSTANTS = {
    (name, each_row): constants_of(clients, each_row=each_row)
    for name, clients in PROBLEMS.items()
    for each_row in (False, True)
}


@pytest.mark.parametrize("nu", [0, 1, 3])
@pytest.mark.parametrize("how", ["all rows", "batches", "shared", "first_order", "hessian_free"])
@pytest.mark.parametrize(
    ("problem", "m", "c"), [("alike", 2, 0.1), ("alike", 10, 0.3), ("cosines", 2, 0.1)]
)
def test_runs_keep_the_theorem(problem: str, m: int, c: float, how: str, nu: int) -> None:
    """With an α so small that the bound is near enough to be exceeded, were it wrong."""
    rows = None if how == "all rows" else 2
    mode = how if how in MODES else "exact"
    alpha = 0.15 if problem == "alike" and mode != "first_order" else 0.02
    method = Method(alpha, nu, mode, 0.01, rows, rows, rows, shared=how == "shared")
    clients, constants = PROBLEMS[problem], CONSTANTS[problem, method.shared]
    beta = c / (4 * smoothness(constants, method))
    rounds, start = Rounds(10, m, 4, beta, rounds=8), torch.tensor([0.5, 0.0]).double()
    gap = gap_of(clients, start, method)
    found = measured(clients, method, rounds, start)
    for value, form in zip(found, (at_rounds, at_local_steps), strict=True):
        limit = bound(constants, method, rounds, gap, form)
        assert limit is not None
        assert 0.02 * limit.total <= value <= limit.total


def test_one_draw_of_clients_serves_all_local_steps() -> None:
    """Stationary E‖F'‖² = γ_F² (1 − p)/(1 + p), p = (1 − β h)^τ, for one client drawn of n.

    About c γ_F² / 2, which no bound in β L_F γ_F² without τ can hold.
    """
    tau, alpha, runs, n = 10, 0.5, 4000, 4
    optimum = torch.tensor([-1.5, -0.5, 0.5, 1.5], dtype=torch.float64)
    clients = replace(
        empty(n, 1),
        curvature=torch.ones(n, 2, 1, 1, dtype=torch.float64),
        optimum=optimum[:, None, None].expand(n, 2, 1),
    )
    h = (1 - alpha) ** 2  # of F_i, for ν = 1
    beta, gamma2 = 0.5 / (tau * h), float((h * optimum).square().mean())
    random, w = np.random.default_rng(0), {"w": torch.zeros(runs, 1, dtype=torch.float64)}
    half = torch.full((runs,), 0.5, dtype=torch.float64)
    for _ in range(10):
        client = torch.from_numpy(random.integers(0, n, runs))
        step = {"support": (client[None], half[None]), "query": (client, half)}
        w, _ = meta_steps(clients.loss, w, [step] * tau, alpha=alpha, beta=beta)
    p = (1 - beta * h) ** tau
    assert float((h * w["w"]).square().mean()) == pytest.approx(
        gamma2 * (1 - p) / (1 + p), rel=0.05
    )


@pytest.mark.parametrize(("c", "tau"), [(0.1, 1), (0.1, 100), (0.01, 100), (0.001, 1000)])
def test_the_sampling_term_is_four_times_its_worst_case(c: float, tau: int) -> None:
    p = (1 - c / tau) ** tau
    factors = at_rounds(c, Rounds(20, 1, tau, 1.0, 1))
    assert factors is not None
    assert (1 - p) / (1 + p) <= factors.heterogeneity
    assert factors.heterogeneity < (4.0 + 16 * c) * (1 - p) / (1 + p)


# The formulas.


def test_gradient_descent_is_a_special_case() -> None:
    """One local step of all clients on all rows: 2 Δ / (β K), whatever the clients."""
    rounds = Rounds(20, 20, 1, 0.05, 30)
    found = bound(KNOWN, EXACT, rounds, 2.0)
    assert found == Bound(2 * 2.0 / (0.05 * 30), 0.0, 0.0, 0.0, found.trivial if found else 0.0)


def test_the_theorem_written_out() -> None:
    """n = 5, m = 2, τ = 3, c = 0.2: s = 3/8, φ = 10/9, η = 0.92, C = 2.7, c²/η = 1/23."""
    rounds = Rounds(5, 2, 3, 1.0, 1)
    left = 1 - 2.7 / 23 * 10 / 9
    server = (
        2 / left,
        (0.4 / 6 + 2.7 / 23 * 2 / 9) / left,
        (0.4 * 3 / 8 + 2.7 / 23 * 10 / 9) / left,
        2.7 * (1 + 10 / 9 / 23) / left,
    )
    assert at_rounds(0.2, rounds) == pytest.approx(server)
    local = [(1.5 + 3 / 23 * 10 / 9) * factor for factor in server]
    extra = 0.0, 3 / 23 * 2 / 9, 3 / 23 * 10 / 9, 3 / 23 * 10 / 9
    expected = [a + b for a, b in zip(local, extra, strict=True)]
    assert at_local_steps(0.2, rounds) == pytest.approx(tuple(expected))


def test_the_simplified_constants_hold_and_are_no_larger_than_need_be() -> None:
    closest = np.zeros(4)
    for n, tau, c in product((1, 2, 3, 10, 1000), (1, 2, 5, 50, 10**6), (1e-6, 0.01, 0.05, 0.1)):
        for m in {1, (n + 1) // 2, n}:
            rounds = Rounds(n, m, tau, 1.0, 1)
            full, simple, local = (f(c, rounds) for f in (at_rounds, simplified, at_local_steps))
            assert full is not None
            assert simple is not None
            assert local is not None
            assert local.initial <= 3.32
            assert all(a <= b for a, b in zip(full, simple, strict=True))
            ratios = [a / b if b else 0.0 for a, b in zip(full, simple, strict=True)]
            closest = np.maximum(closest, ratios)
    assert (closest > 0.98).all()
    assert simplified(0.11, SOME) is None


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rounds", [SOME, replace(SOME, tau=1), replace(SOME, per_round=20)])
def test_the_largest_beta_is_where_the_theorem_ends(method: Method, rounds: Rounds) -> None:
    safe, admissible = largest_beta(KNOWN, method, rounds)
    assert safe * rounds.tau * smoothness(KNOWN, method) == pytest.approx(0.1)
    assert safe < admissible
    assert bound(KNOWN, method, replace(rounds, beta=admissible * 0.999), 1.0)
    assert bound(KNOWN, method, replace(rounds, beta=admissible * 1.001), 1.0) is None
    if rounds.tau == 1:
        assert admissible * smoothness(KNOWN, method) == pytest.approx(1)
    below = bound(KNOWN, method, replace(rounds, beta=safe * 0.999), 1.0, simplified)
    assert below
    assert below.total >= total(KNOWN, method, replace(rounds, beta=safe * 0.999))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("horizon", [10, 10**6])
def test_no_beta_is_better_than_the_best(method: Method, horizon: int) -> None:
    rounds = replace(SOME, rounds=horizon)
    beta = best_beta(KNOWN, method, rounds, 1.0)
    best = total(KNOWN, method, replace(rounds, beta=beta))
    top = largest_beta(KNOWN, method, rounds).admissible
    others = [
        total(KNOWN, method, replace(rounds, beta=b)) for b in top * np.geomspace(1e-8, 1, 3000)
    ]
    assert best <= min(others) * (1 + 1e-9)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("epsilon", [5.0, 1e-2, 1e-9])
@pytest.mark.parametrize("rounds", [SOME, Rounds(1, 1, 1, 1.0, 1), replace(SOME, per_round=20)])
def test_rounds_for_a_target_are_just_enough(
    method: Method, epsilon: float, rounds: Rounds
) -> None:
    found = rounds_for(KNOWN, method, rounds, 1.0, epsilon)
    limit = bound(KNOWN, method, replace(rounds, beta=1e-12), 1.0)
    assert limit is not None
    assert (found is None) == (limit.bias >= epsilon)  # of bias, 2 b² is left for β → 0
    if found is None:
        return
    assert total(KNOWN, method, found) <= epsilon
    if found.rounds > 1:
        fewer = round(found.rounds * (1 - 1e-12)) - 1
        assert total(KNOWN, method, replace(found, rounds=fewer)) > epsilon
        for factor in (0.5, 0.9, 1.1, 2.0):  # nor would another β do with fewer
            other = replace(found, beta=found.beta * factor, rounds=fewer)
            assert total(KNOWN, method, other) > epsilon * (1 - 1e-6)


def test_rounds_grow_with_the_target_as_the_corollary_has_it() -> None:
    """ε^{−3/2} with all clients in every round and all rows, ε^{−2} where some are drawn."""
    for m, power in ((20, 1.5), (5, 2.0)):
        rounds = [
            rounds_for(KNOWN, EXACT, replace(SOME, per_round=m), 1.0, epsilon)
            for epsilon in (1e-6, 1e-8)
        ]
        few, many = (found.rounds for found in rounds if found)
        assert np.log(many / few) / np.log(100) == pytest.approx(power, rel=0.01)


@pytest.mark.parametrize("method", METHODS)
def test_the_bound_grows_with_what_makes_a_run_harder(method: Method) -> None:
    easy = total(KNOWN, method, SOME)
    assert total(KNOWN, method, SOME, gap=2.0) > easy
    assert total(KNOWN, method, replace(SOME, rounds=50)) > easy
    assert total(KNOWN, method, replace(SOME, clients=40)) > easy
    assert total(KNOWN, method, replace(SOME, per_round=4)) > easy
    for field in ("L", "rho", "B", "sigma_G", "sigma_H", "gamma_G", "gamma_H"):
        harder = replace(KNOWN, **{field: 1.1 * getattr(KNOWN, field)})
        assert total(harder, method, SOME) >= easy


def test_the_dominating_term_and_vacuity_are_told() -> None:
    def found(rounds: Rounds, method: Method = STOCHASTIC, gap: float = 1.0) -> Bound:
        limit = bound(KNOWN, method, rounds, gap)
        assert limit is not None
        return limit

    few, many = replace(SOME, rounds=1, beta=1e-4), replace(SOME, rounds=10**9, beta=1e-4)
    assert found(few).dominating == "initial"
    assert found(few).vacuous
    assert found(many, EXACT).dominating == "heterogeneity"
    assert not found(many, EXACT).vacuous
    assert found(replace(many, per_round=20), replace(EXACT, query=1)).dominating == "noise"
    assert found(many, replace(EXACT, mode="first_order")).dominating == "bias"
    limit = found(SOME)
    terms = (limit.initial, limit.noise, limit.heterogeneity, limit.bias)
    assert limit.total == pytest.approx(sum(terms))
    assert limit.trivial == pytest.approx((1.2**2 * KNOWN.B) ** 2)


def test_the_suggested_alpha_keeps_growth_below_e() -> None:
    for nu in (0, 1, 5, 100):
        alpha = suggested_alpha(KNOWN, nu)
        assert growth(KNOWN, alpha) ** nu <= np.e
        assert alpha == 1 / (max(nu, 1) * KNOWN.L)
    assert growth(KNOWN, alpha) ** nu > 0.99 * np.e  # and no smaller than it must be


def test_what_cannot_be_is_refused_in_a_line() -> None:
    with pytest.raises(InputError, match=r"^per_round=3: must be at least 1 and at most clients=2"):
        Rounds(2, 3, 1, 0.1, 1)
    with pytest.raises(InputError, match=r"^gap=-1: must be F\(w_0\) − inf F, 0 or more"):
        bound(KNOWN, EXACT, SOME, -1)
    with pytest.raises(InputError, match=r"^epsilon=0: must be above 0"):
        rounds_for(KNOWN, EXACT, SOME, 1.0, 0)
    solved = Constants(1.0, 0.0, 1.0, negative=-1.0)
    with pytest.raises(InputError, match=r"^L_F=0: "):
        largest_beta(solved, Method(1.0, 1), SOME)
