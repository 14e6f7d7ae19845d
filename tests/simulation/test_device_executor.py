"""Chunks: what is wrong with one client is its own affair, whoever shares its chunk."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from nufed.client_app.executor import OneByOne
from nufed.simulation.device_executor import split
from tests.helpers import distance
from tests.simulation.helpers import (
    STRANGE,
    Setting,
    assert_same_curves,
    assert_same_training,
    batched,
    evaluate_job,
    setting,
    train_job,
)

CHUNKS = (2, 3, 6)
SCALES = (1, 1e30, 1, 1e6, 1e4, 1e3)


@pytest.mark.parametrize(
    ("clients", "size", "pieces"),
    [(7, 3, [2, 2, 3]), (6, 3, [3, 3]), (5, 9, [5]), (10, 4, [3, 3, 4]), (3, 1, [1, 1, 1])],
)
def test_pieces_are_few_and_equal(clients: int, size: int, pieces: list[int]) -> None:
    cut = split(range(clients), size)
    assert [len(piece) for piece in cut] == pieces
    assert [i for piece in cut for i in piece] == [*range(clients)]


def least_squares(folder: Path, scales: tuple[float, ...], *overrides: str) -> Setting:
    """Build a regression whose clients' inputs have these scales, in float32."""
    random = np.random.default_rng(0)
    scale = np.repeat(np.array(scales, np.float32), 8)[:, None]
    x = random.normal(size=(len(scale), 3)).astype(np.float32) * scale
    client = np.repeat(np.arange(len(scales)), 8)
    np.savez(folder / "rows.npz", x=x, y=random.normal(size=len(x)), client=client)
    data = ("dataset=npz", f"dataset.path={folder / 'rows.npz'}", "model=linear")
    return setting(*data, "algorithm.tau=4", *overrides)


@pytest.mark.parametrize("weighting", ["uniform", "examples"])
def test_diverging_clients_are_named_with_their_step_and_harm_nobody(
    tmp_path: Path, weighting: str
) -> None:
    """The larger its inputs, the sooner a client's loss overflows; the others' mean is theirs."""
    of = least_squares(tmp_path, SCALES, "algorithm.nu=0", f"strategy.weighting={weighting}")
    alone = OneByOne(of.task)
    one_by_one, healthy = (
        alone.train(of.params, train_job(of)),
        alone.train(of.params, train_job(of, [0, 2])),
    )
    assert one_by_one.report.diverged == [1, 3, 4, 5]
    assert one_by_one.report.diverged_at == [0, 1, 2, 3]
    for chunk in CHUNKS:
        at_once = batched(of, chunk_size=chunk).train(of.params, train_job(of))
        assert at_once.report.clients == [0, 2]
        assert_same_training(at_once, one_by_one, 1e-5)
        assert_same_training(at_once, healthy._replace(report=at_once.report), 1e-5)


@pytest.mark.parametrize("nu", [1, 3])
def test_fine_tuning_that_overflows_is_found_at_the_same_step(tmp_path: Path, nu: int) -> None:
    """As NaN, where infinities met in a Hessian-vector product."""
    scales = (1, 30, 1, 100, 1e3, 1e17)
    of = least_squares(tmp_path, scales, f"algorithm.nu={nu}")
    one_by_one = OneByOne(of.task).train(of.params, train_job(of))
    assert {3, 4, 5} <= {*one_by_one.report.diverged}
    for chunk in CHUNKS:
        at_once = batched(of, chunk_size=chunk).train(of.params, train_job(of))
        assert at_once.report.diverged == one_by_one.report.diverged
        assert at_once.report.diverged_at == one_by_one.report.diverged_at
        for name, update in one_by_one.update.items():
            assert torch.allclose(at_once.update[name], update, rtol=1e-4)


