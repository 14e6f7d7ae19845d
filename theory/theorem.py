"""How small ‖∇F‖² becomes, at most, after K rounds of τ local steps of size β: the theorem.

In a round, m of n clients are drawn without replacement; each takes τ steps w ← w − β G_i(w) from
the server's w_k, and w_{k+1} is the mean of what they come to. G_i is any estimate of ∇F_i with
bias at most b and variance at most σ² (`nufed.theory.estimator`); ∇F is L_F-Lipschitz, the ∇F_i are
γ_F apart (`constants.smoothness`, `heterogeneity`), and Δ = F(w_0) − inf F is the `gap`. Clients
weigh alike, and the server adds no momentum, clipping or noise. With

    c = β τ L_F,    s = (n − m) / (m (n − 1)),    φ = (2τ − 1)(τ − 1) / τ²,
    η = 1 − 3 c² (τ − 1) / τ,    C = 2 + 4 c (1/m + s),    λ = 1 − C c² φ / η:

**Theorem** (`at_rounds`). If c ≤ 1, η > 0 and λ > 0,

    (1/K) Σ_k E‖∇F(w_k)‖² ≤ R = (1/λ) { 2 Δ / (β τ K)
        + [2 c / (τ m) + C c² (τ − 1) / (η τ²)] σ²
        + [2 c s + C c² φ / η] γ_F²
        + C (1 + c² φ / η) b² }.

*Proof.* (i) The clients' paths do not depend on who is drawn, so that E(w_{k+1} − w_k) = −β τ U
with U the mean expected G; by smoothness, F falls by ⟨∇F, β τ U⟩ less L_F/2 times the mean square
step, and −⟨∇F, U⟩ = ½(−‖∇F‖² − ‖U‖² + ‖∇F − U‖²), ‖∇F − U‖² ≤ 2 L_F² Q + 2 b², where Q is the
mean square distance of local models from w_k. (ii) The mean square step is at most β² τ² [‖U‖² +
2 σ²/(τ m) + 2 s γ_F² + 4 (1/m + s)(L_F² Q + b²)]; ‖U‖² cancels as c ≤ 1. (iii) Q ≤ (β²/η) [(τ −
1) σ² + (2τ − 1)(τ − 1)(‖∇F‖² + γ_F² + b²)]. (iv) Insert, and sum over k.

**Local models** (`at_local_steps`). For w̄_{k,t}, the mean of the drawn clients' models after t
steps,

    (1/(τ K)) Σ_{k,t} E‖∇F(w̄_{k,t})‖² ≤ 1.5 R + 3 (c²/η) [φ (R + γ_F² + b²) + ((τ − 1)/τ²) σ²].

**Simplified** (`simplified`). If c ≤ 1/10,

    R ≤ 2.13 Δ/(β τ K) + 2.13 c σ²/(τ m) + 3.1 c² (τ − 1) σ²/τ²
        + 2.13 c s γ_F² + 6.2 c² (τ − 1) γ_F²/τ + 3.04 b².

The term with s has the factor τ in c: one draw of clients serves τ steps, and its error adds up.

All is conditional on the constants given. The bound is a law of how things scale and a rule for
β; as a number it is often above ‖∇F‖² ≤ q^{2ν} B², which needs no theorem, and then says so
(`vacuous`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from nufed.conf.errors import InputError
from nufed.conf.schema import require
from nufed.theory import constants as lemmas
from nufed.theory.constants import Constants, Method
from nufed.theory.estimator import estimator

SAFE = 0.1
"""The largest c = β τ L_F of the simplified theorem."""


@dataclass(frozen=True)
class Rounds:
    """A run's rounds: who trains, how often, with which step."""

    clients: int
    """n, those that take part in training."""
    per_round: int
    """m, drawn in each round."""
    tau: int
    """Local steps τ a round."""
    beta: float
    """Local step size β."""
    rounds: int
    """K."""

    def __post_init__(self) -> None:
        require(self.clients >= 1, "clients", self.clients, "at least 1")
        m, n = self.per_round, self.clients
        require(1 <= m <= n, "per_round", m, f"at least 1 and at most clients={n}")
        require(self.tau >= 1, "tau", self.tau, "at least 1")
        require(0 < self.beta < math.inf, "beta", self.beta, "above 0 and finite")
        require(self.rounds >= 1, "rounds", self.rounds, "at least 1")

    @property
    def sampling(self) -> float:
        """The s = (n − m) / (m (n − 1)): the variance of a drawn mean over that of the clients."""
        n, m = self.clients, self.per_round
        return (n - m) / (m * (n - 1)) if n > 1 else 0.0


class Coefficients(NamedTuple):
    """What the theorem multiplies Δ/(β τ K), σ², γ_F² and b² by."""

    initial: float
    noise: float
    heterogeneity: float
    bias: float


