"""Step sizes from curvature."""

import numpy as np

from nufed.client_app.curvature import Curvature
from nufed.theory.steps import suggested_steps


def test_steps_keep_to_valleys_and_to_negative_curvature() -> None:
    assert suggested_steps(Curvature(2.0, 0.0), nu=5) == (0.25, 0.25)
    assert suggested_steps(Curvature(2.0, 1.0), nu=5) == (0.1, 0.25)
    assert suggested_steps(Curvature(2.0, 1.0), nu=0) == (0.25, 0.25)
    for nu in (1, 5, 100):
        alpha, beta = suggested_steps(Curvature(3.0, 2.0), nu)
        assert (1 + 2.0 * alpha) ** nu < np.e
        assert max(alpha, beta) <= 1 / 3.0