def test_parameters_lost_in_the_last_step_count_as_diverged(tmp_path: Path) -> None:
    """Loss and gradient of the only step are finite; what β makes of them is not."""
    steps = ("algorithm.nu=0", "algorithm.tau=1", "algorithm.beta=1e37")
    of = least_squares(tmp_path, (1, 50, 1, 1, 50, 1), *steps)
    one_by_one = OneByOne(of.task).train(of.params, train_job(of))
    assert one_by_one.report.diverged == [1, 4]
    assert one_by_one.report.diverged_at == [1, 1]
    for chunk in CHUNKS:
        at_once = batched(of, chunk_size=chunk).train(of.params, train_job(of))
        assert at_once.report.diverged == [1, 4]
        assert at_once.report.diverged_at == [1, 1]
        for name, update in one_by_one.update.items():
            assert torch.allclose(at_once.update[name], update, rtol=1e-5)


def test_large_is_not_infinite(tmp_path: Path) -> None:
    """Entries of 2e38 are finite, though the sum of two clients' is not."""
    client = np.repeat(np.arange(4), 8)
    np.savez(tmp_path / "ones.npz", x=np.ones((32, 5)), y=np.full(32, -1.0), client=client)
    of = setting(
        *("dataset=npz", f"dataset.path={tmp_path / 'ones.npz'}", "model=linear"),
        *("algorithm.nu=0", "algorithm.tau=1", "algorithm.beta=2e38"),
    )
    zero = of._replace(params={name: torch.zeros_like(p) for name, p in of.params.items()})
    one_by_one = OneByOne(of.task).train(zero.params, train_job(of))
    assert one_by_one.report.clients == [0, 1, 2, 3]
    at_once = batched(of, chunk_size=2).train(zero.params, train_job(of))
    assert at_once.report.diverged == []
    for name, update in one_by_one.update.items():
        assert update.numpy() == pytest.approx(2e38, rel=1e-5)
        assert torch.allclose(at_once.update[name], update, rtol=1e-5)


def test_all_clients_diverging_leaves_no_update(tmp_path: Path) -> None:
    of = least_squares(tmp_path, (1e30,) * 4, "algorithm.nu=0")
    trained = batched(of, chunk_size=3).train(of.params, train_job(of))
    assert trained.update == {}
    assert trained.report.clients == []
    assert trained.report.diverged_at == [0, 0, 0, 0]


def words(folder: Path, *strange: int, model: str = "Vocabulary") -> Setting:
    """Build a task of five clients, some of whom use a word that the model does not know."""
    random = np.random.default_rng(0)
    x, client = random.integers(5, size=(100, 4)), np.repeat(np.arange(5), 20)
    x[np.isin(client, strange)] = STRANGE
    x[0], x[-1] = 0, 9  # what lies between is not looked at before the run
    np.savez(folder / "words.npz", x=x, y=random.integers(3, size=100), client=client)
    data = ("dataset=npz", f"dataset.path={folder / 'words.npz'}", "model=custom")
    return setting(*data, f"model._target_=tests.simulation.helpers.{model}", "algorithm.nu=2")


