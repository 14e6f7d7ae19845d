"""What gives clients models of their own: it chooses how many steps, takes them, and measures."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nufed.client_app.algorithm import Algorithm
from nufed.client_app.choice import Choice, Difference, choose, paired, without_rows
from nufed.client_app.client import support_of
from nufed.client_app.held_out import held_out_losses
from nufed.client_app.meta_gradient import Params
from nufed.client_app.personal import FineTuning, Personal
from nufed.client_app.work import new_state
from nufed.conf.errors import InputError
from nufed.conf.schema import Config
from nufed.tasks.ids import ClientIds
from nufed.tasks.module_state import unchanged
from nufed.tasks.partitions import fingerprint
from nufed.tasks.streams import Purpose, model_randomness, stream
from nufed.tasks.task import Task


@dataclass(frozen=True)
class FineTuner:
    """A trained model and the rows of some clients, to whom it gives models of their own."""

    run: str
    """As <name>/<time>."""
    config: Config
    how: FineTuning
    """With the steps to take; or the most of them, where they are chosen."""
    usual: int
    """The run's ν, or the steps that it evaluates where ν is 0."""
    chosen: bool
    """Whether the steps are chosen, client by client."""
    task: Task
    algorithm: Algorithm
    shared: Params
    lower_is_better: frozenset[str]
    """Of the metrics, which are so."""

    @property
    def ids(self) -> ClientIds:
        """What the clients are called."""
        return self.task.data.partition.ids

    def personal(self, client: int) -> Personal:
        """Fine-tune for a client, by its number; measure after each step on its held-out rows.

        Raises
        ------
        InputError
            If a loss is not finite.
        """
        choice = self._choice(client) if self.chosen else None
        steps = self.how.steps if choice is None else choice.k
        params, curve, changes = self._fine_tuned(client, steps)
        return Personal(
            self.run,
            replace(self.how, steps=steps),
            self.task,
            client,
            params,
            curve,
            changes,
            choice,
            self.lower_is_better,
        )

    def _choice(self, client: int) -> Choice:
        """Choose a client's steps by its train rows alone."""
        rows = self.task.data.partition.train_rows(client)
        if len(rows) < 2:
            return without_rows(self.how.steps)
        # Its own, in whatever file its rows are.
        whose = fingerprint(self.task.data.y[np.sort(rows)])
        random = stream(Purpose.FOLDS, self.how.seed, whose)
        state = new_state(self.task, self.algorithm, self.shared)
        of = (self.task, self.algorithm, self.shared, state, rows, random)
        losses = held_out_losses(*of, steps=self.how.steps, batch=self.how.batch)
        _require_finite({}, losses[0].tolist(), 0, self.how.alpha)
        return choose(losses)

    def _fine_tuned(
        self, client: int, steps: int
    ) -> tuple[Params, dict[str, list[float]], dict[str, Difference]]:
        """Return the model after `steps`, metrics after each, and how they changed; as in a run."""
        task, how, test = self.task, self.how, self.task.data.partition.test_rows(client)
        held_out = task.batch(test) if len(test) else None
        random = stream(Purpose.EVALUATE, how.seed, client)
        support, each = support_of(task, self.algorithm, client, random, how.steps, how.batch)
        curve: dict[str, list[float]] = {}
        by_row = list[dict[str, NDArray[np.float64]]]()
        taken = self.shared
        state = new_state(task, self.algorithm, self.shared)
        with model_randomness(random), unchanged(task.module), torch.no_grad():
            models = self.algorithm.personal(task.loss, self.shared, state, support)
            for k, params in enumerate(islice(models, 0, None, each)):
                measured = {} if held_out is None else task.metrics(params, *held_out)
                loss = [float(measured["loss"])] if measured else []
                if k > steps and not _finite(params, loss):
                    break
                _require_finite(params, loss, k, how.alpha)  # another metric may be NaN: undefined
                for name, value in measured.items():
                    curve.setdefault(name, []).append(float(value))
                if k in (0, steps) and held_out is not None:
                    by_row.append(_on_cpu(task.by_row(params, *held_out)))
                if k == steps:
                    taken = params
        names = by_row[0] if by_row else {}
        return taken, curve, {n: paired(by_row[-1][n], by_row[0][n]) for n in names}


def _require_finite(params: Params, losses: list[float], k: int, alpha: float) -> None:
    """Raise if a step led nowhere."""
    if _finite(params, losses):
        return
    if k == 0:
        raise InputError(
            "data: the trained model's loss on the rows held out is not finite; scale x as the run "
            "had it"
        )
    raise InputError(
        f"alpha={alpha:g}: the model or its loss is not finite after step {k}; "
        f"try alpha={alpha / 10:g}"
    )


def _finite(params: Params, losses: list[float]) -> bool:
    return all(map(math.isfinite, losses)) and all(p.isfinite().all() for p in params.values())


def _on_cpu(scores: Mapping[str, Tensor]) -> dict[str, NDArray[np.float64]]:
    return {name: each.double().cpu().numpy() for name, each in scores.items()}
