"""The wire contract: what server and clients say to each other, as dataclasses.

    message type          from the server                        the client's reply
    query                 nothing                                Census
    query.curvature       global arrays + ProbeInstruction       ProbeReport
    train                 global arrays + TrainInstruction       mean update + TrainReport
    evaluate              global arrays + EvaluateInstruction    EvaluateReport

With both instructions go Numbers, the step sizes of the round, and Memory where clients keep a
state between rounds. Where a model has frozen parameters or buffers, Fixed come along with its
arrays. The algorithm, ν, τ and batch sizes are those of the client's own configuration.

A train message may carry an EvaluateInstruction too, for the model that it brings, and its reply
then an EvaluateReport: on a SuperNode every message costs the start of a process.

A SuperNode hosts one client or several, so an instruction lists the clients that it is for. Both
sides check what they receive, here and in `nufed.client_app.wire`, which makes records of them.
"""

import re
import reprlib
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import inf, isfinite
from typing import Any, Self, TypeVar

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load, save

from nufed.client_app import figures
from nufed.client_app.algorithm import Algorithm
from nufed.client_app.slots import VERSIONS
from nufed.client_app.states import States
from nufed.client_app.work import Measuring, Training
from nufed.conf.errors import InputError, reason
from nufed.conf.schema import MOST_STEPS, WEIGHTINGS, positive
from nufed.tasks.task import Task
from nufed.tasks.undefined import MOST

CURVATURE = "query.curvature"  # a message type
MOST_ROWS = 10**9  # of one client: the weights of clients are sums of them

KEY = re.compile("[0-9a-f]{8,64}")

A = TypeVar("A", bound=Algorithm)


class MalformedMessage(ValueError):
    """A message breaks the wire contract; the text says where."""


@dataclass(frozen=True)
class Census:
    """Which clients a SuperNode hosts."""

    clients: list[int]
    rows: list[int]
    """Train rows of each."""
    num_clients: int
    """Clients of the whole federation."""

    def __post_init__(self) -> None:
        same_length(self.clients, self.rows)
        if self.num_clients < 1:
            raise MalformedMessage(f"num_clients is {self.num_clients}")
        if not all(0 <= client < self.num_clients for client in self.clients):
            raise MalformedMessage(f"clients are not all among 0 … {self.num_clients - 1}")
        if len(set(self.clients)) < len(self.clients):
            raise MalformedMessage("a client is there twice")
        if not all(1 <= rows <= MOST_ROWS for rows in self.rows):
            raise MalformedMessage(f"a client's train rows are not all among 1 … {MOST_ROWS}")


@dataclass(frozen=True)
class Fixed:
    """What of a model does not train, as its server has it."""

    buffers: bytes
    """As safetensors."""
    frozen: str
    """A checksum of the parameters that are frozen: each client's code has them itself."""

    @classmethod
    def of(cls, task: Task) -> Self | None:
        """Return those of a task's model; None if all of it trains."""
        if task.wholly_trained:
            return None
        contiguous = {name: b.cpu().contiguous().clone() for name, b in task.buffers.items()}
        return cls(save(contiguous), task.frozen)

    def load(self, task: Task) -> None:
        """Take them over into a client's task.

        Raises
        ------
        MalformedMessage
            If they are not those of its model.
        """
        try:
            task.require_same_fixed(load(self.buffers), self.frozen)
        except (ValueError, SafetensorError) as error:
            raise MalformedMessage(f"the global model: {reason(error)}") from error


@dataclass(frozen=True)
class ProbeInstruction:
    """A question: how curved are these clients' losses at the model that comes along."""

    seed: int
    clients: list[int]

    def __post_init__(self) -> None:
        possible_draws(self.seed, self.clients)


@dataclass(frozen=True)
class ProbeReport:
    """The ends of the spectra of the clients' Hessians, which lie in [−negative, largest]."""

    clients: list[int]
    largest: list[float]
    negative: list[float]
    failed: list[int]
    """Clients that raised an exception, or whose Hessian is not finite."""
    reasons: list[str]
    """Why, of each of them."""

    def __post_init__(self) -> None:
        same_length(self.clients, self.largest, self.negative)
        same_length(self.failed, self.reasons)
        within("largest", self.largest, 0, figures.MOST)
        for negative, largest in zip(self.negative, self.largest, strict=True):
            within("negative", [negative], 0, largest)


@dataclass(frozen=True)
class Memory:
    """How a client finds what it kept in earlier rounds; it comes along where it keeps anything."""

    run: str
    """Names the run, also where it is resumed."""
    session: str
    """Names the process that carries the run on."""
    since: int
    """The round after which that began."""
    saved: list[int]
    """The rounds of the checkpoints that the run may go on from, two at most."""
    known: list[int]
    """Of the clients asked, those that should have a state: their updates were used before."""

    def __post_init__(self) -> None:
        for name in ("run", "session"):
            value = getattr(self, name)
            possible(name, repr(value)[:40], KEY.fullmatch(value) is not None)
        possible("since", self.since, self.since >= -1)
        few = len(self.saved) <= VERSIONS - 2 and all(round >= 0 for round in self.saved)
        possible("saved", reprlib.repr(self.saved), few)


