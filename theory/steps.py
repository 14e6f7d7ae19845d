"""Step sizes for a first run, from the curvature of the clients' losses where training starts.

    α = min{1/L, 1/(νl)},  and 1/(2L) where training looks ahead to no step
    β = 1/L_F,  L_F = max_{0 ≤ λ ≤ L} λ (1 − αλ/4)^c

where all spectra of ∇²f_i(w_0) lie in [−l, L], and c is how often what local steps descend along
has passed a fine-tuning step: 2ν for exact meta-gradients, ν for first-order ones, 0 where training
does not look ahead.

A step of α ≤ 1/L overshoots no valley. Along negative curvature, fine-tuning grows a difference by
(1 + αl)^ν, which is at most e: nothing in the analysis is then exponential in ν. Where the f_i are
quadratic with one Hessian, ∇²F = ∇²f (I − α∇²f)^{2ν}: fine-tuning flattens the valleys, and F
allows steps far longer than 1/L. On real losses each step sees other rows, and meets a valley that
is turned and bent, so a quarter of that α is counted on. The quarter was chosen by validation rows
of five federations, and is measured on other draws of them in docs/results.md. That L and l are of
a few clients and of the first model alone is what updates are clipped for, see
`nufed.strategies.usual`.
"""

from typing import NamedTuple

from nufed.client_app.curvature import Curvature

COUNTED = 1 / 4
"""The part of α whose flattening of the valleys is counted on."""


class Steps(NamedTuple):
    """The inner step size α and the local one β."""

    alpha: float
    beta: float


def suggested_steps(curvature: Curvature, nu: int, flattened: int) -> Steps:
    """Return α and β, to two digits: what rounding does to L and l does not show.

    Parameters
    ----------
    nu
        Fine-tuning steps ν that training looks ahead to.
    flattened
        c, the factors (I − α∇²f) of the curvature that local steps meet.
    """
    alpha = 1 / ((1 if nu else 2) * curvature.largest)
    if nu * curvature.negative:
        alpha = min(alpha, 1 / (nu * curvature.negative))
    beta = 1 / steepest(curvature.largest, COUNTED * alpha, flattened)
    return Steps(float(f"{alpha:.1e}"), float(f"{beta:.1e}"))


def steepest(largest: float, alpha: float, power: int) -> float:
    """Return max λ (1 − αλ)^c over 0 ≤ λ ≤ L, for αL ≤ 1: λ rises to 1/((1 + c)α)."""
    at = min(largest, 1 / ((1 + power) * alpha))
    return float(at * (1 - alpha * at) ** power)
