"""The clients that a run measured, and what their test rows say of a model."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nufed.client_app.messages import EvaluateReport
from nufed.client_app.meta_gradient import Params
from nufed.client_app.work import Measuring
from nufed.conf.schema import Config
from nufed.tasks.measures import lower_is_better
from nufed.tasks.task import Task, build

Array = NDArray[np.float64]
Scores = dict[str, Array]
"""The loss and each metric, name -> [clients]; NaN where one does not exist for a client."""

Measure = Callable[[Task, Params, Measuring], EvaluateReport]
"""Measures clients of a task: one after another, or as an engine has it."""

HELD_OUT = 1 / 4
"""Of a client's train rows, by which the length of its training is chosen."""


def compared_metric(task: Task) -> str:
    """Return the metric by which models are compared: the first that is not the loss."""
    return next((name for name in task.objective.names if name != "loss"), "loss")


@dataclass(frozen=True)
class Clients:
    """Clients with test rows, and how long models are trained beside those of the run."""

    config: Config
    task: Task
    numbers: list[int]
    """Of the clients, in the order of all scores."""
    longest: int
    """Steps of training, at most."""
    measure: Measure

    @property
    def metric(self) -> str:
        """By which models are compared."""
        return compared_metric(self.task)

    @property
    def lower_is_better(self) -> bool:
        """Of that metric."""
        return self.metric in lower_is_better(self.config.task)

    @cached_property
    def own(self) -> Task:
        """The task with the run's model at its start."""
        return build(self.config, data=self.task.data)

    def linear(self) -> Task | None:
        """Return the task with a linear model; None where rows are no vectors of numbers."""
        if self.task.integers or (self.task.classification and self.task.data.y.ndim > 1):
            return None
        model = {"_target_": "nufed.tasks.models.logistic", "bias": True}
        return build(replace(self.config, model=model), data=self.task.data)

    def validated(self, task: Task) -> Task:
        """Return a task of the train rows alone, of which some take the test rows' place."""
        data = task.data
        partition = data.partition.validation(HELD_OUT, data.y, self.config.partition)
        return replace(task, data=replace(task.data, partition=partition))

    def scores(self, outputs: Callable[[int, NDArray[np.int64]], Tensor]) -> Scores:
        """Score what a model that is none of ours gives for each client's test rows.

        Parameters
        ----------
        outputs
            (client, rows) -> outputs as `Objective` takes them.
        """
        task, found = self.task, list[dict[str, Tensor]]()
        for client in self.numbers:
            rows = task.data.partition.test_rows(client)
            y = task.batch(rows)[1]
            given = outputs(client, rows).to(task.device, task.dtype)
            with torch.no_grad():
                found.append(task.objective.scores(given, y))
        return {name: np.array([float(each[name]) for each in found]) for name in found[0]}
