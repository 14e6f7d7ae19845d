"""engine=batched: the executor of one node that hosts every client, many of them at once.

`Batched` finds out how many clients at once are quickest (`nufed.simulation.search`) and gives them
to a `DeviceExecutor`; with engine.workers, to several, in processes of their own
(`nufed.simulation.workers`). What comes back is joined in one order, whoever was done first.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial

import numpy as np
import torch

from nufed.client_app.executor import Trained, weight
from nufed.client_app.messages import EvaluateReport, TrainReport
from nufed.client_app.meta_gradient import Params, random_state
from nufed.client_app.states import Held
from nufed.client_app.work import Measuring, Training
from nufed.conf.errors import InputError, reason
from nufed.conf.schema import AUTO, Config, require
from nufed.simulation import plan as plans
from nufed.simulation.compiled import CompilerFailed
from nufed.simulation.device_executor import (
    DeviceExecutor,
    PartialUpdate,
    counted,
    join_curves,
    split,
)
from nufed.simulation.plan import ONE_BY_ONE, Plan, Way
from nufed.simulation.trial import Work, evaluate_trial, train_trial, tried
from nufed.simulation.worker import Model
from nufed.simulation.workers import Workers
from nufed.tasks.streams import global_states
from nufed.tasks.task import Task

RANDOM = "the model draws random numbers (dropout), and would draw others in a stack"
BLOCK = 256  # clients whose batches are drawn in one go
DONE = {"train": "trained", "evaluate": "evaluated"}
TURNS = 4  # blocks a worker gets in a round, so that a slow one holds nobody up

log = logging.getLogger("nufed")


class Batched:
    """Trains and evaluates many clients at once; a `nufed.client_app.executor.Executor`.

    Parameters
    ----------
    config
        `config.engine` says how: compile, chunk_size, workers, ray_address.
    task
        What is learned.

    Raises
    ------
    InputError
        If an engine option cannot be used.
    """

    def __init__(self, config: Config, task: Task) -> None:
        engine = config.engine
        check(config)
        self.task, self.executor = task, DeviceExecutor(task)
        self._chunk_size: int | None = engine["chunk_size"]
        self._compile: bool = engine["compile"] is True
        can = not (config.algorithm.get("recompute") or config.schedule)
        self._rounds = config.rounds if engine["compile"] == AUTO and can else 0
        """Of the run, where steps are to be compiled if that pays; 0 where they are not."""
        self._threads = [1] if task.device.type != "cpu" else sorted({1, torch.get_num_threads()})
        self._plans: dict[str, Way] = {}
        self._unstackable = why_one_by_one(task, task.initial_params())
        if self._unstackable:
            how = f"{self._chunk_size} at once, as asked" if self._as_asked else "one by one"
            log.info("clients go %s: %s", how, self._unstackable)
            if self._compile and not self._as_asked:
                log.warning("%s", plans.not_compiled("clients go one by one"))
        self._shape = [
            str(task.module),
            [[*p.shape, p.requires_grad] for p in task.module.parameters()],
            str(engine["precision"]),
            engine["compile"],
            _device_name(task.device),
            torch.__version__,
        ]
        self._workers: Workers | None = None
        workers, address = engine["workers"], engine["ray_address"]
        if address is None:
            workers = workers or _gpus(task.device)
        if address is not None or workers > 1:
            self._threads = [1]
            self._workers = Workers(config, task.data.digest, workers, address)

    def train(self, shared: Params, job: Training) -> Trained:
        """Train the clients of the job, each from what is `shared`."""
        way = self._plan_train(shared, job)
        blocks = self._blocks(job.clients, way.chunk)
        rest = replace(job, clients=[])
        if self._workers is None:
            parts = (self.executor.train(shared, rest, block, way) for block in blocks)
            part, cpu_s = self.executor.join(parts, each=job.each), 0.0
        else:
            done, cpu_s = self._workers.train(self._model(shared), rest, blocks, way)
            part = self.executor.join(iter(done), each=job.each)
        return self._reported(part, job, cpu_s)

    def evaluate(self, shared: Params, job: Measuring) -> EvaluateReport:
        """Measure the personalization curves of the clients of the job."""
        part = self.task.data.partition
        test = part.offset[1:] - part.offset[:-1] - part.train
        # Of like size together: a stack is as long as its longest test split.
        clients = sorted((c for c in job.clients if test[c] > 0), key=lambda c: -test[c])
        if not clients:
            return EvaluateReport([], [], [], [], [], [])
        way = self._plan_evaluate(shared, job, clients)
        blocks = self._blocks(clients, way.chunk)
        rest = replace(job, clients=[])
        if self._workers is None:
            reports = [self.executor.evaluate(shared, rest, block, way) for block in blocks]
        else:
            reports = self._workers.evaluate(self._model(shared), rest, blocks, way)
        return join_curves(reports)

    def close(self) -> None:
        """End the workers, so that their processors are free for the next run of a sweep."""
        if self._workers is not None:
            self._workers.close()

    def _model(self, shared: Params) -> Model:
        return Model(shared, self.task.buffers, self.task.frozen)

    def _reported(self, part: PartialUpdate, job: Training, cpu_s: float) -> Trained:
        """Turn what the chunks gave into the mean update and the report; the one look at it."""
        report = replace(TrainReport.empty(), failed=part.failed, reasons=part.reasons, cpu_s=cpu_s)
        counts = counted(part.metrics, job).tolist()
        rows = zip(part.clients, counts, *part.metrics.tolist(), strict=True)
        columns, weights = list[list[float]](), 0.0
        for client, used, loss, norm, diverged_at, length, *shown in rows:
            if used:
                report.clients.append(client)
                report.loss.append(loss)
                report.meta_grad_norm.append(norm)
                report.lengths.append(length)
                columns.append(shown)
                weights += weight(self.task, job, client)
            elif diverged_at > job.tau:
                report.too_long.append(client)
                report.too_long_by.append(length)
            else:
                report.diverged.append(client)
                report.diverged_at.append(int(diverged_at))
        if not report.clients:
            return Trained({}, report)
        updates = part.updates
        if not job.each:
            updates = {name: p / weights for name, p in updates.items()}
        if job.clip_norm is None:
            report.lengths.clear()
        shown_by_name = dict(zip(part.shown, zip(*columns, strict=True), strict=True))
        update = {name: p.to(self.task.dtype) for name, p in updates.items()}
        return Trained(update, report.showing(shown_by_name))

    def _blocks(self, clients: Sequence[int], chunk: int) -> list[list[int]]:
        """Share clients out in blocks of whole chunks: one after another, or for the workers."""
        chunks = split(range(len(clients)), chunk)
        a_block = max(BLOCK // chunk, 1)
        if self._workers is not None:
            a_block = min(a_block, -(-len(chunks) // (TURNS * self._workers.count)))
        return [
            [clients[i] for some in chunks[at : at + a_block] for i in some]
            for at in range(0, len(chunks), a_block)
        ]

    @property
    def _as_asked(self) -> bool:
        """Whether a stack is what the person asked for, though it draws other random numbers."""
        return self._unstackable == RANDOM and (self._chunk_size or 1) > 1

    def _plan_train(self, shared: Params, job: Training) -> Way:
        """Return how to train clients."""
        one = job.algorithm
        alike = replace(one, name="", tau=1).with_numbers(dict.fromkeys(one.numbers, 1.0))
        shape = [type(one).__qualname__, asdict(alike)]  # what a step costs
        # Of the round's own algorithm, so that the programs that are tried serve the round.
        trial = partial(train_trial, self.executor, shared, replace(job, states=Held()))
        step = replace(job.with_algorithm(tau=1), states=Held())
        alone = partial(self.executor.train, shared, step, way=ONE_BY_ONE)
        steps = self._rounds * job.tau * len(job.clients)
        work = Work("train", shape, job.clients, trial, alone, compile=self._compile, steps=steps)
        return self._plan(work)

    def _plan_evaluate(self, shared: Params, job: Measuring, clients: Sequence[int]) -> Way:
        """Return how to evaluate clients."""
        part = self.task.data.partition
        size = part.offset[1:] - part.offset[:-1]
        largest = int(size[clients].max())  # what a trial on the largest says holds for all
        shape = [job.steps, job.batch, largest]
        trial = partial(evaluate_trial, self.executor, shared, job)
        alone = partial(self.executor.evaluate, shared, job, way=ONE_BY_ONE)
        return self._plan(Work("evaluate", shape, clients, trial, alone))

    def _plan(self, work: Work) -> Way:
        """Return the way for a kind of work: given, known, or tried and then kept."""
        processes = 1 if self._workers is None else self._workers.count
        limit = -(-len(work.clients) // processes)
        if (self._unstackable and not self._as_asked) or work.kind in self.executor.one_by_one:
            return ONE_BY_ONE
        if self._chunk_size is not None:
            return Way(min(self._chunk_size, limit), work.compile)
        if limit == 1 and not (work.compile or work.steps):
            return ONE_BY_ONE
        name = plans.key(work.kind, *work.shape, limit, self._threads, self._shape)
        if name not in self._plans:
            plan = plans.recall(name)
            if plan is None:
                plan = _kept(name, tried(work, self.executor, limit, self._threads))
            if plan is not None and plans.pays_to_compile(plan, work.steps // processes):
                plan = _kept(name, self._compiled(work, plan, limit))
            if plan is None:
                return ONE_BY_ONE
            torch.set_num_threads(plan.threads)
            for line in plans.describe(plan, DONE[work.kind]):
                log.info("%s", line)
            self._plans[name] = plan.way
        return self._plans[name]

    def _compiled(self, work: Work, plan: Plan, limit: int) -> Plan | None:
        """Return the plan for compiled steps too, where there is a compiler."""
        try:
            return tried(work.to_compile(), self.executor, limit, self._threads)
        except CompilerFailed as error:
            return plan._replace(untraceable=reason(error))


def _kept(name: str, plan: Plan | None) -> Plan | None:
    """Keep a plan, if there is one."""
    if plan is not None:
        plans.keep(name, plan)
    return plan


def check(config: Config) -> None:
    """Raise an `InputError` for an engine option that cannot be used."""
    engine = config.engine
    for key in ("chunk_size", "workers"):
        value = engine[key]
        valid = value is None or (type(value) is int and value >= 1)
        require(valid, f"engine.{key}", value, "at least 1, or null")
    compile = engine["compile"]
    known = type(compile) is bool or compile == AUTO
    require(known, "engine.compile", compile, "true, false, or auto: where it pays")
    address = engine["ray_address"]
    require(
        address is None or isinstance(address, str),
        "engine.ray_address",
        address,
        "host:port of a Ray cluster, auto, or null",
    )
    if compile is True and config.algorithm.get("recompute"):
        raise InputError(
            "engine.compile=true: a compiler undoes algorithm.recompute=true; choose one of the two"
        )
    if compile is True and config.schedule:
        raise InputError(
            f"engine.compile=true: programs hold numbers, and schedule.{min(config.schedule)} "
            "is another each round; choose one of the two"
        )


def why_one_by_one(task: Task, params: Params) -> str | None:
    """Say why a stack would change the result of a task's clients; None if it would not.

    A model that draws random numbers would draw others in a stack than by itself, and one that lets
    rows see each other would see those that fill up a short batch.
    """
    for name, layer in task.module.named_modules():
        if layer._backward_hooks or layer._backward_pre_hooks:
            return f"layer {name or 'itself'} has a hook on its gradient, which no stack calls"
    rows = task.data.partition.index[np.arange(7) % len(task.data.partition.index)]
    x, y = task.batch(rows)
    try:
        before, elsewhere = random_state(params), global_states()
        task.loss(params, x, y)
        drew = not all(map(torch.equal, before, random_state(params)))
        drew |= elsewhere != global_states()
        torch.set_rng_state(before[0])
        if drew:
            return RANDOM
        with torch.no_grad():
            first, again = (
                task.predict(params, x[some])[0] for some in ([0, 1, 2, 3], [0, 4, 5, 6])
            )
    except Exception as error:  # by itself each client shows whose rows the model does not take
        return f"the model raises {type(error).__name__}: {reason(error)}"
    if not torch.allclose(first, again, rtol=1e-3, atol=1e-4):
        return "what the model gives for a row depends on the rows beside it"
    return None


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _gpus(device: torch.device) -> int:
    """Return the number of processes where none is asked for: one, or one a GPU."""
    every_gpu = device.type == "cuda" and device.index is None
    return torch.cuda.device_count() if every_gpu else 1