Form = Callable[[float, Rounds], Coefficients | None]
"""A form of the theorem: coefficients for c = β τ L_F, and None where c is too large for it."""


@dataclass(frozen=True)
class Bound:
    """The four terms of the theorem, and what is known without it."""

    initial: float
    """What is left of Δ."""
    noise: float
    """From the variance of the meta-gradients."""
    heterogeneity: float
    """From clients that differ: drawn ones are not all, and local steps drift apart."""
    bias: float
    """From the bias of the meta-gradients; no number of rounds and no β removes it."""
    trivial: float
    """q^{2ν} B² ≥ ‖∇F‖², anywhere."""

    @property
    def total(self) -> float:
        """The bound on the mean of E‖∇F‖²."""
        return self.initial + self.noise + self.heterogeneity + self.bias

    @property
    def vacuous(self) -> bool:
        """Whether the theorem says no more than the trivial bound."""
        return self.total >= self.trivial

    @property
    def dominating(self) -> str:
        """The name of the largest term."""
        terms = ("initial", "noise", "heterogeneity", "bias")
        return max(terms, key=lambda name: getattr(self, name))


class LargestBeta(NamedTuple):
    """Up to where the theorem allows β."""

    safe: float
    """c = 1/10, where the simplified constants hold."""
    admissible: float
    """Below it the theorem holds at all; its bound tends to infinity there, or c to 1."""


class _Terms(NamedTuple):
    """The constants that the theorem is about."""

    smoothness: float
    noise: float
    heterogeneity: float
    bias: float
    trivial: float

    @classmethod
    def of(cls, constants: Constants, method: Method) -> "_Terms":
        found = estimator(constants, method)
        return cls(
            lemmas.smoothness(constants, method),
            found.variance,
            lemmas.heterogeneity(constants, method) ** 2,
            found.bias**2,
            lemmas.gradient_bound(constants, method) ** 2,
        )

    def bound(self, factors: Coefficients, rounds: Rounds, gap: float) -> Bound:
        return Bound(
            initial=factors.initial * gap / (rounds.beta * rounds.tau * rounds.rounds),
            noise=factors.noise * self.noise,
            heterogeneity=factors.heterogeneity * self.heterogeneity,
            bias=factors.bias * self.bias,
            trivial=self.trivial,
        )

    def floor(self, factors: Coefficients) -> float:
        """Return what is left of the bound after infinitely many rounds."""
        return (
            factors.noise * self.noise
            + factors.heterogeneity * self.heterogeneity
            + factors.bias * self.bias
        )


def at_rounds(c: float, rounds: Rounds) -> Coefficients | None:
    """Return the coefficients of the theorem, for the models w_k; None if c is too large."""
    m, tau, s = rounds.per_round, rounds.tau, rounds.sampling
    eta = 1 - 3 * c**2 * (tau - 1) / tau
    if c > 1 or eta <= 0:
        return None
    drift, C = _drift(c, rounds), 2 + 4 * c * (1 / m + s)
    phi = drift * (2 * tau - 1) * (tau - 1) / tau**2
    absorbed = 1 - C * phi
    if absorbed <= 0:
        return None
    return Coefficients(
        initial=2 / absorbed,
        noise=(2 * c / (tau * m) + C * drift * (tau - 1) / tau**2) / absorbed,
        heterogeneity=(2 * c * s + C * phi) / absorbed,
        bias=C * (1 + phi) / absorbed,
    )


def at_local_steps(c: float, rounds: Rounds) -> Coefficients | None:
    """Return those for the mean models w̄_{k,t} during a round; None if c is too large."""
    server, tau = at_rounds(c, rounds), rounds.tau
    if server is None:
        return None
    drift = 3 * _drift(c, rounds)
    phi = drift * (2 * tau - 1) * (tau - 1) / tau**2
    initial, noise, heterogeneity, bias = ((1.5 + phi) * factor for factor in server)
    noise += drift * (tau - 1) / tau**2
    return Coefficients(initial, noise, heterogeneity + phi, bias + phi)


def simplified(c: float, rounds: Rounds) -> Coefficients | None:
    """Return those of the simplified theorem; None if c is above 1/10."""
    m, tau, s = rounds.per_round, rounds.tau, rounds.sampling
    if c > SAFE:
        return None
    return Coefficients(
        initial=2.13,
        noise=2.13 * c / (tau * m) + 3.1 * c**2 * (tau - 1) / tau**2,
        heterogeneity=2.13 * c * s + 6.2 * c**2 * (tau - 1) / tau,
        bias=3.04,
    )


def _drift(c: float, rounds: Rounds) -> float:
    """Return c²/η, where η > 0."""
    return c**2 / (1 - 3 * c**2 * (rounds.tau - 1) / rounds.tau)


