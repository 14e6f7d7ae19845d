"""The opponent does the work that it is timed for."""

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.plain_loop import PlainLoop, Rows
from benchmarks.setting import Setting, setting
from nufed.client_app import sampling
from nufed.client_app.algorithms.meta_gradient import MetaGradient
from nufed.client_app.client import draw_batches
from nufed.client_app.executor import OneByOne
from nufed.client_app.work import Measuring
from nufed.tasks.streams import Purpose, stream
from tests.helpers import distance

CLIENTS, STEPS = 4, 3


def plain(given: Setting) -> PlainLoop:
    a = given.job.algorithm
    assert isinstance(a, MetaGradient)
    assert a.batch.support is not None
    return PlainLoop(
        given.task.module,
        nu=a.nu,
        alpha=a.alpha,
        tau=a.tau,
        beta=a.beta,
        batch=a.batch.support,
        exact=a.mode == "exact",
    )


def train_rows(given: Setting, client: int) -> Rows:
    x, y = given.task.batch(given.task.data.partition.train_rows(client))
    return x, y


def same_batches(given: Setting, client: int) -> list[Rows]:
    """What NuFed draws for a client's round: support and then query batch of each local step."""
    random = stream(Purpose.TRAIN, given.job.seed, client, given.job.round)
    drawn = draw_batches(given.task, given.job, client, random)
    return [
        (
            torch.cat([s["support"][0], s["query"][0][None]]),
            torch.cat([s["support"][1], s["query"][1][None]]),
        )
        for s in drawn
    ]


@pytest.mark.parametrize(
    ("mode", "nu"), [("first_order", 1), ("first_order", 2), ("exact", 1), ("exact", 2)]
)
def test_the_opponent_computes_what_our_loop_does(
    tiny: tuple[str, ...], mode: str, nu: int
) -> None:
    given = setting([*tiny, f"algorithm.mode={mode}", f"algorithm.nu={nu}"], CLIENTS)
    ours = OneByOne(given.task).train(given.params, given.job)
    update, loss = plain(given).train(
        given.params,
        [train_rows(given, client) for client in range(CLIENTS)],
        [same_batches(given, client) for client in range(CLIENTS)],
    )
    assert distance(ours.update, update) < 1e-5
    assert max(float(p.abs().max()) for p in update.values()) > 1e-2
    assert loss == pytest.approx(np.mean(ours.report.loss), abs=1e-5)


def test_the_modes_differ(tiny: tuple[str, ...]) -> None:
    """Else the test above could not tell them apart."""
    updates = []
    for mode in ("first_order", "exact"):
        given = setting([*tiny, "algorithm.nu=2", f"algorithm.mode={mode}"], 1)
        batches = [same_batches(given, 0)]
        updates.append(plain(given).train(given.params, [train_rows(given, 0)], batches)[0])
    assert distance(*updates) > 1e-3


def test_batches_are_drawn_from_the_clients_rows(tiny: tuple[str, ...]) -> None:
    given = setting(tiny, 1)
    rows = train_rows(given, 0)
    steps = list(plain(given)._drawn(rows))
    assert len(steps) == given.job.tau
    for x, y in steps:
        assert x.shape == (2, 7, 8)
        assert y.shape == (2, 7)
        for row, label in zip(x.flatten(0, 1), y.flatten(), strict=True):
            (here,) = torch.nonzero((rows[0] == row).all(1))
            assert rows[1][here] == label


def test_its_curves_are_ours(tiny: tuple[str, ...]) -> None:
    given = setting(tiny, CLIENTS)
    task, part = given.task, given.task.data.partition
    algorithm = given.job.algorithm.with_numbers({"alpha": 0.1})
    job = Measuring(algorithm, 3, list(range(CLIENTS)), STEPS, 7)
    report = OneByOne(task).evaluate(given.params, job)
    ours = np.reshape(report.curves, (2, CLIENTS, STEPS + 1))

    def support(client: int) -> tuple[Tensor, Tensor]:
        random = stream(Purpose.EVALUATE, 3, client, 0)
        rows = part.train_rows(client)
        x, y = task.batch(rows[sampling.draw(random, (STEPS,), 7, len(rows))])
        return x, y

    def test_rows(client: int) -> Rows:
        x, y = task.batch(part.test_rows(client))
        return x, y

    theirs = plain(given).curves(
        given.params,
        [(train_rows(given, client), test_rows(client)) for client in range(CLIENTS)],
        STEPS,
        [support(client) for client in range(CLIENTS)],
    )
    assert report.metrics == ["loss", "accuracy"]
    assert np.abs(theirs.permute(2, 0, 1).numpy() - ours).max() < 1e-5
