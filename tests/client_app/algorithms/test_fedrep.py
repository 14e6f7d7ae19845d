"""FedRep: `head_steps` steps of the head on the old body, then one of the body on the new head."""

from functools import partial

import pytest
import torch

from nufed.client_app.algorithm import local_update
from nufed.client_app.algorithms.fedrep import FedRep
from nufed.conf.errors import InputError
from tests.client_app.algorithms.two_layers import (
    BODY,
    HEAD,
    KEYS,
    SIZES,
    TIGHT,
    Point,
    batch,
    by_body,
    by_head,
    drawn,
    loss_fn,
    number,
    support,
    value,
)


def fedrep(**changes: int) -> FedRep:
    return FedRep(**{**KEYS, "head_steps": 3, **changes}, batch=SIZES)


@pytest.mark.parametrize("tau", [1, 2])
def test_two_rounds(tau: int) -> None:
    """tau=1 is Algorithm 1: h by three steps, each on its own batch, then u by one."""
    algorithm = fedrep(tau=tau)
    at, state = Point(0.7, -1.1), {HEAD: number(-1.1)}
    for round in (0, 1):
        start = at
        steps = [(drawn(3, seed=round + step), drawn(1, seed=50 + step)[0]) for step in range(tau)]
        given = local_update(
            algorithm,
            partial(algorithm.step, loss_fn),
            {BODY: number(at.u)},
            state,
            [{"support": support(of_head), "query": batch(of_body)} for of_head, of_body in steps],
        )
        for step, (of_head, of_body) in enumerate(steps):
            for rows in of_head:
                at = Point(at.u, at.h - 0.2 * by_head(at, rows))
            assert float(given.loss[step]) == pytest.approx(value(at, of_body), abs=TIGHT)
            slope = by_body(at, of_body)
            assert float(given.norm[step]) == pytest.approx(abs(slope), abs=TIGHT)
            at = Point(at.u - 0.2 * slope, at.h)
        assert (given.update.keys(), given.state.keys()) == ({BODY}, {HEAD})
        assert float(given.update[BODY]) == pytest.approx(start.u - at.u, abs=TIGHT)
        assert float(given.state[HEAD]) == pytest.approx(at.h, abs=TIGHT)
        at, state = Point(0.4, at.h), given.state


def test_fine_tuning_moves_the_head_alone() -> None:
    at, rows = Point(0.7, -1.1), drawn(2, seed=3)
    models = fedrep().personal(loss_fn, {BODY: number(0.7)}, {HEAD: number(-1.1)}, support(rows))
    for k, model in enumerate(models):
        assert (float(model[BODY]), float(model[HEAD])) == pytest.approx(at, abs=TIGHT)
        at = Point(at.u, at.h - 0.3 * by_head(at, rows[min(k, 1)]))
    assert k == 2


def test_a_body_step_begins_from_a_head_that_has_settled() -> None:
    """The point of the method: with many head steps u descends min_h f(u, h), whose slope is 0 in
    this model, where any u ≠ 0 does as well; one head step, or the body first, leaves a slope."""
    (rows,), many = drawn(1, seed=8), 400
    algorithm = fedrep(tau=1, head_steps=many)
    batches = {"support": support([rows] * many), "query": batch(rows)}
    carry = algorithm.begin({BODY: number(0.9)}, {HEAD: number(2.0)})
    with torch.no_grad():
        assert float(algorithm.step(loss_fn, carry, batches).norm) < 1e-8
    assert abs(by_body(Point(0.9, 2.0), rows)) > 0.1


def test_what_it_costs_and_refuses() -> None:
    assert fedrep().gradients == 4
    assert {name: of.shape for name, of in fedrep().draws().items()} == {
        "support": (3,),
        "query": (),
    }
    with pytest.raises(InputError, match=r"algorithm\.head_steps=0"):
        fedrep(head_steps=0)
