"""FedPer: body and head are trained at once; the body is sent, the head stays."""

from functools import partial

import pytest

from nufed.client_app.algorithm import algorithm_of, local_update
from nufed.client_app.algorithms.fedper import FedPer
from nufed.conf.errors import InputError
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
    value,
)

FEDPER = FedPer(**KEYS, batch=SIZES)


def test_two_rounds_of_two_steps() -> None:
    """(u, h) ← (u, h) − β ∇f; in the second round the server's body meets the client's own head."""
    at, shared, state = Point(0.7, -1.1), {BODY: number(0.7)}, {HEAD: number(-1.1)}
    for round in (0, 1):
        rows, start = drawn(2, seed=round), at
        given = local_update(FEDPER, partial(FEDPER.step, loss_fn), shared, state, queries(rows))
        for step, each in enumerate(rows):
            assert float(given.loss[step]) == pytest.approx(value(at, each), abs=TIGHT)
            at = Point(at.u - 0.2 * by_body(at, each), at.h - 0.2 * by_head(at, each))
        assert given.update.keys() == {BODY}
        assert given.state.keys() == {HEAD}
        assert float(given.update[BODY]) == pytest.approx(start.u - at.u, abs=TIGHT)
        assert float(given.state[HEAD]) == pytest.approx(at.h, abs=TIGHT)
        at, shared, state = Point(0.4, at.h), {BODY: number(0.4)}, given.state


def test_what_is_shared_and_what_stays_are_the_model() -> None:
    model = Point(0.7, -1.1).params
    assert FEDPER.shared(model) == {BODY: model[BODY]}
    assert FEDPER.state(model) == {HEAD: model[HEAD]}
    assert FEDPER.model(FEDPER.shared(model), FEDPER.state(model)) == model


def test_a_head_that_is_named() -> None:
    model = Point(0.7, -1.1).params
    named = FedPer(**KEYS, batch=SIZES, head="body")
    assert named.shared(model).keys() == {HEAD}
    with pytest.raises(InputError, match=r"algorithm\.head=neck: .*one of body, head"):
        FedPer(**KEYS, batch=SIZES, head="neck").shared(model)


def test_a_head_whose_name_is_a_number() -> None:
    """As in a sequence of layers, of which most models are made."""
    given = {**KEYS, "head": 3, "batch": {"support": 4, "query": 4}}
    target = f"{FedPer.__module__}.{FedPer.__qualname__}"
    algorithm = algorithm_of({"_target_": target, **given})
    model = {name: number(0) for name in ("0.weight", "3.weight", "3.bias", "33.weight")}
    assert list(algorithm.state(model)) == ["3.weight", "3.bias"]


def test_fine_tuning_moves_both() -> None:
    at, rows = Point(0.7, -1.1), drawn(1, seed=3)
    models = FEDPER.personal(loss_fn, {BODY: number(at.u)}, {HEAD: number(at.h)}, support(rows))
    before, after = models
    assert (float(before[BODY]), float(before[HEAD])) == at
    assert float(after[BODY]) == pytest.approx(at.u - 0.3 * by_body(at, rows[0]), abs=TIGHT)
    assert float(after[HEAD]) == pytest.approx(at.h - 0.3 * by_head(at, rows[0]), abs=TIGHT)
