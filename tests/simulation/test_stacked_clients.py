"""A stack of clients gives what each of them gives by itself: mean update, reports and curves."""

import numpy as np
import pytest
import torch
from torch.func import functional_call

from nufed.client_app.client import draw_batches
from nufed.client_app.executor import OneByOne
from nufed.client_app.stacked_loss import repeated, stacked
from nufed.simulation.source import Source
from nufed.simulation.stacked_clients import batches, draw_train
from nufed.tasks.streams import Purpose, stream
from tests.helpers import cosine, distance
from tests.simulation.helpers import (
    SIZES,
    TOLERANCE,
    assert_same_curves,
    assert_same_training,
    batched,
    curves_of,
    evaluate_job,
    setting,
    train_job,
)

CHUNKS = (1, 3, 7)  # of the seven: one by one, with a short chunk, all at once

ALGORITHMS = {
    "exact, nu 0": ["algorithm.nu=0"],
    "exact, nu 1": ["algorithm.nu=1"],
    "exact, nu 3": ["algorithm.nu=3"],
    "recompute": ["algorithm.nu=3", "algorithm.recompute=true"],
    "first order, nu 1": ["algorithm.nu=1", "algorithm.mode=first_order"],
    "first order, nu 3": ["algorithm.nu=3", "algorithm.mode=first_order"],
    "Hessian-free, nu 1": ["algorithm.nu=1", "algorithm.mode=hessian_free"],
    "Hessian-free, nu 3": ["algorithm.nu=3", "algorithm.mode=hessian_free"],
    "Hessian batch": ["algorithm.nu=3", "algorithm.batch.hessian=9"],
    "Hessian batch, recompute": [
        "algorithm.nu=3",
        "algorithm.batch.hessian=9",
        "algorithm.recompute=true",
    ],
    "Hessian batch, Hessian-free": [
        "algorithm.nu=3",
        "algorithm.batch.hessian=9",
        "algorithm.mode=hessian_free",
    ],
    "weighted by examples": ["algorithm.nu=1", "strategy.weighting=examples"],
    "all rows, nu 0": ["algorithm.nu=0", "algorithm.batch.query=null"],
    "all rows": [
        "algorithm.nu=3",
        "algorithm.batch.support=null",
        "algorithm.batch.query=null",
        "strategy.weighting=examples",
    ],
    "all rows, recompute": [
        "algorithm.nu=3",
        "algorithm.batch.support=null",
        "algorithm.recompute=true",
    ],
    "all rows, Hessian batch": [
        "algorithm.nu=3",
        "algorithm.batch.support=null",
        "algorithm.batch.hessian=9",
    ],
    "batches of 50 from clients with 1 to 45": [
        "algorithm.nu=1",
        "algorithm.batch.support=50",
        "algorithm.batch.query=40",
    ],
}


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_training_at_once_is_training_one_by_one(algorithm: str, precision: str) -> None:
    """Any algorithm, clients of 1 to 45 train rows, any chunk size."""
    of = setting("model.hidden=[16]", *ALGORITHMS[algorithm], f"engine.precision={precision}")
    tolerance = TOLERANCE[precision]
    # Gradients are known to 1e-7, and mode=hessian_free divides their differences by 2δ = 2e-3.
    # β and α take that back in the update, of size 0.1; the norm of the gradient shows it.
    rounding = precision == "float32" and of.config.algorithm["mode"] == "hessian_free"
    norms = 2e-4 if rounding else tolerance
    one_by_one = OneByOne(of.task).train(of.params, train_job(of))
    assert len(one_by_one.report.clients) == len(SIZES)
    for chunk in CHUNKS:
        at_once = batched(of, chunk_size=chunk).train(of.params, train_job(of))
        assert_same_training(at_once, one_by_one, tolerance, norms)


MODELS = {
    "mlp": ["model=mlp", "model.hidden=[12,8]"],
    "cnn": [
        "model=cnn",
        "model.channels=[3,4]",
        "model.hidden=8",
        "model.kernel=3",
        "model.padding=1",
    ],
    "logistic": ["model=logistic"],
    "least squares": ["dataset=quadratics", "dataset.num_clients=7"],
}


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("model", MODELS)
def test_every_model_may_be_stacked(model: str, precision: str) -> None:
    """Convolutions, layers of all kinds and regression; trained and measured."""
    of = setting(*MODELS[model], "algorithm.nu=3", f"engine.precision={precision}")
    tolerance, alone = TOLERANCE[precision], OneByOne(of.task)
    trained, measured = (
        alone.train(of.params, train_job(of)),
        alone.evaluate(of.params, evaluate_job(of)),
    )
    for chunk in CHUNKS:
        engine = batched(of, chunk_size=chunk)
        assert_same_training(engine.train(of.params, train_job(of)), trained, tolerance)
        assert_same_curves(engine.evaluate(of.params, evaluate_job(of)), measured, tolerance)


EVALUATIONS = {
    "five steps": {},
    "no step": {"steps": 0},
    "all rows": {"steps": 3, "batch": None},
    "batches larger than most clients": {"steps": 3, "batch": 50},
}


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("evaluation", EVALUATIONS)
def test_curves_at_once_are_curves_one_by_one(evaluation: str, precision: str) -> None:
    """Test splits of 2 to 15 rows; the client without one is left out by both."""
    of = setting(f"engine.precision={precision}")
    job = evaluate_job(of, **EVALUATIONS[evaluation])
    one_by_one = OneByOne(of.task).evaluate(of.params, job)
    assert one_by_one.clients == [0, 1, 3, 4, 5, 6]
    assert len(one_by_one.curves) == 2 * 6 * (job.steps + 1)
    for chunk in CHUNKS:
        at_once = batched(of, chunk_size=chunk).evaluate(of.params, job)
        assert_same_curves(at_once, one_by_one, TOLERANCE[precision])


