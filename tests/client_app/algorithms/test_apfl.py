"""APFL: a mixture of the shared model and one of the client's own, step by step by hand."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from numpy.linalg import matrix_power

from nufed.client_app.algorithm import BatchSizes
from nufed.client_app.algorithms.apfl import APFL, inner, mixture
from nufed.conf.errors import InputError
from tests.client_app.algorithms.quadratic import (
    ALPHA,
    BETA,
    DIMENSION,
    TIGHT,
    Array,
    Quadratic,
    curve_of,
    off,
    params,
    point,
    quadratics,
    train_on,
)

MIXING, TAU = 0.3, 3


def apfl(mixing: float = MIXING, tau: int = TAU, adaptive: bool = True) -> APFL:
    batch = BatchSizes(support=None, query=None)
    return APFL(
        name="apfl",
        alpha=ALPHA,
        beta=BETA,
        tau=tau,
        batch=batch,
        mixing=mixing,
        adaptive=adaptive,
    )


class Point(NamedTuple):
    w: Array
    v: Array
    a: float

    @property
    def mixed(self) -> Array:
        return self.a * self.v + (1 - self.a) * self.w

    def after(self, client: Quadratic, steps: int, adaptive: bool = True) -> "Point":
        """Return where the paper's steps lead, each from the values before it."""
        if steps == 0:
            return self
        slope = client.gradient(self.mixed)
        a = self.a - BETA * float((self.v - self.w) @ slope) if adaptive else self.a
        w = self.w - BETA * client.gradient(self.w)
        v = self.v - BETA * self.a * slope
        return Point(w, v, min(max(a, 0.0), 1.0)).after(client, steps - 1, adaptive)


@pytest.mark.parametrize("adaptive", [True, False])
def test_a_step(adaptive: bool) -> None:
    (client,) = quadratics()
    start = Point(point(0), point(1), MIXING)
    state = params(**{"v/w": start.v, "mixing": start.a})
    done = train_on(client, apfl(tau=1, adaptive=adaptive), params(w=start.w), state)
    end = start.after(client, 1, adaptive)
    assert off(done.update, w=start.w - end.w) < TIGHT
    assert off(done.state, **{"v/w": end.v, "mixing": end.a}) < TIGHT
    assert (end.a != start.a) == adaptive
    assert float(done.loss) == pytest.approx(client.loss(start.w), abs=TIGHT)
    assert float(done.metrics["mixed_loss"]) == pytest.approx(client.loss(start.mixed), abs=TIGHT)
    assert float(done.metrics["mixing"]) == pytest.approx(start.a, abs=TIGHT)


def test_two_rounds() -> None:
    """v and its weight go on from where they were, w from the server's."""
    (client,) = quadratics()
    w, other, algorithm = point(0), point(2), apfl()
    fresh = algorithm.state(params(w=w))
    assert off(fresh, **{"v/w": w, "mixing": MIXING}) == 0
    first = train_on(client, algorithm, params(w=w), fresh)
    then = Point(w, w, MIXING).after(client, TAU)
    assert off(first.state, **{"v/w": then.v, "mixing": then.a}) < TIGHT
    second = train_on(client, algorithm, params(w=other), first.state)
    end = then._replace(w=other).after(client, TAU)
    assert off(second.update, w=other - end.w) < TIGHT
    assert off(second.state, **{"v/w": end.v, "mixing": end.a}) < TIGHT


@pytest.mark.parametrize(("a", "kept"), [(0.0, 1.0), (1.0, 0.0)])
def test_its_ends_are_the_shared_model_and_training_alone(a: float, kept: float) -> None:
    """With a = 0 its own model stays where it is, with a = 1 it descends f by itself."""
    (client,) = quadratics()
    w, v = point(0), point(1)
    state = params(**{"v/w": v, "mixing": a})
    done = train_on(client, apfl(a, adaptive=False), params(w=w), state)
    alone = matrix_power(np.eye(DIMENSION) - BETA * client.hessian, TAU) @ (v - client.optimum)
    expected = kept * v + (1 - kept) * (client.optimum + alone)
    assert off(done.state, **{"v/w": expected, "mixing": a}) < TIGHT


def test_the_weight_goes_to_the_better_model_and_stays_within_its_range() -> None:
    """Where its own model is at the optimum, a rises to 1; where the shared one is, it falls to 0.

    Far off, so that a step without bounds would leave them.
    """
    (client,) = quadratics()
    best, off_by = client.optimum, client.optimum + 30.0
    own = train_on(client, apfl(tau=1), params(w=off_by), params(**{"v/w": best, "mixing": 0.5}))
    shared = train_on(client, apfl(tau=1), params(w=best), params(**{"v/w": off_by, "mixing": 0.5}))
    assert float(own.state["mixing"]) == 1.0
    assert float(shared.state["mixing"]) == 0.0


def test_fine_tuning_goes_on_from_the_mixture() -> None:
    (client,) = quadratics()
    w, v = point(0), point(1)
    state = params(**{"v/w": v, "mixing": MIXING})
    mixed = MIXING * v + (1 - MIXING) * w
    for k, model in enumerate(curve_of(client, apfl(), params(w=w), state, 3)):
        factor = matrix_power(np.eye(DIMENSION) - ALPHA * client.hessian, k)
        assert np.abs(model - client.optimum - factor @ (mixed - client.optimum)).max() < TIGHT


def test_a_stack_has_a_weight_for_each_client() -> None:
    """Leaves of several axes, beside weights [K]."""
    random = torch.Generator().manual_seed(0)
    v, w = (torch.rand(2, 3, 4, generator=random, dtype=torch.float64) for _ in range(2))
    a = torch.tensor([0.2, 0.9], dtype=torch.float64)
    mixed = mixture({"w": v}, {"w": w}, a)["w"]
    products = inner({"w": v, "more": w}, {"w": w, "more": w}, axes=1)
    for i in range(2):
        assert (mixed[i] - (a[i] * v[i] + (1 - a[i]) * w[i])).abs().max() < TIGHT
        expected = float((v[i] * w[i]).sum() + (w[i] * w[i]).sum())
        assert float(products[i]) == pytest.approx(expected, abs=TIGHT)


def test_a_weight_beyond_its_range_is_refused() -> None:
    with pytest.raises(InputError, match=r"algorithm\.mixing=1\.5: must be from 0 to 1"):
        apfl(1.5)
