"""Constants of the ν-step meta-objective F = (1/n) Σ F_i, from those of the clients' losses f_i.

With g_i = ∇f_i, H_i = ∇²f_i and the inner trajectory θ_i^0 = w, θ_i^{l+1} = θ_i^l − α g_i(θ_i^l),

    F_i(w) = f_i(θ_i^ν),   ∇F_i(w) = A_i^0 A_i^1 … A_i^{ν−1} g_i(θ_i^ν),   A_i^l = I − α H_i(θ_i^l).

**Assumptions**, wherever the models go, for every client i and every vector v:

    A1  f_i is bounded below.
    A2  ‖H_i‖ ≤ L and ‖g_i‖ ≤ B.
    A3  H_i is ρ-Lipschitz.
    A4  For one row: E‖g̃ − g_i‖² ≤ σ_G² and E‖(H̃ − H_i) v‖² ≤ σ_H² ‖v‖².
    A5  Over clients: (1/n) Σ ‖g_i − ḡ‖² ≤ γ_G² and (1/n) Σ ‖(H_i − H̄) v‖² ≤ γ_H² ‖v‖².

A4 and A5 ask less of the Hessians than their norms, spectral or Frobenius, would: σ_H² is the
largest eigenvalue of E(H̃ − H_i)², whatever the dimension. Rows are drawn as one likes that makes
a batch of D unbiased with 1/D of the variance; without replacement it is less.

**Notation.** q is `growth`, the largest factor ‖I − α H_i‖ of one fine-tuning step;
S_m = Σ_{j<m} q^j. Lemmas 2, 3 and 5 are about estimates of ∇F_i: `nufed.theory.estimator`.

**Lemma 1** (`smoothness`). ‖∇F_i‖ ≤ q^ν B, since each of the ν factors is at most q. F_i has an
L_F-Lipschitz gradient,

    L_F = min{ L q^{2ν},  Λ + α² ρ L B ν (ν + 1) q^{2ν−1} } + α ρ B q^{ν−1} S_ν,
    Λ = max |λ| |1 − α λ|^{2ν} over the eigenvalues λ that a Hessian may have.

θ^l is q^l-Lipschitz in w, hence A^l is α ρ q^l-Lipschitz, which gives the last term; the first is
‖J^T H(θ^ν) J‖ with J = ∏ A^l. There every A^l may be replaced by the I − α H(θ^ν) that commutes
with H(θ^ν), at the price of α ‖H(θ^l) − H(θ^ν)‖ ≤ α² ρ B (ν − l) each. For quadratics L_F = Λ
exactly; for convex ones with ν ≥ 1 and α ≤ 4/(3L), Λ ≤ (2ν / (2ν+1))^{2ν} / (α (2ν+1)), which
falls as ν rises.

**Lemma 4** (`heterogeneity`). (1/n) Σ ‖∇F_i − ∇F‖² ≤ γ_F²,

    γ_F = q^ν (1 + α L S_ν) γ_G + α B q^{ν−1} (ν γ_H + α ρ γ_G Σ_{l<ν} S_l).

The mean of the ∇F_i is nearer to them than any other point; take the meta-gradient of f̄ along
its own trajectory, from which that of client i is α γ_G S_l away in mean square. Nor is γ_F above
q^ν B.

Lemmas 1 and 4 are tight: f'' = −L attains L_F and γ_F for every ν. The exponential q^{2ν} is
therefore there unless curvature is known (`negative`) or α is about 1/(νL), when q^ν ≤ e. ν = 1
with α ≤ 1/L has the form of Per-FedAvg's constants (Fallah et al. 2020): L_F ≤ 4 L + α ρ B and
γ_F ≤ 4 γ_G + α B γ_H.
"""

import math
from dataclasses import dataclass

from nufed.client_app.algorithms.meta_gradient import MetaGradient
from nufed.client_app.meta_gradient import MODES
from nufed.conf.errors import InputError
from nufed.conf.schema import require

LARGEST = 250.0
"""Decimal digits of q^{4ν}, the largest power that a bound contains, which floats can hold."""


@dataclass(frozen=True)
class Constants:
    """What is known of the clients' losses f_i: A2 to A5 of this module."""

    L: float
    """‖H_i‖ at most."""
    rho: float
    """Lipschitz constant of the H_i; 0 for quadratics."""
    B: float
    """‖g_i‖ at most."""
    sigma_G: float = 0.0
    """Standard deviation of the gradient of one row."""
    sigma_H: float = 0.0
    """Standard deviation of the Hessian of one row, times a unit vector."""
    gamma_G: float = 0.0
    """Standard deviation of the gradients over clients."""
    gamma_H: float = 0.0
    """Standard deviation of the Hessians over clients, times a unit vector."""
    negative: float | None = None
    """The Hessians' eigenvalues are at least −`negative`: 0 if all f_i are convex, below 0 if
    strongly so. None: no more is known than L."""

    def __post_init__(self) -> None:
        require(0 < self.L < math.inf, "constants.L", self.L, "above 0 and finite")
        for name in ("rho", "B", "sigma_G", "sigma_H", "gamma_G", "gamma_H"):
            value = getattr(self, name)
            require(0 <= value < math.inf, f"constants.{name}", value, "0 or more, finite")
        low = self.negative
        require(
            low is None or -self.L <= low <= self.L,
            "constants.negative",
            low,
            f"between −L and L={self.L:g}, or None",
        )

    @property
    def lowest(self) -> float:
        """The lowest eigenvalue that a Hessian may have."""
        return -self.L if self.negative is None else -self.negative


