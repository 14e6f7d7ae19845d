"""Every option of conf/algorithm/: the same on every engine, and resumed to the last bit."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from _pytest.mark import MarkDecorator, ParameterSet
from hydra.utils import get_method
from torch import nn

from nufed.cli.engines.batched import launch
from nufed.client_app.algorithm import algorithm_of
from nufed.client_app.executor import Executor, OneByOne
from nufed.client_app.messages import EvaluateReport
from nufed.client_app.meta_gradient import Params
from nufed.client_app.states import Held, StateFolder
from nufed.client_app.work import new_state
from nufed.conf.compose import CONFIG_DIR, compose_config
from nufed.conf.schema import Config
from nufed.server_app.checkpoint import read
from nufed.server_app.terminal import Terminal
from tests.helpers import distance, measuring, read_run, training
from tests.simulation.helpers import (
    Setting,
    assert_same_curves,
    batched,
    ragged_digits,
    setting,
)

NAMES = sorted(file.stem for file in (CONFIG_DIR / "algorithm").glob("*.yaml"))
STEPS = ("algorithm.alpha=0.05", "algorithm.beta=0.2", "algorithm.tau=2")
ROUNDS = 3
SEEN = range(5)
"""Clients that train; the others are measured as those that never did."""


class Normed(nn.Sequential):
    """A network with batch normalization, for algorithms that keep norm layers apart.

    Of a batch of one row, many times, it gives 0: a kink there would show rounding.
    """

    def __init__(self, input_shape: tuple[int, ...], num_outputs: int) -> None:
        width = math.prod(input_shape)
        layers = [nn.Linear(width, 12), nn.BatchNorm1d(12), nn.Tanh(), nn.Linear(12, num_outputs)]
        super().__init__(nn.Flatten(), *layers)


def model(name: str) -> tuple[str, ...]:
    """Return a model that an algorithm can do with."""
    if name == "fedbn":
        return "model=custom", f"model._target_={__name__}.Normed"
    return "model=mlp", "model.hidden=[12]"


def of(name: str, *overrides: str) -> Setting:
    """Build a task whose clients work by an algorithm."""
    batch = ["algorithm.batch.support=6", "algorithm.batch.query=6", "evaluation.steps=2"]
    words = [f"algorithm={name}", *STEPS, *batch, *model(name), *overrides]
    return setting(*words)


def rounds(
    executor: Executor, given: Setting, folder: Path
) -> Iterator[tuple[Params, EvaluateReport]]:
    """Train rounds as a server that averages; yield what is shared after each, and the curves."""
    algorithm = algorithm_of(given.config.algorithm).of_federation(len(SEEN), len(SEEN))
    shared = algorithm.shared(given.params)
    like = new_state(given.task, algorithm, shared)
    states = StateFolder(folder, like, "one", since=0, saved=[])
    for k in range(1, ROUNDS + 1):
        job = replace(training(given.config, SEEN, round=k), algorithm=algorithm, states=states)
        trained = executor.train(shared, job)
        assert trained.report.clients == [*SEEN], trained.report
        shared = {name: p - trained.update[name] for name, p in shared.items()}
        everyone = range(given.task.data.num_clients)
        measured = replace(measuring(given.config, everyone), algorithm=algorithm, states=states)
        yield shared, executor.evaluate(shared, replace(measured, round=k))


@pytest.mark.parametrize("name", NAMES)
def test_a_stack_does_what_each_client_does_by_itself(name: str, tmp_path: Path) -> None:
    """Over three rounds, so that what clients keep comes into play; in float64."""
    given = of(name, "engine.precision=float64")
    alone = [*rounds(OneByOne(given.task), given, tmp_path / "alone")]
    for chunk in (2, 5):
        stack = [*rounds(batched(given, chunk_size=chunk), given, tmp_path / f"{chunk}")]
        for (mine, curves), (theirs, their_curves) in zip(stack, alone, strict=True):
            assert distance(mine, theirs) < 1e-10 if mine else not theirs
            assert_same_curves(curves, their_curves, 1e-8)
    first, last = alone[0][1].curves, alone[-1][1].curves
    assert np.abs(np.subtract(first, last)).max() > 1e-3, "nothing was learned"


@pytest.mark.parametrize("name", NAMES)
def test_local_steps_read_the_numbers_that_a_schedule_may_have(name: str) -> None:
    """And no others: a schedule of one that nothing reads would do nothing."""
    given = of(name, "engine.precision=float64")
    algorithm = algorithm_of(given.config.algorithm).of_federation(len(SEEN), len(SEEN))
    shared = algorithm.shared(given.params)

    def round_of(numbers: dict[str, float]) -> list[torch.Tensor]:
        job, states = training(given.config, SEEN, round=1), Held()
        job = replace(job, algorithm=algorithm.with_numbers(numbers), states=states)
        update = OneByOne(given.task).train(shared, job).update
        leaves = [update, *states.on_cpu().values()]
        return [p for each in leaves for p in each.values()]

    before = round_of({})
    for key, value in algorithm.numbers.items():
        after = round_of({key: value / 2})
        same = all(map(torch.equal, before, after))
        assert same == (key in algorithm.unread_in_training), key


def config(name: str, *overrides: str) -> Config:
    """Return a run of a few rounds on the ragged clients."""
    data = ["dataset=npz", f"dataset.path={ragged_digits()}", "dataset.one_class=keep"]
    small = [*model(name), "evaluation.steps=2", "evaluation.every=2"]
    few = ["clients_per_round=3", "evaluation.new_clients=[1]", "tracking=none"]
    few += ["baselines=none", "report=false"]
    return compose_config([f"algorithm={name}", *data, *STEPS, *small, *few, *overrides])


def run(config: Config, folder: Path) -> None:
    launch(config, folder, Terminal(quiet=True))


COMPILED = {"ditto", "fedrep", "meta_sgd"}
"""One of each kind of local step: two models, two parts of one, step sizes that are learned; that
of nufed is compiled in `test_compiled.py`. The others, alike, are left to `make methods`.
"""
SENT = {"ditto", "fedbn", "fedrep", "meta_sgd", "scaffold"}
"""One of each kind of what is kept and sent: a state beside the model, statistics, a part of the
model, more than the model, a state that is shared; the model alone is in `test_engines.py`.
"""
MESSAGES = {"meta_sgd", "scaffold"}
"""Of these, whose messages hold most: more than the model, and a state that is shared."""


def some(names: set[str], *marks: MarkDecorator) -> list[ParameterSet]:
    """Return all methods, of which the others have to be asked for."""
    return [
        pytest.param(name, marks=marks if name in names else pytest.mark.methods) for name in NAMES
    ]


@pytest.mark.parametrize("name", some(SENT | {"local_only", "nufed"}))
def test_a_run_that_goes_on_ends_as_one_that_was_never_cut(name: str, tmp_path: Path) -> None:
    """Bit by bit, in what is shared and in what is measured of every client."""
    chunk = "engine.chunk_size=2"
    run(config(name, chunk, "rounds=6"), tmp_path / "whole")
    run(config(name, chunk, "rounds=4", "checkpoint.every=2"), tmp_path / "cut")
    resume = f"resume={tmp_path / 'cut'}"
    run(config(name, chunk, "rounds=6", resume), tmp_path / "cut")
    whole, cut = (read(tmp_path / each).state.params for each in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    assert all(torch.equal(p, cut[n]) for n, p in whole.items())
    ends = [read_run(tmp_path / each).rows[-1] for each in ("whole", "cut")]
    for group in ("participating", "new"):
        assert ends[0][group] == ends[1][group]


def trained(name: str, folder: Path, *engine: str) -> Params:
    """Return what is shared after three rounds on an engine, in float32."""
    given = config(name, "rounds=3", *engine)
    get_method(given.engine["launcher"])(given, folder, Terminal(quiet=True))
    return read(folder).state.params


def assert_same(mine: Params, theirs: Params) -> None:
    assert mine.keys() == theirs.keys()
    assert not mine or distance(mine, theirs) < 1e-5


@pytest.mark.parametrize("name", some(COMPILED, pytest.mark.flower))
def test_compiled_it_is_the_same(name: str, tmp_path: Path) -> None:
    alone = trained(name, tmp_path / "alone", "engine.chunk_size=1")
    compiled = trained(name, tmp_path / "b", "engine.chunk_size=3", "engine.compile=true")
    assert_same(compiled, alone)


@pytest.mark.parametrize("name", some(SENT, pytest.mark.flower))
def test_in_two_processes_it_is_the_same(name: str, tmp_path: Path) -> None:
    alone = trained(name, tmp_path / "alone", "engine.chunk_size=1")
    workers = trained(name, tmp_path / "c", "engine.chunk_size=2", "engine.workers=2")
    assert_same(workers, alone)


@pytest.mark.parametrize("name", some(MESSAGES, pytest.mark.flower))
def test_flowers_own_engine_leads_to_the_same_model(name: str, tmp_path: Path) -> None:
    alone = trained(name, tmp_path / "alone", "engine.chunk_size=1")
    ray = trained(name, tmp_path / "ray", "engine=ray", "engine.num_supernodes=2")
    assert_same(ray, alone)
