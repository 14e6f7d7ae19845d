"""The contenders: ways of training the clients of a round."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import NamedTuple

import torch

from benchmarks.opponents.found import Opponent, found
from benchmarks.opponents.process import OpponentFailed, Process, installed
from benchmarks.opponents.work import Work
from benchmarks.outcome import Line, Target
from benchmarks.plain_loop import PlainLoop
from benchmarks.setting import Setting
from nufed.client_app.algorithms.meta_gradient import MetaGradient
from nufed.client_app.executor import Executor, OneByOne
from nufed.client_app.work import Training
from nufed.simulation.batched import Batched

PLAIN, ONE_BY_ONE, EAGER, COMPILED = "plain loop", "one by one", "batched", "batched, compiled"
CHOSEN = "NuFed, as it chooses"
ROUNDS = 5_000
"""Of the run for which it chooses: it compiles where the rest of the run pays for that."""

NOT_INSTALLED = "not measured (`make bench` installs it)"


class Trainer(NamedTuple):
    """A way of training the clients of a round."""

    name: str
    setting: Setting
    train: Callable[[Training], float]
    """Does it, and returns the CPU seconds that other processes spent on it."""
    elsewhere: bool = False
    """Whether tensors are made otherwise than by torch in this process, and so not counted."""
    same: bool = True
    """Whether it is the same arithmetic; else as many gradients of another algorithm."""
    about: str = ""
    """What there is to say of it."""


def plain_loop(setting: Setting) -> Trainer:
    """Return the opponent, its clients' rows gathered."""
    job, task = setting.job, setting.task
    a = job.algorithm
    assert isinstance(a, MetaGradient)
    if a.mode == "hessian_free" or a.batch.support is None or a.batch.support != a.batch.query:
        raise ValueError("the plain loop is exact or first-order, with equal batches")
    loop = PlainLoop(
        task.module,
        nu=a.nu,
        alpha=a.alpha,
        tau=a.tau,
        beta=a.beta,
        batch=a.batch.support,
        exact=a.mode == "exact",
    )
    batches = {c: task.batch(task.data.partition.train_rows(c)) for c in job.clients}
    rows = {client: (x, y) for client, (x, y) in batches.items()}

    def train(job: Training) -> float:
        loop.tau = job.tau
        loop.train(setting.params, [rows[client] for client in job.clients])
        return 0.0

    return Trainer(PLAIN, setting, train)


def one_by_one(setting: Setting) -> Trainer:
    """Return the loop over clients that every SuperNode has."""
    return trainer(ONE_BY_ONE, setting, OneByOne(setting.task))


def batched(setting: Setting, *overrides: str, name: str = EAGER) -> Trainer:
    """Return the batched engine, with further overrides, on one thread; not compiled but by one."""
    torch.set_num_threads(1)  # it tries as many threads as it finds
    config = setting.vary("engine.compile=false", *overrides)
    return trainer(name, replace(setting, config=config), Batched(config, setting.task))


def compiled(setting: Setting) -> Trainer:
    """Return the batched engine with compiled local steps."""
    return batched(setting, "engine.compile=true", name=COMPILED)


def chosen(setting: Setting) -> Trainer:
    """Return the batched engine as `nufed` without flags has it, in a run of `ROUNDS` rounds."""
    how = "engine.compile=auto", f"rounds={ROUNDS}"
    return batched(setting, *how, name=CHOSEN)._replace(elsewhere=True)


@contextmanager
def opponents(
    work: Work,
    setting: Setting,
    say: Callable[[str], None],
    targets: Mapping[str, list[Target]],
) -> Iterator[tuple[list[Trainer], list[Line]]]:
    """Give all opponents that can do some work, and a line for each that is not to be had here.

    Parameters
    ----------
    work, setting
        What they are to do.
    say
        Is told what is being run.
    targets
        Name of a contender -> what is aimed at.
    """
    trainers, missing = list[Trainer](), list[Line]()

    def without(opponent: Opponent, why: str) -> Line:
        return Line(opponent.NAME, {}, targets.get(opponent.NAME, []), why)

    with ExitStack() as processes:
        for opponent in found():
            if opponent.lacks(work) is not None:
                continue
            if not installed(opponent):
                missing.append(without(opponent, NOT_INSTALLED))
                continue
            say(f"{opponent.NAME}: warming up")
            try:
                process = processes.enter_context(Process(opponent, work))
            except OpponentFailed as error:
                missing.append(without(opponent, f"failed: {error}"))
                continue
            trainers.append(_opponent(opponent, process, setting))
        yield trainers, missing


def _opponent(opponent: Opponent, process: Process, setting: Setting) -> Trainer:
    def train(job: Training) -> float:
        return process.round()

    name, same = opponent.NAME, opponent.SAME
    return Trainer(name, setting, train, elsewhere=True, same=same, about=process.about)


def trainer(name: str, setting: Setting, executor: Executor) -> Trainer:
    """Return an executor's training as a contender."""

    def train(job: Training) -> float:
        report = executor.train(setting.params, job).report
        if len(report.clients) < len(job.clients):
            raise RuntimeError(f"{name}: clients failed: {report.reasons} {report.diverged}")
        return report.cpu_s

    return Trainer(name, setting, train)