@dataclass(frozen=True)
class Numbers:
    """The real numbers of the algorithm in a round; all else is what the configuration says."""

    names: list[str]
    values: list[float]

    def __post_init__(self) -> None:
        same_length(self.names, self.values)
        possible("names", reprlib.repr(self.names), len(set(self.names)) == len(self.names))
        possible("values", reprlib.repr(self.values), all(map(isfinite, self.values)))

    @classmethod
    def of(cls, algorithm: Algorithm) -> Self:
        """Return those that have been chosen."""
        known = {name: value for name, value in algorithm.numbers.items() if isfinite(value)}
        return cls(list(known), list(known.values()))

    def into(self, algorithm: A) -> A:
        """Return an algorithm with these numbers.

        Raises
        ------
        MalformedMessage
            If one is none of its, or impossible.
        """
        try:
            return algorithm.with_numbers(dict(zip(self.names, self.values, strict=True)))
        except InputError as error:
            raise MalformedMessage(reason(error)) from error


@dataclass(frozen=True)
class EvaluationNumbers(Numbers):
    """Those of an evaluation, which may come with a round of training that has others."""


@dataclass(frozen=True)
class TrainInstruction:
    """One round of local training."""

    round: int
    seed: int
    clients: list[int]
    weighting: str
    most_rows: int | None = None
    """Train rows of a client that count in its weight; None: all."""
    each: bool = False
    """Whether each client's update is asked for, stacked along a first axis; else their mean."""
    clip_norm: float | None = None
    """L2 norm that longer updates are to be scaled down to, each by itself; None: none."""
    max_norm: float | None = None
    """L2 norm above which an update is to be left out before that; None: none is."""
    whole: bool = False
    """Whether the meta-gradient over all rows is asked for, by one local step of size 1."""

    def __post_init__(self) -> None:
        possible("round", self.round, self.round >= 0)
        possible("weighting", self.weighting, self.weighting in WEIGHTINGS)
        possible("most_rows", self.most_rows, self.most_rows is None or self.most_rows >= 1)
        for name in ("clip_norm", "max_norm"):
            possible(name, value := getattr(self, name), value is None or positive(value))
        possible_draws(self.seed, self.clients)

    def of(self, algorithm: Algorithm, states: States) -> Training:
        """Return what this process has to do, by the algorithm of its own configuration."""
        said = {
            each.name: getattr(self, each.name) for each in fields(self) if each.name != "whole"
        }
        return Training(algorithm.whole() if self.whole else algorithm, states=states, **said)


@dataclass(frozen=True)
class TrainReport:
    """What came of it; lists hold one entry for each client in `clients`, in that order."""

    clients: list[int]
    """Clients whose update is finite; the reply's arrays are their weighted mean update, or each
    of theirs along a first axis, as was asked."""
    loss: list[float]
    """Mean over local steps of the loss that they descend, taken before the step."""
    meta_grad_norm: list[float]
    """Mean over local steps of the norm of what they descend along."""
    diverged: list[int]
    """Clients whose loss or parameters became NaN or infinite."""
    diverged_at: list[int]
    """The local step, from 0, at which each of them did."""
    lengths: list[float]
    """L2 norms of the updates before they were clipped; none where they are not."""
    too_long: list[int]
    """Clients whose update was left out, as it was above the norm that was allowed."""
    too_long_by: list[float]
    """The norm of each of these."""
    failed: list[int]
    """Clients whose training raised an exception."""
    reasons: list[str]
    """What each of them raised."""
    cpu_s: float
    """CPU seconds that the SuperNode's process spent on all of it."""
    metrics: list[str]
    """Names of what else the algorithm shows."""
    shown: list[float]
    """[metric, client] in one row: means over local steps; NaN where there is no such number."""
    afresh: list[int]
    """Clients that should have a state, and had none."""

    def __post_init__(self) -> None:
        same_length(self.clients, self.loss, self.meta_grad_norm)
        same_length(self.diverged, self.diverged_at)
        same_length(self.too_long, self.too_long_by)
        same_length(self.clients, self.lengths or self.clients)
        same_length(self.failed, self.reasons)
        within("loss", self.loss)
        within("meta_grad_norm", self.meta_grad_norm, 0, figures.MOST)
        within("lengths", self.lengths, 0, figures.MOST)
        within("too_long_by", self.too_long_by, 0, inf)
        within("cpu_s", [self.cpu_s], 0, figures.MOST)
        within("diverged_at", self.diverged_at, 0, MOST_STEPS)
        require_names(self.metrics)
        if len(self.shown) != len(self.metrics) * len(self.clients):
            raise MalformedMessage(f"{len(self.shown)} values of {len(self.metrics)} metrics")
        require_figures("shown", self.shown)

    @classmethod
    def empty(cls) -> Self:
        """Return a report of nobody, whose lists are to be filled."""
        return cls([], [], [], [], [], [], [], [], [], [], 0.0, [], [], [])

    def without(self, clients: Container[int]) -> Self:
        """Return the report without clients whose update cannot be used."""
        kept = [i for i, client in enumerate(self.clients) if client not in clients]
        shown = {name: [column[i] for i in kept] for name, column in self.columns().items()}
        lists: dict[str, Any] = {
            name: [getattr(self, name)[i] for i in kept]
            for name in ("clients", "loss", "meta_grad_norm", "lengths")
            if getattr(self, name)
        }
        return replace(self, metrics=[], shown=[], **lists).showing(shown)

    def columns(self) -> dict[str, list[float]]:
        """Return what else the algorithm shows, metric -> of each client."""
        n = len(self.clients)
        return {name: self.shown[i * n : (i + 1) * n] for i, name in enumerate(self.metrics)}

    def showing(self, columns: Mapping[str, Sequence[float]]) -> Self:
        """Return the report with what else its clients show, metric -> of each."""
        flat = [value for column in columns.values() for value in column]
        return replace(self, metrics=list(columns), shown=figures.as_reported(flat))


