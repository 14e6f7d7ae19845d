"""ANIL: the gradient of the loss after steps of the head alone, by hand with second derivatives."""

from functools import partial

import pytest

from nufed.client_app.algorithm import local_update
from nufed.client_app.algorithms.anil import ANIL
from nufed.conf.errors import InputError
from tests.client_app.algorithms.two_layers import (
    BODY,
    HEAD,
    KEYS,
    SIZES,
    TIGHT,
    Point,
    anil,
    batch,
    by_body,
    by_head,
    drawn,
    loss_fn,
    support,
)


@pytest.mark.parametrize("mode", ["exact", "first_order"])
@pytest.mark.parametrize("nu", [1, 3])
def test_a_round_of_two_steps(nu: int, mode: str) -> None:
    algorithm = ANIL(**KEYS, batch=SIZES, nu=nu, mode=mode)
    start = at = Point(0.7, -1.1)
    steps = [(drawn(nu, seed=step), drawn(1, seed=70 + step)[0]) for step in range(2)]
    given = local_update(
        algorithm,
        partial(algorithm.step, loss_fn),
        at.params,
        {},
        [{"support": support(inner), "query": batch(outer)} for inner, outer in steps],
    )
    for step, (inner, outer) in enumerate(steps):
        slope = anil(at, inner, outer, 0.3)[mode != "exact"]
        norm = (slope.u**2 + slope.h**2) ** 0.5
        assert float(given.norm[step]) == pytest.approx(norm, abs=TIGHT)
        at = Point(at.u - 0.2 * slope.u, at.h - 0.2 * slope.h)
    assert float(given.update[BODY]) == pytest.approx(start.u - at.u, abs=TIGHT)
    assert float(given.update[HEAD]) == pytest.approx(start.h - at.h, abs=TIGHT)
    assert given.state == {}


def test_the_head_s_step_is_felt_by_the_body() -> None:
    """∂h'/∂u ≠ 0: what freezes the body inside does not freeze its second derivatives."""
    inner, outer = drawn(1, seed=4), drawn(1, seed=5)[0]
    exact, first = anil(Point(0.7, -1.1), inner, outer, 0.3)
    assert abs(exact.u - first.u) > 0.01
    moved = Point(0.7, -1.1 - 0.3 * by_head(Point(0.7, -1.1), inner[0]))
    assert first.u == by_body(moved, outer)


def test_fine_tuning_moves_the_head_alone() -> None:
    at, rows = Point(0.7, -1.1), drawn(2, seed=3)
    algorithm = ANIL(**KEYS, batch=SIZES, nu=1)
    for k, model in enumerate(algorithm.personal(loss_fn, at.params, {}, support(rows))):
        assert (float(model[BODY]), float(model[HEAD])) == pytest.approx(at, abs=TIGHT)
        at = Point(at.u, at.h - 0.3 * by_head(at, rows[min(k, 1)]))
    assert k == 2


def test_what_it_costs_and_refuses() -> None:
    costs = [ANIL(**KEYS, batch=SIZES, nu=5, mode=mode) for mode in ("exact", "first_order")]
    assert [(each.gradients, each.needs_hessians) for each in costs] == [(16, True), (6, False)]
    with pytest.raises(InputError, match=r"algorithm\.mode=maml.*exact \| first_order"):
        ANIL(**KEYS, batch=SIZES, nu=1, mode="maml")
    with pytest.raises(InputError, match=r"algorithm\.nu=0"):
        ANIL(**KEYS, batch=SIZES, nu=0)
