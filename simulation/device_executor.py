"""The clients of a round, chunk by chunk, on one device of one process."""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from nufed.client_app.algorithm import Algorithm
from nufed.client_app.executor import OneByOne, weight
from nufed.client_app.figures import as_reported
from nufed.client_app.messages import EvaluateReport
from nufed.client_app.meta_gradient import Params
from nufed.client_app.stacked_loss import stacked
from nufed.client_app.work import Measuring, Training, states_of
from nufed.conf.errors import NuFedError, RunStopped, reason
from nufed.simulation.compiled import LocalStep, Untraceable, compiled
from nufed.simulation.memory import keep_freed_memory, out_of_memory
from nufed.simulation.plan import ONE_BY_ONE, Way, not_compiled
from nufed.simulation.source import Source
from nufed.simulation.stacked_clients import (
    Drawn,
    StackUpdate,
    draw_train,
    evaluate_stack,
    train_stack,
)
from nufed.tasks.task import Task
from nufed.tasks.undefined import MOST, noting

log = logging.getLogger("nufed")
T = TypeVar("T")


class PartialUpdate(NamedTuple):
    """What the training of some of a round's clients gives. Tensors stay on the device."""

    updates: Params
    """Σ_i weight_i (w − w_{i,τ}), of the clients whose update counts; or each of theirs [n, …]."""
    clients: list[int]
    metrics: Tensor
    """[4 + …, clients]: loss, norm of the meta-gradient, the local step from which these are not
    finite (above τ where they all are), norm of the update (NaN unless it is clipped), and what
    else the algorithm shows."""
    shown: list[str]
    """Names of these."""
    failed: list[int]
    reasons: list[str]


