"""LG-FedAvg: body and head are trained at once; the head is sent, the body stays."""

from functools import partial

import pytest

from nufed.client_app.algorithm import local_update
from nufed.client_app.algorithms.lg_fedavg import LGFedAvg
from tests.client_app.algorithms.two_layers import (
    BODY,
    HEAD,
    KEYS,
    SIZES,
    TIGHT,
    Point,
    by_body,
    by_head,
    drawn,
    loss_fn,
    number,
    queries,
    support,
)

LG = LGFedAvg(**KEYS, batch=SIZES)


def test_two_rounds_of_two_steps() -> None:
    """In the second round the server's head meets the client's own body."""
    at, shared, state = Point(0.7, -1.1), {HEAD: number(-1.1)}, {BODY: number(0.7)}
    for round in (0, 1):
        rows, start = drawn(2, seed=10 + round), at
        given = local_update(LG, partial(LG.step, loss_fn), shared, state, queries(rows))
        for each in rows:
            at = Point(at.u - 0.2 * by_body(at, each), at.h - 0.2 * by_head(at, each))
        assert (given.update.keys(), given.state.keys()) == ({HEAD}, {BODY})
        assert float(given.update[HEAD]) == pytest.approx(start.h - at.h, abs=TIGHT)
        assert float(given.state[BODY]) == pytest.approx(at.u, abs=TIGHT)
        at, shared, state = Point(at.u, 0.9), {HEAD: number(0.9)}, given.state


def test_personal_models() -> None:
    model, rows = Point(0.7, -1.1).params, drawn(1, seed=3)
    shared, state = LG.shared(model), LG.state(model)
    assert (shared, state) == ({HEAD: model[HEAD]}, {BODY: model[BODY]})
    before, after = LG.personal(loss_fn, shared, state, support(rows))
    assert before == model
    at = Point(0.7, -1.1)
    assert float(after[BODY]) == pytest.approx(0.7 - 0.3 * by_body(at, rows[0]), abs=TIGHT)
    assert float(after[HEAD]) == pytest.approx(-1.1 - 0.3 * by_head(at, rows[0]), abs=TIGHT)