@pytest.mark.parametrize("chunk", [2, 3, 5])
def test_a_client_that_makes_the_model_raise_is_named_and_the_others_are_trained(
    tmp_path: Path, chunk: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Its chunk is taken one by one, which is said; other chunks stay stacks."""
    of = words(tmp_path, 3)
    one_by_one = OneByOne(of.task).train(of.params, train_job(of))
    assert one_by_one.report.failed == [3]
    assert one_by_one.report.reasons == ["IndexError: index out of range in self"]
    engine = batched(of, chunk_size=chunk)
    assert_same_training(engine.train(of.params, train_job(of)), one_by_one, 1e-5)
    assert [record.getMessage() for record in caplog.records] == [
        "a chunk failed, its clients go one by one: index out of range in self"
    ]
    curves = OneByOne(of.task).evaluate(of.params, evaluate_job(of))
    assert curves.failed == [3]
    assert_same_curves(engine.evaluate(of.params, evaluate_job(of)), curves, 1e-5)


def test_a_model_that_always_raises_leaves_reasons_and_no_update(tmp_path: Path) -> None:
    of = words(tmp_path, 0, 1, 2, 3, 4)
    engine = batched(of, chunk_size=2)
    trained, measured = (
        engine.train(of.params, train_job(of)),
        engine.evaluate(of.params, evaluate_job(of)),
    )
    assert trained.update == {}
    for report in (trained.report, measured):
        assert report.clients == []
        assert sorted(report.failed) == [0, 1, 2, 3, 4]
        assert report.reasons == ["IndexError: index out of range in self"] * 5


IN_VAIN = "clients go one by one: each by itself works, a stack does not: vmap: "


@pytest.mark.parametrize("chunk", [2, 5, None])
def test_a_model_that_no_stack_can_compute_is_said_once_in_a_run(
    tmp_path: Path, chunk: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether the size of chunks is given or tried, however many clients; all go one by one."""
    of = words(tmp_path, model="Scalar")
    engine, alone = batched(of, chunk_size=chunk), OneByOne(of.task)
    for round, clients in ((1, [0, 1, 2, 3, 4]), (2, [4, 2, 1]), (3, [0, 1, 2, 3])):
        job = train_job(of, clients, round=round)
        assert_same_training(engine.train(of.params, job), alone.train(of.params, job), 1e-6)
        asked = evaluate_job(of, clients)
        curves = alone.evaluate(of.params, asked)
        assert_same_curves(engine.evaluate(of.params, asked), curves, 1e-12)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert said[0].startswith(IN_VAIN)
    assert ".item()" in said[0]
    assert engine.executor.one_by_one == {"train", "evaluate"}


@pytest.mark.parametrize("culprit", [1, 3])
@pytest.mark.parametrize("chunk", [2, None])
def test_a_clients_rows_are_its_own_fault_and_do_not_end_the_stacks(
    tmp_path: Path, chunk: int | None, culprit: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The trial is made without it, if it comes in there; it is named in each round."""
    of = words(tmp_path, culprit)
    engine, alone = batched(of, chunk_size=chunk), OneByOne(of.task)
    for round in (1, 2, 3):
        job = train_job(of, round=round)
        trained = engine.train(of.params, job)
        assert trained.report.failed == [culprit]
        assert_same_training(trained, alone.train(of.params, job), 1e-5)
        assert engine.evaluate(of.params, evaluate_job(of)).failed == [culprit]
    assert engine.executor.one_by_one == set()
    says = {"a chunk failed, its clients go one by one: index out of range in self"}
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == len({*said})
    assert says >= {*said}
    assert chunk is None or said


def test_more_clients_than_a_block_draws_for(caplog: pytest.LogCaptureFixture) -> None:
    """300 clients in chunks of 100 and 7: the last block, and its last chunk, are shorter."""
    caplog.set_level(logging.INFO)
    of = setting(
        *("dataset=quadratics", "dataset.num_clients=300", "dataset.dimension=2"),
        *("engine.precision=float64", "algorithm.nu=1"),
    )
    one_by_one = OneByOne(of.task).train(of.params, train_job(of))
    measured = OneByOne(of.task).evaluate(of.params, evaluate_job(of, steps=1))
    for chunk in (100, 7):
        engine = batched(of, chunk_size=chunk)
        assert_same_training(engine.train(of.params, train_job(of)), one_by_one, 1e-10)
        assert_same_curves(engine.evaluate(of.params, evaluate_job(of, steps=1)), measured, 1e-10)


def test_clients_in_any_order_give_the_same_mean() -> None:
    of = setting("engine.precision=float64", "algorithm.nu=1")
    engine = batched(of, chunk_size=3)
    forth = engine.train(of.params, train_job(of, [0, 1, 2, 3, 4, 5, 6]))
    back = engine.train(of.params, train_job(of, [6, 2, 5, 0, 4, 1, 3]))
    assert back.report.clients == [6, 2, 5, 0, 4, 1, 3]
    assert distance(forth.update, back.update) < 1e-14