@dataclass(frozen=True)
class EvaluateInstruction:
    """One evaluation: personalization curves of the listed clients, of the model after a round."""

    seed: int
    clients: list[int]
    steps: int
    batch: int | None
    round: int = 0

    def __post_init__(self) -> None:
        possible("steps", self.steps, self.steps >= 0)
        possible("batch", self.batch, self.batch is None or self.batch >= 1)
        possible("round", self.round, self.round >= 0)
        possible_draws(self.seed, self.clients)

    def of(self, algorithm: Algorithm, states: States) -> Measuring:
        """Return what this process has to do, by the algorithm of its own configuration."""
        return Measuring(
            algorithm, self.seed, self.clients, self.steps, self.batch, self.round, states
        )


@dataclass(frozen=True)
class EvaluateReport:
    """Personalization curves, one for each client in `clients`."""

    clients: list[int]
    """Those asked for that have test rows."""
    metrics: list[str]
    curves: list[float]
    """[metric, client, k] in one row; NaN or infinite where there is no such number."""
    failed: list[int]
    """Clients whose evaluation raised an exception."""
    reasons: list[str]
    """What each of them raised."""
    undefined: list[str]
    """Why a metric is NaN where the loss is not, ``metric: reason``, each once."""

    def __post_init__(self) -> None:
        same_length(self.failed, self.reasons)
        if self.clients and "loss" not in self.metrics:
            raise MalformedMessage(f"metrics {self.metrics}: loss must be among them")
        require_names(self.metrics)
        require_figures("curves", self.curves)
        if len(self.undefined) > MOST:
            raise MalformedMessage(f"{len(self.undefined)} reasons why metrics are undefined")
        if not all(line.partition(": ")[0] in self.metrics for line in self.undefined):
            raise MalformedMessage("undefined is of no metric")


def require_names(metrics: list[str]) -> None:
    """Raise unless metrics have plain names, each one of its own."""
    if len(set(metrics)) < len(metrics):
        raise MalformedMessage(f"metrics {metrics}: must differ")
    if not all(name.isidentifier() for name in metrics):
        raise MalformedMessage(f"metrics {metrics}: must be plain names")


def require_figures(name: str, values: list[float]) -> None:
    """Raise unless those of the values that are finite are such as float32 can hold."""
    figures_ = np.asarray(values, np.float64)
    within(name, figures_[(np.abs(figures_) > figures.MOST) & np.isfinite(figures_)].tolist())


def possible(name: str, value: object, valid: bool) -> None:
    """Raise a `MalformedMessage` that names a field of an instruction, unless `valid`."""
    if not valid:
        raise MalformedMessage(f"{name}={value} is impossible")


def within(
    name: str, values: Iterable[float], low: float = -figures.MOST, high: float = figures.MOST
) -> None:
    """Raise a `MalformedMessage` that names a figure of a report, unless all are in [low, high]."""
    for value in values:
        if not low <= value <= high:
            raise MalformedMessage(f"{name} is {value:g}; must be from {low:g} to {high:g}")


def possible_draws(seed: int, clients: list[int]) -> None:
    """Raise unless batches can be drawn from the seed for these clients, each of them once."""
    possible("seed", seed, 0 <= seed < 2**64)
    possible("clients", reprlib.repr(clients), len(set(clients)) == len(clients))


def same_length(*columns: list[Any]) -> None:
    """Raise unless all columns of a report are equally long."""
    if len({len(column) for column in columns}) > 1:
        raise MalformedMessage(
            f"columns of different length: {[len(column) for column in columns]}"
        )
