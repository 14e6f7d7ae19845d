"""The wire contract: what server and clients say to each other, as dataclasses ⇄ Flower records.

    message type          from the server                        the client's reply
    query                 nothing                                Census
    query.curvature       global arrays + ProbeInstruction       ProbeReport
    train                 global arrays + TrainInstruction       mean update + TrainReport
    evaluate              global arrays + EvaluateInstruction    EvaluateReport

Where a model has frozen parameters or buffers, Fixed come along with its arrays.

A train message may carry an EvaluateInstruction too, for the model that it brings, and its reply
then an EvaluateReport: on a SuperNode every message costs the start of a process.

A SuperNode hosts one client or several, so an instruction lists the clients that it is for. Both
sides check what they receive: `decode` refuses missing, unknown and ill-typed fields.
"""

import reprlib
import types
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Self, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from safetensors import SafetensorError
from safetensors.torch import load, save

from nufed.client_app import figures
from nufed.client_app.meta_gradient import MODES, Params
from nufed.conf.errors import reason
from nufed.conf.schema import MOST_STEPS, WEIGHTINGS, AlgorithmConfig, positive
from nufed.tasks.task import Task
from nufed.tasks.undefined import MOST

ARRAYS, REPORT, EVALUATION, METRICS = "arrays", "report", "evaluation", "metrics"
FIXED = "fixed"
CURVATURE = "query.curvature"  # a message type
MOST_ROWS = 10**9  # of one client: the weights of clients are sums of them

T = TypeVar("T")


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
class TrainInstruction:
    """One round of local training."""

    round: int
    seed: int
    clients: list[int]
    nu: int
    alpha: float
    beta: float
    tau: int
    mode: str
    delta: float
    recompute: bool
    weighting: str
    support: int | None
    query: int | None
    hessian: int | None
    most_rows: int | None = None
    """Train rows of a client that count in its weight; None: all."""

    @classmethod
    def of(
        cls,
        algorithm: AlgorithmConfig,
        *,
        round: int,
        seed: int,
        clients: list[int],
        weighting: str,
        most_rows: int | None = None,
    ) -> Self:
        """Ask these clients for a round of the algorithm as configured."""
        a, batch = algorithm, algorithm.batch
        return cls(
            round=round,
            seed=seed,
            clients=clients,
            nu=a.nu,
            alpha=a.alpha,
            beta=a.beta,
            tau=a.tau,
            mode=a.mode,
            delta=a.delta,
            recompute=a.recompute,
            weighting=weighting,
            support=batch.support,
            query=batch.query,
            hessian=batch.hessian,
            most_rows=most_rows,
        )

    @property
    def step(self) -> dict[str, Any]:
        """The keyword arguments of `local_update`, and of `local_step`, that say how."""
        return {
            name: getattr(self, name) for name in ("alpha", "beta", "mode", "delta", "recompute")
        }

    def __post_init__(self) -> None:
        possible("round", self.round, self.round >= 0)
        possible("nu", self.nu, self.nu >= 0)
        possible("tau", self.tau, self.tau >= 1)
        possible("mode", self.mode, self.mode in MODES)
        possible("weighting", self.weighting, self.weighting in WEIGHTINGS)
        for name in ("alpha", "beta", "delta"):
            possible(name, getattr(self, name), positive(getattr(self, name)))
        for name in ("support", "query", "hessian", "most_rows"):
            rows = getattr(self, name)
            possible(name, rows, rows is None or rows >= 1)
        possible_draws(self.seed, self.clients)


@dataclass(frozen=True)
class TrainReport:
    """What came of it; lists hold one entry for each client in `clients`, in that order."""

    clients: list[int]
    """Clients whose update is finite; the reply's arrays are their weighted mean update."""
    loss: list[float]
    """Mean over local steps of f_i(θ^ν; D′), taken before the step."""
    meta_grad_norm: list[float]
    """Mean over local steps of ‖∇̃F_i(w)‖."""
    diverged: list[int]
    """Clients whose loss or parameters became NaN or infinite."""
    diverged_at: list[int]
    """The local step, from 0, at which each of them did."""
    failed: list[int]
    """Clients whose training raised an exception."""
    reasons: list[str]
    """What each of them raised."""
    cpu_s: float
    """CPU seconds that the SuperNode's process spent on all of it."""

    def __post_init__(self) -> None:
        same_length(self.clients, self.loss, self.meta_grad_norm)
        same_length(self.diverged, self.diverged_at)
        same_length(self.failed, self.reasons)
        within("loss", self.loss)
        within("meta_grad_norm", self.meta_grad_norm, 0, figures.MOST)
        within("cpu_s", [self.cpu_s], 0, figures.MOST)
        within("diverged_at", self.diverged_at, 0, MOST_STEPS)


