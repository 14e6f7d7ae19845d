"""FedBABU: the body is trained on the initial head, which nobody ever moves in training."""

from functools import partial

import pytest

from nufed.client_app.algorithm import local_update
from nufed.client_app.algorithms.fedbabu import FedBABU
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
)

BABU = FedBABU(**KEYS, batch=SIZES)


def test_two_rounds_move_the_body_alone() -> None:
    """And ‖g‖ is that of the body's gradient: the head's has no part in it."""
    at, shared, state = Point(0.7, -1.1), {BODY: number(0.7)}, {HEAD: number(-1.1)}
    for round in (0, 1):
        rows, start = drawn(2, seed=20 + round), at
        given = local_update(BABU, partial(BABU.step, loss_fn), shared, state, queries(rows))
        for step, each in enumerate(rows):
            assert float(given.norm[step]) == pytest.approx(abs(by_body(at, each)), abs=TIGHT)
            at = Point(at.u - 0.2 * by_body(at, each), at.h)
        assert (given.update.keys(), given.state.keys()) == ({BODY}, set())
        assert float(given.update[BODY]) == pytest.approx(start.u - at.u, abs=TIGHT)
        at, shared = Point(0.4, -1.1), {BODY: number(0.4)}


@pytest.mark.parametrize("fine_tune", ["all", "head", "body"])
def test_fine_tuning_moves_what_it_is_told_to(fine_tune: str) -> None:
    algorithm, rows = FedBABU(**KEYS, batch=SIZES, fine_tune=fine_tune), drawn(2, seed=3)
    models = algorithm.personal(loss_fn, {BODY: number(0.7)}, {HEAD: number(-1.1)}, support(rows))
    at = Point(0.7, -1.1)
    for k, model in enumerate(models):
        assert (float(model[BODY]), float(model[HEAD])) == pytest.approx(at, abs=TIGHT)
        of_body, of_head = by_body(at, rows[min(k, 1)]), by_head(at, rows[min(k, 1)])
        at = Point(
            at.u - 0.3 * of_body * (fine_tune != "head"),
            at.h - 0.3 * of_head * (fine_tune != "body"),
        )
    assert k == 2


def test_another_word_is_refused() -> None:
    with pytest.raises(InputError, match=r"algorithm\.fine_tune=neck.*all \| head \| body"):
        FedBABU(**KEYS, batch=SIZES, fine_tune="neck")