def test_only_clients_without_test_rows() -> None:
    of = setting()
    assert batched(of, chunk_size=3).evaluate(of.params, evaluate_job(of, [2])) == OneByOne(
        of.task
    ).evaluate(of.params, evaluate_job(of, [2]))


@pytest.mark.parametrize("size", [6, 50, None])
def test_a_stack_takes_the_very_rows_that_each_client_takes(size: int | None) -> None:
    """Row by row, in the order of the steps; where a client has fewer, the rest does not count."""
    of = setting()
    clients = [4, 2, 0, 5]
    job = train_job(of, clients, round=3, nu=2, support=size, query=size, hessian=5)
    stack = [*batches(Source(of.task), draw_train(of.task, job, clients), job.tau)]
    assert len(stack) == job.tau
    for position, client in enumerate(clients):
        random = stream(Purpose.TRAIN, job.seed, client, job.round)
        for together, alone in zip(stack, draw_batches(of.task, job, client, random), strict=True):
            for mine, (x, y) in zip(together.values(), alone.values(), strict=True):
                rows = y.shape[-1]
                mine_x, mine_y = of.task.inputs(mine[0])[..., position, :, :, :], mine[1]
                assert torch.equal(mine_x[..., :rows, :, :], x)
                assert torch.equal(mine_y[..., position, :rows], y)
                if len(mine) > 2:
                    counts = mine[2][..., position, :]
                    assert counts[..., :rows].all()
                    assert not counts[..., rows:].any()
                else:
                    assert mine_y.shape[-1] == rows


def test_the_generators_stand_where_each_clients_stands_after_its_draws() -> None:
    """What a model draws follows from there, in a stack of one as for one."""
    of = setting()
    job = train_job(of, [1, 3], nu=2, hessian=4)
    for client, random in zip([1, 3], draw_train(of.task, job, [1, 3]).random, strict=True):
        alone = stream(Purpose.TRAIN, job.seed, client, job.round)
        draw_batches(of.task, job, client, alone)
        assert random.random() == alone.random()


@pytest.mark.parametrize("model", ["mlp", "cnn", "logistic"])
def test_the_loss_of_a_stack_is_each_clients_loss(model: str) -> None:
    """Different parameters for each client; the linear layers are computed in another order."""
    of = setting(*MODELS[model], "engine.precision=float64")
    torch.manual_seed(0)
    stack = {name: p + torch.randn_like(p) for name, p in repeated(of.params, 3).items()}
    x, y = of.task.batch(np.arange(3 * 5).reshape(3, 5))
    losses = stacked(of.task.loss)(stack, x, y)
    for i in range(3):
        one = {name: p[i] for name, p in stack.items()}
        outputs = functional_call(of.task.module, one, (x[i],))
        expected = torch.nn.functional.cross_entropy(outputs, y[i])
        assert float(losses[i]) == pytest.approx(float(expected), abs=1e-12)


def test_the_global_model_is_left_as_it_is() -> None:
    of = setting()
    before = {name: p.clone() for name, p in of.params.items()}
    engine = batched(of, chunk_size=3)
    first = engine.train(of.params, train_job(of))
    engine.evaluate(of.params, evaluate_job(of))
    assert all(torch.equal(before[name], p) for name, p in of.params.items())
    second = engine.train(of.params, train_job(of))
    assert distance(first.update, second.update) == 0.0


def test_a_mean_weighted_by_examples_is_not_the_uniform_one() -> None:
    """Clients have 1 to 45 train rows: mixing the two up would show."""
    of = setting("engine.precision=float64")
    engine = batched(of, chunk_size=3)
    alone = OneByOne(of.task)
    rows = of.task.data.partition.train
    assert rows.min() == 1
    updates = [alone.train(of.params, train_job(of, [client])).update for client in range(7)]
    for weighting, weights in (("uniform", np.ones(7)), ("examples", rows.astype(float))):
        mean = engine.train(of.params, train_job(of, weighting=weighting)).update
        for name, p in mean.items():
            terms = [w * update[name] for w, update in zip(weights, updates, strict=True)]
            assert torch.allclose(p, sum(terms) / weights.sum(), rtol=0, atol=1e-12)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["exact", "first_order"])
def test_bfloat16_is_near_and_leaves_parameters_alone(mode: str) -> None:
    """Eight bits of mantissa: a few percent of the loss, and another number than float32's."""
    exact = setting("algorithm.nu=2", f"algorithm.mode={mode}")
    rough = setting("algorithm.nu=2", f"algorithm.mode={mode}", "engine.precision=bf16")
    assert all(p.dtype == torch.float32 for p in rough.params.values())
    expected = batched(exact, chunk_size=7).train(exact.params, train_job(exact))
    result = batched(rough, chunk_size=7).train(rough.params, train_job(rough))
    assert all(p.dtype == torch.float32 for p in result.update.values())
    assert result.report.loss == pytest.approx(expected.report.loss, rel=0.03)
    assert result.report.loss != pytest.approx(expected.report.loss, rel=1e-5)
    assert cosine(result.update, expected.update) > 0.99
    curves = batched(rough, chunk_size=7).evaluate(rough.params, evaluate_job(rough))
    alone = OneByOne(rough.task).evaluate(rough.params, evaluate_job(rough))
    for client, curve in curves_of(alone).items():
        assert curves_of(curves)[client][0] == pytest.approx(curve[0], rel=0.03)