@dataclass(frozen=True)
class EvaluateInstruction:
    """One evaluation: personalization curves of the listed clients."""

    seed: int
    clients: list[int]
    steps: int
    alpha: float
    batch: int | None

    def __post_init__(self) -> None:
        possible("steps", self.steps, self.steps >= 0)
        possible("alpha", self.alpha, positive(self.alpha))
        possible("batch", self.batch, self.batch is None or self.batch >= 1)
        possible_draws(self.seed, self.clients)


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
        if self.clients and (
            "loss" not in self.metrics or len(set(self.metrics)) < len(self.metrics)
        ):
            raise MalformedMessage(f"metrics {self.metrics}: must differ, and loss be among them")
        if not all(name.isidentifier() for name in self.metrics):
            raise MalformedMessage(f"metrics {self.metrics}: must be plain names")
        curves = np.asarray(self.curves, np.float64)
        within("curves", curves[(np.abs(curves) > figures.MOST) & np.isfinite(curves)].tolist())
        if len(self.undefined) > MOST:
            raise MalformedMessage(f"{len(self.undefined)} reasons why metrics are undefined")
        if not all(line.partition(": ")[0] in self.metrics for line in self.undefined):
            raise MalformedMessage("undefined is of no metric")


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


def encode(
    value: Any,
    arrays: ArrayRecord | None = None,
    examples: int | None = None,
    fixed: Fixed | None = None,
) -> RecordDict:
    """Pack a dataclass of this file, with the arrays it goes with, as the content of a message.

    `examples`, the train rows behind an update, goes where Flower's own strategies look for it.
    """
    packed = [value] if fixed is None else [value, fixed]
    content = RecordDict({_place(type(each)): _record(each) for each in packed})
    if arrays is not None:
        content[ARRAYS] = arrays
    if examples is not None:
        content[METRICS] = MetricRecord({"num-examples": examples})
    return content


def _record(value: Any) -> ConfigRecord:
    given = {f.name: getattr(value, f.name) for f in fields(value)}
    return ConfigRecord({name: each for name, each in given.items() if each is not None})


def decode(kind: type[T], message: Message) -> T:
    """Unpack a dataclass of this file from a message.

    Raises
    ------
    MalformedMessage
        If a field is missing, unknown or of the wrong type.
    """
    record = message.content.config_records.get(_place(kind))
    if record is None:
        raise MalformedMessage(f"no {_place(kind)!r} record")
    hints = get_type_hints(kind)
    if unknown := sorted(set(record) - set(hints)):
        raise MalformedMessage(f"unknown field {unknown[0]!r}")
    values = {name: _checked(name, record.get(name), hint) for name, hint in hints.items()}
    return kind(**values)


def asks_for_evaluation(message: Message) -> bool:
    """Tell whether a message asks for personalization curves, or brings them."""
    return EVALUATION in message.content.config_records


def _place(kind: type) -> str:
    """Return the name of the record that holds a dataclass of this file."""
    if kind is Fixed:
        return FIXED
    return EVALUATION if kind in (EvaluateInstruction, EvaluateReport) else REPORT


def arrays_of(message: Message) -> ArrayRecord:
    """Return the arrays of a message, an empty record if it has none."""
    return message.content.array_records.get(ARRAYS, ArrayRecord())


def examples_of(message: Message) -> object:
    """Return the train rows that an update claims to come from, None if it says nothing of it."""
    return message.content.metric_records.get(METRICS, MetricRecord()).get("num-examples")


def to_params(arrays: ArrayRecord) -> Params:
    """Return arrays as tensors, name -> tensor on the CPU.

    Raises
    ------
    MalformedMessage
        If the bytes of an array are not those of an array of the shape and type that it declares.
    """
    return {name: _tensor(name, array) for name, array in arrays.items()}


def _tensor(name: str, array: Array) -> torch.Tensor:
    try:
        tensor = torch.from_numpy(array.numpy())  # Flower reads without pickle
    except Exception as error:  # bytes from elsewhere: whatever NumPy or torch makes of them
        raise MalformedMessage(f"array {name!r} cannot be read: {reason(error)}") from error
    held = tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")
    if held != (tuple(array.shape), array.dtype):
        raise MalformedMessage(f"array {name!r} holds {held}, other than it declares")
    return tensor


def _checked(name: str, value: Any, hint: Any) -> Any:
    """Return `value` if it is of type `hint`, one of those that the dataclasses here use."""
    if get_origin(hint) in (Union, types.UnionType):
        if value is None:
            return None
        hint = get_args(hint)[0]
    if get_origin(hint) is list:
        (item,) = get_args(hint)
        if isinstance(value, list) and all(type(entry) is item for entry in value):
            return value
    elif type(value) is hint:
        return value
    raise MalformedMessage(f"{name} is {reprlib.repr(value):.60}, not {hint}")
