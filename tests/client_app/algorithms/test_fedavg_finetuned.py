"""FedAvg, fine-tuned by epochs: each row once an epoch, whoever else is in the stack."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.linalg import matrix_power
from safetensors.torch import load_file

from nufed.client_app import sampling
from nufed.client_app.algorithm import BatchSizes, algorithm_of
from nufed.client_app.algorithms.fedavg_finetuned import FedAvgFinetuned
from nufed.client_app.client import evaluate
from nufed.client_app.from_run import personalize
from nufed.client_app.meta_gradient import descend, value_and_gradient
from nufed.client_app.work import Measuring
from nufed.conf.compose import of_run
from nufed.simulation.source import Source
from nufed.simulation.stacked_clients import evaluate_stack
from nufed.tasks.streams import Purpose, stream
from nufed.tasks.task import Task, build
from nufed.tasks.trained import MODEL
from tests.client_app.algorithms.quadratic import (
    ALPHA,
    BETA,
    DIMENSION,
    TIGHT,
    off,
    params,
    point,
    quadratics,
    train_on,
)

TAU, EPOCHS, SEED = 3, 3, 5
CLIENT = np.repeat(np.arange(10, 60, 10), [6, 9, 12, 13, 20])


def finetuned(tau: int = TAU) -> FedAvgFinetuned:
    batch = BatchSizes(support=None, query=None)
    return FedAvgFinetuned(name="fedavg_finetuned", alpha=ALPHA, beta=BETA, tau=tau, batch=batch)


@pytest.fixture
def task(small: Callable[..., Any]) -> Task:
    """Clients of 4 to 15 train rows."""
    config = of_run(small("algorithm=fedavg_finetuned", client=CLIENT).folder, "run")
    task = build(replace(config, engine=config.engine | {"precision": "float64"}))
    assert len(set(task.data.partition.train.tolist())) > 2
    return task


def test_a_round_is_fedavgs() -> None:
    (client,) = quadratics()
    w = point(0)
    one = train_on(client, finetuned(tau=1), params(w=w), {})
    assert off(one.update, w=BETA * client.gradient(w)) < TIGHT
    done = train_on(client, finetuned(), params(w=w), {})
    there = matrix_power(np.eye(DIMENSION) - BETA * client.hessian, TAU) @ (w - client.optimum)
    assert off(done.update, w=w - client.optimum - there) < TIGHT


@pytest.mark.parametrize(
    ("rows", "size", "lengths"), [(13, 5, [5, 5, 3]), (4, 5, [4]), (6, 3, [3, 3])]
)
def test_an_epoch_takes_every_row_once(rows: int, size: int, lengths: list[int]) -> None:
    random = np.random.default_rng(0)
    batches, each = sampling.fine_tuning(random, EPOCHS, size, rows, by_epoch=True)
    assert each == len(lengths)
    assert [len(some) for some in batches] == lengths * EPOCHS
    epochs = [np.concatenate(batches[i * each : (i + 1) * each]) for i in range(EPOCHS)]
    assert all(sorted(epoch) == list(range(rows)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == EPOCHS


def test_point_k_of_its_curve_is_after_k_epochs(task: Task) -> None:
    """By SGD over the rows that it drew, one batch after another."""
    client, size = 3, 4
    w = task.initial_params()
    job = Measuring(finetuned(), SEED, [client], EPOCHS, size)
    curve = evaluate(task, w, job, client)
    assert curve is not None
    train, test = task.data.partition.train_rows(client), task.data.partition.test_rows(client)
    random, losses = stream(Purpose.EVALUATE, SEED, client), list[float]()
    for epoch in range(EPOCHS + 1):
        losses.append(float(task.metrics(w, *task.batch(test))["loss"]))
        order = random.permutation(len(train)) if epoch < EPOCHS else []
        for start in range(0, len(order), size):
            batch = task.batch(train[order[start : start + size]])
            w = descend(w, value_and_gradient(task.loss, w, batch).gradient, ALPHA)
    assert curve["loss"] == pytest.approx(losses, abs=TIGHT)


@pytest.mark.parametrize("size", [4, 5, 100, None])
def test_clients_of_different_length_in_a_stack(task: Task, size: int | None) -> None:
    """Epochs of fewer batches than the longest, and last batches that are short."""
    clients = [*range(5)]
    w = task.initial_params()
    job = Measuring(finetuned(), SEED, clients, EPOCHS, size)
    together = evaluate_stack(task, Source(task), w, job, clients)
    for i, client in enumerate(clients):
        alone = evaluate(task, w, job, client)
        assert alone is not None
        for name, values in alone.items():
            assert together[name][:, i].tolist() == pytest.approx(values, abs=TIGHT)


def test_adapting_elsewhere_counts_epochs_too(small: Callable[..., Any]) -> None:
    """Bit by bit the curve that the run measures, of a client of 9 train rows: 3 batches each."""
    run = small("algorithm=fedavg_finetuned", "evaluation.batch=4")
    config = of_run(run.folder, "run")
    task = build(config)
    params = task.load_state(load_file(run.folder / MODEL))
    job = Measuring(algorithm_of(config.algorithm), config.seed, [2], EPOCHS, 4)
    assert task.data.partition.train[2] == 9
    personal = personalize(run.folder, run.file, client=30, steps=EPOCHS)
    assert personal.curve == evaluate(task, params, job, 2)
    assert len(personal.curve["loss"]) == EPOCHS + 1
