"""How far stochastic meta-gradients are from ∇F_i: bias and variance, by mode.

An estimate G_i of ∇F_i takes inner gradients on D rows, Hessians on D″ each, the outer gradient on
D′. Assumptions and notation are those of `nufed.theory.constants`; t is the stochastic inner
trajectory, and E_l bounds E‖t^l − θ^l‖².

**Lemma 2** (`inner_error`). E_l = (α² σ_G² / D) Σ_{j<l} q^{2j} where every inner step draws a
batch of its own, and (α² σ_G² / D) S_l² where all share one.

**Lemma 3** (`estimator`, mode exact). With h = α² σ_H² / D″ and r_l = √E_l,

    ‖E G_i − ∇F_i‖ ≤ b = q^ν L r_ν + p B,    p = α ρ q^{ν−1} Σ_{l<ν} r_l,
    E‖G_i − ∇F_i‖² ≤ [(q² + h)^ν − q^{2ν}] B² + (q² + h)^ν σ_G² / D′ + b².

Given t, the Hessian batches are independent, and each step from the right multiplies the mean
square by q² + h; the rest is Minkowski. Where every step draws a batch of its own, the mean error
‖E(t^l − θ^l)‖ ≤ m_l, m_{l+1} = q m_l + (α ρ / 2) E_l, is smaller than r_l, and the bias is also at
most

    p B + q^ν (L m_ν + ρ E_ν / 2) + p L r_ν,

of order 1/D for ν = 1, and 0 for quadratics.

**Lemma 3′** (`Method.shared`). Where the batch of an inner step serves for its Hessian too, as
plain automatic differentiation has it, t and Ã^l depend on each other. Let A2 and A3 hold for
each row's loss, so that every ‖Ã‖ ≤ q. In

    ∏ Ã^l g̃ − ∏ A^l g = Σ_l Ã^0 … Ã^{l−1} (Ã^l − A^l) A^{l+1} … A^{ν−1} g + Ã^0 … Ã^{ν−1} (g̃ − g)

the noise of Ã^l has mean zero given what is left of it, and what is right of it is fixed. So b is
as in Lemma 3; the refinement has (p + ν q^{ν−1} √h) L r_ν in place of p L r_ν; and

    E‖G_i − ∇F_i‖² ≤ (√(ν h) q^{ν−1} B + b)² + q^{2ν} σ_G² / D′.

With one batch for all steps the ν noises add up: ν √h q^{ν−1} B takes the place of √(ν h) …, and
is added to the bias as well.

**Lemma 5** (`estimator`, the other modes). First-order meta-gradients g_i(θ^ν) have the bias
‖(I − ∏ A^l) g‖ ≤ b_FO = B min{α L S_ν, 1 + q^ν}, to which L r_ν (or L m_ν + ρ E_ν / 2) comes, and
the variance σ_G² / D′ + L² E_ν. No batch size removes b_FO. Hessian-free ones add to the bias b

    b_HF = ½ α ρ δ (B² + σ_G² / D′) Σ_{l<ν} q^l (q² + h)^{ν−1−l}

(h = 0 where `shared`), as each central difference averages Hessians on θ ± δ v, and have the
variance of Lemma 3 with b + b_HF, both gradients of a difference being of the same batch.

Lemmas 3 and 5 are tight: f'' = −L with additive noise attains b_FO and the variance for every ν.
For ν = 1 and α ≤ 1/L, b ≤ 2 α L σ_G / √D has the form of Per-FedAvg's (Fallah et al. 2020).
"""

import math
from typing import NamedTuple

from nufed.theory.constants import Constants, Method, finite_growth, geometric_sum


class Estimator(NamedTuple):
    """How far the stochastic meta-gradient G is from ∇F_i, at most."""

    bias: float
    """‖E G − ∇F_i‖"""
    variance: float
    """E‖G − E G‖²"""


class InnerError(NamedTuple):
    """How far the stochastic inner trajectory is from the true one, for l = 0 … ν."""

    squared: list[float]
    """E_l ≥ E‖t^l − θ^l‖²"""
    mean: list[float]
    """m_l ≥ ‖E(t^l − θ^l)‖"""

    @property
    def root(self) -> list[float]:
        """r_l = √E_l."""
        return [math.sqrt(e) for e in self.squared]


def estimator(constants: Constants, method: Method) -> Estimator:
    """Return bias and variance of the stochastic meta-gradient (Lemmas 3, 3′ and 5)."""
    error = inner_error(constants, method)
    if method.mode == "first_order":
        bias = first_order_bias(constants, method) + _outer_bias(constants, error)
        noise = _noise(constants.sigma_G, method.query)
        return Estimator(bias, noise + constants.L**2 * error.squared[-1])
    extra = hessian_free_bias(constants, method) if method.mode == "hessian_free" else 0.0
    return Estimator(
        _bias(constants, method, error) + extra, _variance(constants, method, error, extra)
    )


