"""A task: a federated data set, a model and a loss, as pure functions of parameters and batches."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nufed.conf.errors import InputError
from nufed.conf.schema import Config, TaskConfig
from nufed.tasks import module_state
from nufed.tasks.datasets.checks import require_range
from nufed.tasks.derivatives import HAS_ALL, Derivatives, derivatives
from nufed.tasks.kernels import plain_kernels
from nufed.tasks.labels import of_rare
from nufed.tasks.measures import make_objective, usable
from nufed.tasks.module import make_module
from nufed.tasks.module_state import Params as Params
from nufed.tasks.module_state import Size
from nufed.tasks.module_trial import MORE
from nufed.tasks.objective import Objective
from nufed.tasks.outputs import scores
from nufed.tasks.private import NAME as PRIVATE
from nufed.tasks.private import Local, load_private
from nufed.tasks.statistics import counting
from nufed.tasks.store import FederatedData, load

PRECISIONS = {"float32": torch.float32, "float64": torch.float64, "bf16": torch.float32}

TRIED = 8  # rows that a loss or metric of one's own is tried on

Batch = tuple[Tensor, ...]


@dataclass(frozen=True)
class Task:
    """What one client minimises: f_i(θ) = mean loss of `module` with parameters θ on its rows."""

    data: FederatedData
    module: nn.Module
    dtype: torch.dtype
    device: torch.device
    objective: Objective
    autocast: bool = False
    """Whether the module computes in bfloat16 where torch.autocast allows; parameters do not."""
    integers: bool = False
    """Whether the module takes x as integers, such as tokens."""
    writes_input: bool = False
    """Whether the module writes to the x that it is given, and so is given copies."""
    draws: bool = False
    """Whether the module draws random numbers, as dropout does."""
    derivatives: Derivatives = HAS_ALL
    """What the loss has of second derivatives."""

    @property
    def classification(self) -> bool:
        """Whether y holds classes; else it holds regression targets."""
        return self.data.classes

    def initial_params(self) -> Params:
        """Return a copy of the initial model w_0: the parameters that train, name -> tensor."""
        trained = module_state.trainable(self.module)
        return {name: p.detach().clone() for name, p in trained.items()}

    @property
    def size(self) -> Size:
        """How many parameters there are."""
        return Size.of(self.module)

    @cached_property
    def frozen(self) -> str:
        """A checksum of the parameters that do not train; "" where all do."""
        return module_state.digest(module_state.frozen(self.module))

    @property
    def wholly_trained(self) -> bool:
        """Whether the model has nothing but parameters that train."""
        return not self.buffers and not self.frozen

    @property
    def buffers(self) -> Params:
        """The module's buffers, as they are."""
        return module_state.buffers(self.module)

    def require_same_fixed(self, buffers: Params, frozen: str) -> None:
        """Take over buffers, if they are those of this module; see that frozen parameters are too.

        Parameters
        ----------
        buffers, frozen
            As the properties of these names give them, of the task of whoever sent them.

        Raises
        ------
        ValueError
            If names, shapes or types of buffers differ, or the content of frozen parameters.
        """
        if frozen != self.frozen:
            raise ValueError(
                "its frozen parameters are not those of this model; load them from one file, or "
                "draw them by torch, numpy or random, which the seed decides"
            )
        own = self.buffers
        if module_state.kinds(buffers) != module_state.kinds(own):
            raise ValueError("names, shapes or types of its buffers are not those of this model")
        for name, buffer in own.items():
            buffer.copy_(buffers[name])

    def state(self, params: Params) -> Params:
        """Return all that a model with these parameters consists of, as `state_dict` names it."""
        return module_state.whole_state(self.module, params)

    def load_state(self, state: Params) -> Params:
        """Take over what of a model's `state` does not train; return its parameters that do.

        Raises
        ------
        ValueError
            If names or shapes are not those of the module.
        """
        return module_state.load_whole_state(self.module, state)

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """Gather rows: x [*rows.shape, …] and y [*rows.shape, …] on the task's device."""
        # np.asarray: the subclass of mapped arrays is slow to index.
        x, y = (torch.from_numpy(np.asarray(a)[rows]) for a in (self.data.x, self.data.y))
        y = y.to(self.device)
        return self.inputs(x.to(self.device)), y if self.classification else y.to(self.dtype)

    def inputs(self, x: Tensor) -> Tensor:
        """Return stored rows as the module takes them: pixels in [0, 1], others as they are."""
        if self.integers:
            converted = x.long()
        else:
            converted = x.to(self.dtype)
            converted = converted.div_(255) if x.dtype == torch.uint8 else converted
        return converted.clone() if self.writes_input else converted

    def loss(self, params: Params, x: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the mean loss of a batch, that of the task's `Objective`.

        Parameters
        ----------
        params
            θ, name -> tensor.
        x, y
            [B, …] Rows as `batch` gives them, or as they are stored.
        weight
            [B] False for rows that only fill the batch up and do not count; None if all do.
        """
        with counting(weight):
            outputs = self._outputs(params, x)
        return self.objective.loss(outputs, y, weight)

    def metrics(
        self, params: Params, x: Tensor, y: Tensor, weight: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return what is reported of a model: `loss`, and the metrics of the task's `Objective`."""
        return self.objective.scores(self.predict(params, x), y, weight)

    def by_row(self, params: Params, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Return what `metrics` does of each row, [B], where it is a mean over rows."""
        return self.objective.row_scores(self.predict(params, x), y)

    def predict(self, params: Params, x: Tensor) -> Tensor:
        """Return the outputs of a model that is measured, not trained: without dropout."""
        with module_state.evaluating(self.module):
            return self._outputs(params, x)

    @contextmanager
    def measuring(self) -> Iterator["Task"]:
        """Yield the task without dropout and bfloat16, for as long as one measures its loss."""
        with module_state.evaluating(self.module):
            yield replace(self, autocast=False)

    def _outputs(self, params: Params, x: Tensor) -> Tensor:
        kernels = plain_kernels() if self.derivatives.by_plain else nullcontext()
        precision = (
            torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False)
            if self.autocast
            else nullcontext()  # one that is not enabled takes its time all the same
        )
        with kernels, precision:
            given = self.inputs(x)
            version = given._version
            with self._places.hold(params):
                returned = self.module(given)
            if given._version != version and not self.writes_input:  # nor did it in its trial
                raise InputError(
                    f"model: its forward writes to its input with these {len(x)} rows, though not "
                    f"with {MORE}; begin it with x = x.clone()"
                )
        return scores(returned).to(self.dtype)

    @cached_property
    def _places(self) -> module_state.Places:
        return module_state.Places(self.module)


def build(
    config: Config,
    local: Local | None = None,
    data: FederatedData | None = None,
    *,
    twice: bool = False,
    statistics: bool = False,
) -> Task:
    """Map the data and make the model of a configuration.

    Parameters
    ----------
    local
        A SuperNode's own file, for dataset=private.
    data
        Rows to take in place of those that the configuration names.
    twice
        Whether a loss of one's own must have second derivatives.
    statistics
        Whether running statistics of batch normalization are parameters of the model.

    Raises
    ------
    InputError
        If the data, the model or the device cannot be used.
    """
    device = _device(config.device)
    precision = _precision(config)
    dtype = PRECISIONS[precision]
    where = _source(config, local) if data is None else "data"
    if data is None:
        data = federated(config, local)
    _require_range(data, dtype, where)
    made = make_module(
        config.model,
        data,
        config.seed,
        dtype,
        any_width=config.task.loss is not None,
        class_axis=config.task.class_axis,
        statistics=statistics,
    )
    objective = make_objective(
        config.task,
        classes=data.classes,
        width=made.trial.width,
        device=device,
        dtype=dtype,
        rare=_rare(data, config),
    )
    task = Task(
        data,
        made.module.to(device),
        dtype,
        device,
        objective,
        autocast=precision == "bf16",
        integers=made.trial.integers,
        writes_input=made.trial.writes_input,
        draws=made.trial.draws,
    )
    if config.task != TaskConfig() and len(data.y):
        x, y = task.batch(data.partition.index[:TRIED])
        with torch.no_grad():
            outputs = task.predict(task.initial_params(), x)
        with torch.enable_grad():
            outputs.requires_grad_()
            objective = usable(objective, config.task, outputs, y, twice=twice)
        task = replace(task, objective=objective)
    return replace(task, derivatives=_derivatives(task, config))


def _derivatives(task: Task, config: Config) -> Derivatives:
    """Differentiate the loss on rows of no content: those of private data are not here."""
    shape, places = task.data.x.shape[1:], task.data.y.shape[1:]
    x = torch.zeros(2, *shape, dtype=task.dtype, device=task.device)
    kind = torch.int64 if task.classification else task.dtype
    y = torch.zeros(2, *places, dtype=kind, device=task.device)
    with torch.random.fork_rng(devices=[]), task.measuring() as plain:
        return derivatives(
            lambda params: plain.loss(params, x, y), task.initial_params(), named(config)
        )


def _rare(data: FederatedData, config: Config) -> bool:
    """Tell whether nearly all rows are of one class; of private rows nobody knows."""
    here = data.classes and data.rows_here and config.dataset.get("name") != PRIVATE
    return here and config.task.metrics is None and of_rare(data.y) is not None


def named(config: Config) -> str:
    """Return what names the model of a configuration to a person."""
    return f"model._target_={config.model.get('_target_')}"


def _precision(config: Config) -> str:
    precision = config.engine.get("precision", "float32")
    if not isinstance(precision, str) or precision not in PRECISIONS:
        raise InputError(f"engine.precision={precision}: must be {' | '.join(PRECISIONS)}")
    return precision


def require_computable(data: FederatedData, config: Config) -> None:
    """Raise an `InputError` if x or y are beyond what engine.precision can hold."""
    _require_range(data, PRECISIONS[_precision(config)], _source(config))


def _require_range(data: FederatedData, dtype: torch.dtype, where: str) -> None:
    require_range({"x": data.x, "y": data.y}, str(dtype).removeprefix("torch."), where)


def _source(config: Config, local: Local | None = None) -> str:
    """Return what names the data to a person."""
    if local is not None:
        return f"data-path={local.path}"
    path = config.dataset.get("path")
    return f"dataset.path={path}" if path else f"dataset={config.dataset.get('name')}"


def federated(config: Config, local: Local | None = None) -> FederatedData:
    """Map the data of a configuration; arguments and errors as of `build`."""
    if config.dataset.get("name") == PRIVATE:
        data = load_private(config.dataset, config.partition, local)
    else:
        data = load(config.dataset, config.partition)
    if config.evaluation.split == "validation":
        of = config.partition
        apart = data.partition.validation(of.test_fraction, data.y, of)
        data = replace(data, partition=apart)
    return data


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device={name}: must be cpu, cuda, cuda:1, … or mps") from error
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"device={name}: cannot be used ({reason}); say device=cpu") from error
    return device