class DeviceExecutor:
    """Does what it is asked for some clients, in chunks.

    Parameters
    ----------
    task
        What is learned.

    Attributes
    ----------
    one_by_one
        Kinds of work, "train" and "evaluate", whose clients were found to work by themselves alone.
    untraceable
        Whether steps were found that cannot be compiled.
    """

    def __init__(self, task: Task) -> None:
        if task.device.type == "cpu":
            keep_freed_memory()
        self.task, self.source = task, Source(task)
        self.one_by_one = set[str]()
        self.untraceable = False
        self._said = set[str]()
        self._alone = OneByOne(task)
        self._most = 1 << 62  # clients that were found to fit into memory at once
        self._step = cache(self._make_step)
        self._wide = torch.float32 if task.device.type == "mps" else torch.float64

    def train(
        self, shared: Params, job: Training, clients: Sequence[int], way: Way
    ) -> PartialUpdate:
        """Train `clients` in this way, as far as they can be."""
        if way == ONE_BY_ONE:
            return self._train_alone(shared, job, clients)
        # A program is made for one length of batches.
        drawn = draw_train(self.task, job, clients, alike=way.compiled)

        def train_chunk(some: range) -> PartialUpdate:
            members = [clients[i] for i in some]
            if "train" in self.one_by_one:
                return self._train_alone(shared, job, members)
            try:
                return self._train_stack(shared, job, drawn, members, some, way)
            except Exception as error:
                if not _lies_with_the_clients(error):
                    raise
                why = reason(error)
            # Not above, where the error refers to frames that keep all tensors of the chunk.
            part = self._train_alone(shared, job, members)
            self.note("train", why, part.failed, compile=way.compiled)
            return part

        return self.join(self._chunks(len(clients), way.chunk, train_chunk), each=job.each)

    def evaluate(
        self, shared: Params, job: Measuring, clients: Sequence[int], way: Way
    ) -> EvaluateReport:
        """Measure the personalization curves of `clients`, all with test rows."""

        def evaluate_chunk(some: range) -> EvaluateReport:
            members = [clients[i] for i in some]
            why = None
            if way.chunk > 1 and "evaluate" not in self.one_by_one:
                try:
                    with noting() as undefined:
                        curves = evaluate_stack(self.task, self.source, shared, job, members)
                    flat = torch.stack(list(curves.values())).mT.flatten().tolist()
                    return EvaluateReport(
                        members, list(curves), as_reported(flat), [], [], undefined
                    )
                except Exception as error:
                    if not _lies_with_the_clients(error):
                        raise
                    why = reason(error)
            report = self._alone.evaluate(shared, replace(job, clients=members))
            if why is not None:
                self.note("evaluate", why, report.failed)
            return report

        reports = self._chunks(len(clients), way.chunk, evaluate_chunk)
        return join_curves(list(reports))

    def note(self, kind: str, why: str, failed: Sequence[int], *, compile: bool = False) -> None:
        """Say, once, why a stack failed; remember it if each of its clients works by itself.

        Where some fail by themselves too, it is they who are to blame, and are named in the report:
        the others go on in stacks.
        """
        if failed:
            self._say(f"a chunk failed, its clients go one by one: {why}")
            return
        self.one_by_one.add(kind)
        self._say(f"clients go one by one: each by itself works, a stack does not: {why:.200}")
        if compile:
            self._say(not_compiled("clients go one by one"))

    def _say(self, warning: str) -> None:
        """Warn of something once."""
        if warning not in self._said:
            self._said.add(warning)
            log.warning("%s", warning)

    def join(self, parts: Iterator[PartialUpdate], *, each: bool) -> PartialUpdate:
        """Add parts up, in their order; or put their updates one behind the other."""
        total, lists = Params(), defaultdict[str, list[Tensor]](list)
        clients, metrics, failed, reasons = list[int](), list[Tensor](), list[int](), list[str]()
        shown = list[str]()
        for part in parts:
            for name, update in part.updates.items():
                if each:
                    lists[name].append(update)
                else:
                    total[name] = total[name].add_(update) if name in total else update
            clients += part.clients
            if part.clients:
                metrics.append(part.metrics)
                shown = part.shown
            failed += part.failed
            reasons += part.reasons
        total |= {name: torch.cat(some) for name, some in lists.items()}
        table = torch.cat(metrics, 1) if metrics else self._nobody()
        return PartialUpdate(total, clients, table, shown, failed, reasons)

    def _nobody(self) -> Tensor:
        return torch.empty(4, 0, dtype=self._wide, device=self.task.device)

    def step(self, job: Training, compile: bool) -> LocalStep:
        """Return one local step of a stack of clients."""
        return self._step(compile, job.algorithm)

    def _make_step(self, compile: bool, algorithm: Algorithm) -> LocalStep:
        step = partial(algorithm.step, stacked(self.task.loss))
        return compiled(step) if compile else step

    def _train_stack(
        self,
        shared: Params,
        job: Training,
        drawn: Drawn,
        members: Sequence[int],
        some: range,
        way: Way,
    ) -> PartialUpdate:
        """Train a chunk of clients at once: `some` are their positions in `drawn`."""
        compile = way.compiled and not self.untraceable
        # A program is made for one number of clients: others of no weight fill a chunk up.
        short = len(some) < way.chunk <= self._most
        padding = way.chunk - len(some) if compile and short else 0
        rows = drawn.of([*some, *[some[-1]] * padding])
        weights = [weight(self.task, job, client) for client in members] + [0.0] * padding
        step = self.step(job, compile)
        states = states_of(self.task, shared, job, [*members, *[members[-1]] * padding])
        try:
            done = train_stack(self.source, step, shared, job, rows, states, weights)
        except Untraceable as error:
            self.untraceable = True
            self._say(not_compiled(reason(error)))
        else:
            self._keep(job, members, done)
            figures = done.loss, done.meta_grad_norm, done.diverged_at, done.length
            columns = [column[: len(some)] for column in (*figures, *done.metrics.values())]
            table = torch.stack([column.to(self._wide) for column in columns])
            if job.each:
                counts = counted(table, job)
                updates = {name: p[: len(some)][counts] for name, p in done.update.items()}
            else:
                updates = self._times(done.update, sum(weights))
            return PartialUpdate(updates, [*members], table, [*done.metrics], [], [])
        return self._train_stack(shared, job, drawn, members, some, way)

    def _keep(self, job: Training, members: Sequence[int], done: StackUpdate) -> None:
        """Keep the states of clients that stayed finite."""
        if not done.state:
            return
        sound = (done.diverged_at[: len(members)] > job.tau).nonzero().flatten()
        some = done.state
        if len(sound) < len(done.diverged_at):
            some = {name: p[sound] for name, p in some.items()}
        job.states.keep_all([members[i] for i in sound.tolist()], job.round, some)

    def _train_alone(self, shared: Params, job: Training, clients: Sequence[int]) -> PartialUpdate:
        update, report = self._alone.train(shared, replace(job, clients=list(clients)))
        diverged, too_long = len(report.diverged), len(report.too_long)
        gone, nan = [torch.nan] * (diverged + too_long), [torch.nan]
        columns = (
            report.loss + gone,
            report.meta_grad_norm + gone,
            [job.tau + 1] * len(report.clients) + report.diverged_at + [job.tau + 1] * too_long,
            (report.lengths or nan * len(report.clients)) + nan * diverged + report.too_long_by,
            *(column + gone for column in report.columns().values()),
        )
        weights = sum(weight(self.task, job, client) for client in report.clients)
        return PartialUpdate(
            update if job.each else self._times(update, weights),
            report.clients + report.diverged + report.too_long,
            torch.tensor(columns, dtype=self._wide, device=self.task.device),
            report.metrics,
            report.failed,
            report.reasons,
        )

    def _times(self, mean: Params, weights: float) -> Params:
        """Return a sum of updates, from their mean: in a range that holds it."""
        return {name: p.to(self._wide).mul_(weights) for name, p in mean.items()}

    def _chunks(self, count: int, chunk: int, work: Callable[[range], T]) -> Iterator[T]:
        """Yield ``work(some)`` for chunks of 0 … count − 1; halve those that do not fit."""
        waiting = [*reversed(split(range(count), chunk))]
        while waiting:
            some = waiting.pop()
            if len(some) > self._most:
                waiting += reversed(split(some, self._most))
                continue
            try:
                result = work(some)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                self._halve(len(some))
                waiting.append(some)
            else:
                yield result

    def _halve(self, clients: int) -> None:
        """Take fewer clients at once from now on.

        Raises
        ------
        RunStopped
            If one client by itself does not fit.
        """
        if clients == 1:
            raise RunStopped(
                f"device={self.task.device}: out of memory with a single client; say "
                "algorithm.recompute=true, or make the model or algorithm.batch.* smaller"
            )
        self._most = clients // 2
        log.warning("out of memory with %d clients at once: %d from now on", clients, self._most)
        if self.task.device.type == "cuda":
            torch.cuda.empty_cache()


