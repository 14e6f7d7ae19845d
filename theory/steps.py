"""Step sizes for a first run, from the curvature of the clients' losses where training starts.

    α = min{1/(2L), 1/(2νl)},  β = 1/(2L),  where all spectra of ∇²f_i(w_0) lie in [−l, L]

A step of α ≤ 1/L overshoots no valley. Along negative curvature, fine-tuning grows a difference by
(1 + αl)^ν, which is at most e where α ≤ 1/(νl): nothing in the analysis is then exponential in ν,
and where fine-tuning contracts, F is no more curved than the f_i. Half of all that: L and l are
measured on a few clients, and L grows as training goes on.
"""

from typing import NamedTuple

from nufed.client_app.curvature import Curvature


class Steps(NamedTuple):
    """The inner step size α and the local one β."""

    alpha: float
    beta: float


def suggested_steps(curvature: Curvature, nu: int) -> Steps:
    """Return α and β, to two digits: what rounding does to L and l does not show."""
    beta = 1 / (2 * curvature.largest)
    alpha = min(beta, 1 / (2 * nu * curvature.negative)) if nu * curvature.negative else beta
    return Steps(float(f"{alpha:.1e}"), float(f"{beta:.1e}"))