def bound(
    constants: Constants, method: Method, rounds: Rounds, gap: float, form: Form = at_rounds
) -> Bound | None:
    """Return the bound on the mean of E‖∇F‖² over a run; None where β is too large for any.

    Parameters
    ----------
    gap
        Δ = F(w_0) − inf F or more; inf F is at least the mean of the inf f_i.
    form
        `at_rounds`, `at_local_steps` or `simplified`.
    """
    _require_gap(gap)
    terms = _Terms.of(constants, method)
    factors = form(rounds.beta * rounds.tau * terms.smoothness, rounds)
    return None if factors is None else terms.bound(factors, rounds, gap)


def largest_beta(constants: Constants, method: Method, rounds: Rounds) -> LargestBeta:
    """Return the largest β, safe and admissible, for the τ, n and m of `rounds`.

    Raises
    ------
    InputError
        If L_F is 0: every F_i is constant.
    """
    unit = _beta_of_one(_Terms.of(constants, method), rounds)
    return LargestBeta(SAFE * unit, _largest_c(rounds) * unit)


def best_beta(constants: Constants, method: Method, rounds: Rounds, gap: float) -> float:
    """Return the β with the smallest bound after K rounds, for the K, τ, n and m of `rounds`."""
    _require_gap(gap)
    terms, top = _Terms.of(constants, method), _largest_c(rounds)
    unit = _beta_of_one(terms, rounds)

    def total(c: float) -> float:
        factors = at_rounds(c, rounds)
        return (
            math.inf
            if factors is None
            else terms.floor(factors)
            + factors.initial * gap / (c * unit * rounds.tau * rounds.rounds)
        )

    return unit * _minimiser(total, top * 1e-12, top)


def rounds_for(
    constants: Constants, method: Method, rounds: Rounds, gap: float, epsilon: float
) -> Rounds | None:
    """Return the fewest rounds K, and their β, for which the bound is at most ε.

    Parameters
    ----------
    rounds
        n, m and τ; its β and K are not used.

    Returns
    -------
    Rounds | None
        `rounds` with that β and K; None if the bias alone exceeds ε: 2 b² ≥ ε.
    """
    _require_gap(gap)
    require(0 < epsilon < math.inf, "epsilon", epsilon, "above 0 and finite")
    terms = _Terms.of(constants, method)
    unit = _beta_of_one(terms, rounds)
    if 2 * terms.bias >= epsilon:
        return None

    def needed(c: float) -> float:
        factors = at_rounds(c, rounds)
        left = 0.0 if factors is None else epsilon - terms.floor(factors)
        if factors is None or left <= 0:
            return math.inf
        return factors.initial * gap / (c * unit * rounds.tau * left)

    # The floor rises with c: below the c where it reaches ε, K(c) has one minimum.
    top = _last(lambda c: needed(c) < math.inf, _largest_c(rounds))
    c = _minimiser(needed, top * 1e-4, top)
    found = replace(rounds, beta=c * unit, rounds=max(1, math.ceil(needed(c))))
    while (reached := bound(constants, method, found, gap)) and reached.total > epsilon:
        more = max(1, found.rounds >> 50)  # rounding, at a K that is just enough
        found = replace(found, rounds=found.rounds + more)
    return found


def suggested_alpha(constants: Constants, nu: int) -> float:
    """Return α = 1/(νL), for which q^ν ≤ e: no constant then grows exponentially in ν."""
    return 1 / (max(nu, 1) * constants.L)


def _beta_of_one(terms: _Terms, rounds: Rounds) -> float:
    """Return the β with c = β τ L_F = 1."""
    if terms.smoothness == 0:
        raise InputError("L_F=0: fine-tuning solves every client from anywhere; take a smaller nu")
    return 1 / (rounds.tau * terms.smoothness)


def _largest_c(rounds: Rounds) -> float:
    """Return the c up to which the theorem holds, less what rounding in β τ L_F may add."""
    return (1 - 1e-12) * _last(lambda c: at_rounds(c, rounds) is not None, 1.0)


def _last(holds: Callable[[float], bool], top: float) -> float:
    """Return the largest x ≤ top that `holds`, as all smaller ones do, by bisection."""
    if holds(top):
        return top
    low = top
    while not holds(low):
        low /= 2
    high = 2 * low
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _minimiser(function: Callable[[float], float], low: float, high: float) -> float:
    """Return where a function with one minimum in [low, high] has it, on ever finer grids."""
    points, best = 200, low
    for _ in range(4):
        ratio = (high / low) ** (1 / points)
        best = min((low * ratio**i for i in range(points + 1)), key=function)
        low, high = max(low, best / ratio), min(high, best * ratio)
    return best


def _require_gap(gap: float) -> None:
    require(0 <= gap < math.inf, "gap", gap, "F(w_0) − inf F, 0 or more and finite")