def counted(table: Tensor, job: Training) -> Tensor:
    """Return whose update counts, of clients with these figures: [clients]."""
    finite, short = table[2] > job.tau, ~(table[3] > (job.max_norm or torch.inf))
    return finite & short


def _lies_with_the_clients(error: Exception) -> bool:
    """Tell whether clients must go one by one, so that whoever is to blame is named.

    A person's mistake and memory that is short are others' to handle.
    """
    return not (isinstance(error, NuFedError) or out_of_memory(error))


def split(clients: range, size: int) -> list[range]:
    """Cut a range into the fewest pieces of at most `size`, as equally long as can be."""
    pieces = -(-len(clients) // size)
    ends = [len(clients) * i // pieces for i in range(pieces + 1)]
    return [clients[a:b] for a, b in pairwise(ends)]


def join_curves(reports: list[EvaluateReport]) -> EvaluateReport:
    """Put the reports of several chunks one behind the other."""
    measured = [report for report in reports if report.clients]
    names = measured[0].metrics if measured else []
    cubes = [
        np.reshape(report.curves, (len(names), len(report.clients), -1)) for report in measured
    ]
    return EvaluateReport(
        [client for report in measured for client in report.clients],
        names,
        np.concatenate(cubes, 1).flatten().tolist() if cubes else [],
        [client for report in reports for client in report.failed],
        [text for report in reports for text in report.reasons],
        [*dict.fromkeys(line for report in reports for line in report.undefined)][:MOST],
    )