def inner_error(constants: Constants, method: Method) -> InnerError:
    """Return how far inner noise leads the trajectory astray (Lemma 2)."""
    q, alpha = finite_growth(constants, method), method.alpha
    noise = alpha**2 * _noise(constants.sigma_G, method.support)
    squared, mean = [0.0], [0.0]
    for step in range(1, method.nu + 1):
        sums = geometric_sum(q, step) ** 2 if method.repeats else geometric_sum(q * q, step)
        bent = q * mean[-1] + alpha * constants.rho / 2 * squared[-1]
        squared.append(noise * sums)
        root = math.sqrt(squared[-1])
        mean.append(root if method.repeats else min(bent, root))
    return InnerError(squared, mean)


def first_order_bias(constants: Constants, method: Method) -> float:
    """Return b_FO ≥ ‖g_i(θ^ν) − ∇F_i(w)‖ (Lemma 5)."""
    q, nu = finite_growth(constants, method), method.nu
    dropped = method.alpha * constants.L * geometric_sum(q, nu)
    return float(constants.B * min(dropped, 1 + q**nu)) if nu else 0.0


def hessian_free_bias(constants: Constants, method: Method) -> float:
    """Return b_HF, what central differences of step δ‖v‖ add to the bias (Lemma 5)."""
    q, nu = finite_growth(constants, method), method.nu
    grown = q * q + (0.0 if method.shared else _hessian_noise(constants, method))
    length = constants.B**2 + _noise(constants.sigma_G, method.query)  # E‖v‖² at first
    steps = sum(q**step * grown ** (nu - 1 - step) for step in range(nu))
    return float(method.alpha * constants.rho * method.delta / 2 * length * steps)


def _bias(constants: Constants, method: Method, error: InnerError) -> float:
    """Return b of the exact mode: the smaller of the two bounds of Lemma 3, or of Lemma 3′."""
    q, nu, root = finite_growth(constants, method), method.nu, error.root
    product = _product_error(constants, method, error)
    h = _hessian_noise(constants, method) if method.shared else 0.0
    noise = nu * q ** max(nu - 1, 0) * math.sqrt(h)
    refined = (
        product * constants.B
        + q**nu * _outer_bias(constants, error)
        + (product + noise) * constants.L * root[-1]
    )
    bias = min(_crude_bias(constants, method, error), refined)
    return bias + noise * constants.B if method.repeats else bias


def _crude_bias(constants: Constants, method: Method, error: InnerError) -> float:
    """Return q^ν L r_ν + p B of Lemma 3."""
    outer = finite_growth(constants, method) ** method.nu * constants.L * error.root[-1]
    return float(outer + _product_error(constants, method, error) * constants.B)


def _variance(constants: Constants, method: Method, error: InnerError, extra: float) -> float:
    """Return the bound on E‖G − ∇F_i‖² of Lemma 3 or 3′, `extra` being b_HF.

    (q² + h)^ν − q^{2ν} is taken as h Σ (q² + h)^l q^{2(ν−1−l)}, which a small h does not cancel.
    """
    q, nu, B = finite_growth(constants, method), method.nu, constants.B
    h, outer = _hessian_noise(constants, method), _noise(constants.sigma_G, method.query)
    bias = _crude_bias(constants, method, error) + extra
    if not method.shared:
        grown = q * q + h
        gained = h * sum(grown**step * q ** (2 * (nu - 1 - step)) for step in range(nu))
        return float(gained * B**2 + grown**nu * outer + bias**2)
    times = nu * nu if method.repeats else nu
    hessians = math.sqrt(times * h) * q ** max(nu - 1, 0) * B
    return float((hessians + bias) ** 2 + q ** (2 * nu) * outer)


def _product_error(constants: Constants, method: Method, error: InnerError) -> float:
    """Return p, which bounds the root mean square of ‖∏ A(t^l) − ∏ A(θ^l)‖."""
    q, nu = finite_growth(constants, method), method.nu
    return method.alpha * constants.rho * q ** max(nu - 1, 0) * sum(error.root[:nu])


def _outer_bias(constants: Constants, error: InnerError) -> float:
    """Return the bound on ‖E g_i(t^ν) − g_i(θ^ν)‖: L r_ν, or L m_ν + ρ E_ν / 2 if that is less."""
    bent = constants.L * error.mean[-1] + constants.rho / 2 * error.squared[-1]
    return min(constants.L * error.root[-1], bent)


def _hessian_noise(constants: Constants, method: Method) -> float:
    """Return h = α² σ_H² / D″."""
    rows = method.support if method.shared else method.hessian
    return method.alpha**2 * _noise(constants.sigma_H, rows)


def _noise(sigma: float, rows: int | None) -> float:
    """Return σ² / D, the variance of a batch; 0 for all rows."""
    return 0.0 if rows is None else sigma**2 / rows
