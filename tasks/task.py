"""A task: a federated data set, a model and a loss, as pure functions of parameters and batches."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from conf.errors import InputError
from conf.schema import Config, TaskConfig
from tasks.measures import make_objective, usable
from tasks.module import make_module
from tasks.objective import Objective
from tasks.private import NAME as PRIVATE
from tasks.private import Local, load_private
from tasks.store import FederatedData, load

PRECISIONS = {"float32": torch.float32, "float64": torch.float64, "bf16": torch.float32}

TRIED = 8  # rows that a loss or metric of one's own is tried on

Params = dict[str, Tensor]
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

    @property
    def classification(self) -> bool:
        """Whether y holds classes; else it holds regression targets."""
        return self.data.classes

    def initial_params(self) -> Params:
        """Return a copy of the initial model w_0, name -> tensor."""
        return {name: p.detach().clone() for name, p in self.module.named_parameters()}

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """Gather rows: x [*rows.shape, …] and y [*rows.shape, …] on the task's device."""
        # np.asarray: the subclass of mapped arrays is slow to index.
        x, y = (torch.from_numpy(np.asarray(a)[rows]) for a in (self.data.x, self.data.y))
        y = y.to(self.device)
        return self.inputs(x.to(self.device)), y if self.classification else y.to(self.dtype)

    def inputs(self, x: Tensor) -> Tensor:
        """Return stored rows as the module takes them: pixels in [0, 1], others as they are."""
        if self.integers:
            return x.long()
        converted = x.to(self.dtype)
        return converted.div_(255) if x.dtype == torch.uint8 else converted

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
        return self.objective.loss(self._outputs(params, x), y, weight)

    def metrics(
        self, params: Params, x: Tensor, y: Tensor, weight: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return what is reported of a model: `loss`, and the metrics of the task's `Objective`."""
        return self.objective.scores(self.predict(params, x), y, weight)

    def predict(self, params: Params, x: Tensor) -> Tensor:
        """Return the outputs of a model that is measured, not trained: without dropout."""
        with self._without_dropout():
            return self._outputs(params, x)

    @contextmanager
    def measuring(self) -> Iterator["Task"]:
        """Yield the task without dropout and bfloat16, for as long as one measures it."""
        with self._without_dropout():
            yield replace(self, autocast=False)

    @contextmanager
    def _without_dropout(self) -> Iterator[None]:
        was_training = self.module.training
        self.module.eval()
        try:
            yield
        finally:
            self.module.train(was_training)

    def _outputs(self, params: Params, x: Tensor) -> Tensor:
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.autocast, cache_enabled=False
        ):
            outputs: Tensor = functional_call(
                self.module, params, (self.inputs(x),), tie_weights=self._has_tied_weights
            )
        return outputs.to(self.dtype)

    @cached_property
    def _has_tied_weights(self) -> bool:
        """Whether a parameter goes by several names; looking for them at every call takes time."""
        every = self.module.named_parameters(remove_duplicate=False)
        return len(list(every)) > len(list(self.module.named_parameters()))


def build(config: Config, local: Local | None = None, data: FederatedData | None = None) -> Task:
    """Map the data and make the model of a configuration.

    Parameters
    ----------
    local
        A SuperNode's own file, for dataset=private.
    data
        Rows to take in place of those that the configuration names.

    Raises
    ------
    InputError
        If the data, the model or the device cannot be used.
    """
    device = _device(config.device)
    precision = config.engine.get("precision", "float32")
    if not isinstance(precision, str) or precision not in PRECISIONS:
        raise InputError(f"engine.precision={precision}: must be {' | '.join(PRECISIONS)}")
    if data is None:
        data = federated(config, local)
    dtype = PRECISIONS[precision]
    made = make_module(config.model, data, config.seed, any_width=config.task.loss is not None)
    objective = make_objective(
        config.task, classes=data.classes, width=made.width, device=device, dtype=dtype
    )
    module, autocast = made.module.to(device, dtype), precision == "bf16"
    task = Task(data, module, dtype, device, objective, autocast, made.integers)
    if config.task != TaskConfig() and len(data.y):
        x, y = task.batch(data.partition.index[:TRIED])
        with torch.no_grad():
            outputs = task.module(x).to(dtype)
        with torch.enable_grad():
            outputs.requires_grad_()
            objective = usable(objective, config.task, outputs, y, twice=_needs_hessians(config))
        task = replace(task, objective=objective)
    return task


def _needs_hessians(config: Config) -> bool:
    return config.algorithm.nu > 0 and config.algorithm.mode == "exact"


def federated(config: Config, local: Local | None = None) -> FederatedData:
    """Map the data of a configuration; arguments and errors as of `build`."""
    if config.dataset.get("name") == PRIVATE:
        data = load_private(config.dataset, config.partition, local)
    else:
        data = load(config.dataset, config.partition)
    if config.evaluation.split == "validation":
        apart = data.partition.validation(config.partition.test_fraction)
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