@dataclass(frozen=True)
class Method:
    """How the meta-gradient is estimated."""

    alpha: float
    nu: int
    mode: str = "exact"
    delta: float = 1e-3
    """Step δ of mode hessian_free."""
    support: int | None = None
    """D, rows of an inner gradient. None, here and below: all rows, and no noise."""
    query: int | None = None
    """D′, rows of the outer gradient."""
    hessian: int | None = None
    """D″, rows of each Hessian, drawn independently of all others."""
    fresh: bool = True
    """Whether each inner step has a batch of its own; if not, one serves for all ν."""
    shared: bool = False
    """Whether the batch of an inner step is that of its Hessian too; `hessian` is then not used.
    L, `negative` and rho must then hold for each row's loss, as they must where not `fresh`."""

    def __post_init__(self) -> None:
        require(0 < self.alpha < math.inf, "alpha", self.alpha, "above 0 and finite")
        require(self.nu >= 0, "nu", self.nu, "0 or more")
        require(self.mode in MODES, "mode", self.mode, " | ".join(MODES))
        require(0 < self.delta < math.inf, "delta", self.delta, "above 0 and finite")
        for name in ("support", "query", "hessian"):
            rows = getattr(self, name)
            require(rows is None or rows >= 1, name, rows, "at least 1, or None for all rows")

    @property
    def repeats(self) -> bool:
        """Whether a batch serves for several inner steps."""
        return not self.fresh and self.nu > 1

    @classmethod
    def of(cls, algorithm: MetaGradient) -> "Method":
        """Return the method that a configuration asks for.

        Without Hessian batches (algorithm.batch.hessian=null) the support batches serve for the
        Hessians, which is Lemma 3′: `shared`. First order and ν = 0 have no Hessians to share.
        """
        batch = algorithm.batch
        has_hessians = algorithm.nu > 0 and algorithm.mode != "first_order"
        return cls(
            alpha=algorithm.alpha,
            nu=algorithm.nu,
            mode=algorithm.mode,
            delta=algorithm.delta,
            support=batch.support,
            query=batch.query,
            hessian=batch.hessian,
            shared=has_hessians and batch.hessian is None,
        )


def growth(constants: Constants, alpha: float) -> float:
    """Return q ≥ ‖I − α H_i‖: 1 + α L, or less where the lowest eigenvalue is known.

    1 for convex losses and α ≤ 2/L, 1 − α μ for μ-strongly convex ones and α ≤ 2/(L + μ).
    """
    return max(abs(1 - alpha * constants.lowest), abs(1 - alpha * constants.L))


def gradient_bound(constants: Constants, method: Method) -> float:
    """Return q^ν B ≥ ‖∇F_i‖ (Lemma 1)."""
    return float(finite_growth(constants, method) ** method.nu * constants.B)


def smoothness(constants: Constants, method: Method) -> float:
    """Return L_F(ν), the Lipschitz constant of ∇F (Lemma 1). ν = 0: L."""
    q, alpha, nu = finite_growth(constants, method), method.alpha, method.nu
    slack = constants.rho * constants.B
    curvature = min(
        constants.L * q ** (2 * nu),
        _commuting(constants, alpha, nu)
        + alpha**2 * slack * constants.L * nu * (nu + 1) * q ** max(2 * nu - 1, 0),
    )
    return curvature + alpha * slack * q ** max(nu - 1, 0) * geometric_sum(q, nu)


def _commuting(constants: Constants, alpha: float, nu: int) -> float:
    """Return Λ = max |λ| |1 − α λ|^{2ν} over λ in [lowest, L]: L_F of quadratics."""
    peak = 1 / (alpha * (2 * nu + 1))  # where the derivative by λ is 0
    inside = [peak] if constants.lowest < peak < constants.L else []
    ends = [constants.lowest, constants.L]
    return max(abs(x) * abs(1 - alpha * x) ** (2 * nu) for x in ends + inside)


def heterogeneity(constants: Constants, method: Method) -> float:
    """Return γ_F: (1/n) Σ ‖∇F_i − ∇F‖² ≤ γ_F² (Lemma 4). ν = 0: γ_G."""
    q, alpha, nu = finite_growth(constants, method), method.alpha, method.nu
    gradients = q**nu * (1 + alpha * constants.L * geometric_sum(q, nu)) * constants.gamma_G
    drift = alpha * constants.rho * constants.gamma_G * sum(geometric_sum(q, m) for m in range(nu))
    hessians = nu * constants.gamma_H + drift
    spread = gradients + alpha * constants.B * q ** max(nu - 1, 0) * hessians
    return float(min(spread, gradient_bound(constants, method)))


def finite_growth(constants: Constants, method: Method) -> float:
    """Return q, with powers that a float can hold.

    Raises
    ------
    InputError
        If α is so large that they cannot.
    """
    q = growth(constants, method.alpha)
    if q > 1 and 4 * method.nu * math.log10(q) > LARGEST:
        remedy = 1 / (method.nu * constants.L)
        raise InputError(
            f"algorithm.alpha={method.alpha:g}: {method.nu} steps may grow by {q:g} each, and no "
            f"bound is left of that; say algorithm.alpha={remedy:.2g}, which is 1/(νL)"
        )
    return q


def geometric_sum(x: float, terms: int) -> float:
    """Return S = Σ_{j<terms} x^j."""
    total = 0.0
    for _ in range(terms):
        total = 1 + x * total
    return total
