"""Closed forms on quadratic clients: the oracles that the algorithm is checked against.

For f_i(w) = ½ (w − c_i)ᵀ H_i (w − c_i) and M_i = I − α H_i,

    θ_i^ν(w)  = c_i + M_i^ν (w − c_i)
    F_i(w)    = ½ (w − c_i)ᵀ M_i^ν H_i M_i^ν (w − c_i)
    ∇F_i(w)   = M_i^{2ν} H_i (w − c_i)

Shapes: `hessians` [n, d, d], `optima` [n, d], `w` [d]; or [d, d], [d], [d] for one client.
"""

import numpy as np
from numpy.linalg import matrix_power, solve
from numpy.typing import NDArray

Array = NDArray[np.float64]


def contraction(hessians: Array, alpha: float) -> Array:
    """Return M = I − α H, one fine-tuning step's effect on w − c."""
    return np.eye(hessians.shape[-1]) - alpha * hessians


def fine_tuned(hessian: Array, optimum: Array, w: Array, alpha: float, nu: int) -> Array:
    """Return θ^ν(w) = c + M^ν (w − c)."""
    return optimum + matrix_power(contraction(hessian, alpha), nu) @ (w - optimum)


def meta_loss(hessian: Array, optimum: Array, w: Array, alpha: float, nu: int) -> float:
    """Return F_i(w) = f_i(θ^ν(w))."""
    left = fine_tuned(hessian, optimum, w, alpha, nu) - optimum
    return float(left @ hessian @ left / 2)


def meta_gradient(hessian: Array, optimum: Array, w: Array, alpha: float, nu: int) -> Array:
    """Return ∇F_i(w) = M^{2ν} H (w − c)."""
    return matrix_power(contraction(hessian, alpha), 2 * nu) @ hessian @ (w - optimum)


def first_order(hessian: Array, optimum: Array, w: Array, alpha: float, nu: int) -> Array:
    """Return ∇f_i(θ^ν) = M^ν H (w − c), the meta-gradient with its Hessians dropped."""
    return matrix_power(contraction(hessian, alpha), nu) @ hessian @ (w - optimum)


def optimum_exact(hessians: Array, optima: Array, alpha: float, nu: int) -> Array:
    """Return w*(ν), the minimiser of F = (1/n) Σ F_i: the zero of Σ M_i^{2ν} H_i (w − c_i)."""
    return _weighted(matrix_power(contraction(hessians, alpha), 2 * nu) @ hessians, optima)


def optimum_first_order(hessians: Array, optima: Array, alpha: float, nu: int) -> Array:
    """Return w_FO(ν), where first-order steps stand still: the zero of Σ M_i^ν H_i (w − c_i)."""
    return _weighted(matrix_power(contraction(hessians, alpha), nu) @ hessians, optima)


def fixed_point_exact(
    hessians: Array, optima: Array, alpha: float, nu: int, beta: float, tau: int
) -> Array:
    """Return w_fed, where noiseless rounds of τ exact local steps with all clients stand still.

    The zero of Σ (I − N_i^τ)(w − c_i), N_i = I − β M_i^{2ν} H_i, which tends to w*(ν) as O(β).
    """
    curvatures = matrix_power(contraction(hessians, alpha), 2 * nu) @ hessians
    return _standstill(curvatures, optima, beta, tau)


def fixed_point_first_order(
    hessians: Array, optima: Array, alpha: float, nu: int, beta: float, tau: int
) -> Array:
    """Return that of first-order steps, N_i = I − β M_i^ν H_i, which tends to w_FO(ν)."""
    curvatures = matrix_power(contraction(hessians, alpha), nu) @ hessians
    return _standstill(curvatures, optima, beta, tau)


def _standstill(curvatures: Array, optima: Array, beta: float, tau: int) -> Array:
    """Return the zero of Σ (I − N_i^τ)(w − c_i), N_i = I − β C_i for `curvatures` C_i."""
    local = matrix_power(contraction(curvatures, beta), tau)
    return _weighted(np.eye(curvatures.shape[-1]) - local, optima)


def _weighted(weights: Array, optima: Array) -> Array:
    """Return (Σ W_i)⁻¹ Σ W_i c_i."""
    return solve(weights.sum(0), np.einsum("nij,nj->i", weights, optima))
