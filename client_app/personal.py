"""A personal model: a few fine-tuning steps from a trained one, on the rows of one client."""

import math
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nufed.client_app.choice import Choice, Difference
from nufed.client_app.meta_gradient import Params
from nufed.conf.errors import InputError
from nufed.conf.schema import MOST_STEPS, positive, require
from nufed.conf.text import count, printable
from nufed.tasks.ids import Id
from nufed.tasks.objective import LOWER_IS_BETTER
from nufed.tasks.own_rows import rows_to_predict
from nufed.tasks.task import Task
from nufed.tasks.trained import (
    to_bytes,
)

MOST_ROWS = 100_000_000
"""Rows that all steps draw together: their numbers are held at once, at 8 bytes each."""


@dataclass(frozen=True)
class FineTuning:
    """How a model is fine-tuned."""

    steps: int
    alpha: float
    batch: int | None
    """Rows a step; None takes all train rows."""
    seed: int

    def __post_init__(self) -> None:
        allowed = f"from 0 to {MOST_STEPS}"
        require(0 <= self.steps <= MOST_STEPS, "steps", self.steps, allowed)
        number = isinstance(self.alpha, int | float)
        require(number and positive(self.alpha), "alpha", self.alpha, "above 0, such as 0.05")
        require(self.batch is None or self.batch >= 1, "batch", self.batch, "at least 1, or null")
        rows = self.steps * (self.batch or 0)
        require(
            rows <= MOST_ROWS, "batch", self.batch, f"fewer: {self.steps} steps draw {rows} rows"
        )


@dataclass(frozen=True, repr=False)
class Personal:
    """A client's own model, and how good it became."""

    run: str
    """The run whose model it started from, as <name>/<time>."""
    how: FineTuning
    """With the steps that were taken."""
    task: Task
    client: int
    """Its number in `task.data`."""
    params: Params
    curve: Mapping[str, list[float]]
    """Metric -> after k = 0, 1, …, on the rows held out; empty where none are. Where the steps were
    chosen it goes on to the most of them, or to where the model is not finite any more."""
    changes: Mapping[str, Difference]
    """Metric -> by how much it rose from k = 0 to the steps taken, over the rows held out; of those
    metrics that are means over rows."""
    choice: Choice | None = None
    """How the steps were chosen; None where they were given."""
    lower_is_better: frozenset[str] = LOWER_IS_BETTER
    """Which metrics are so."""

    def __repr__(self) -> str:
        """Return a line: rows and weights are many."""
        steps = self.how.steps
        said = "; ".join(
            f"{name} {values[0]:.3g} before, {values[steps]:.3g} after"
            for name, values in self.curve.items()
        )
        held_out = f" on {len(self.test_rows)} rows held out" if said else "nothing held out"
        return printable(
            f"Personal({self.run}, client {self.id}: {count(steps, 'step')}, α={self.how.alpha:g}; "
            f"{said}{held_out})"
        )

    @property
    def id(self) -> Id:
        """What its data call the client."""
        return self.task.data.partition.ids[self.client]

    def gain(self, metric: str) -> float:
        """Return by how much a metric is better on the rows held out than before fine-tuning."""
        before, after = self.curve[metric][0], self.curve[metric][self.how.steps]
        return before - after if metric in self.lower_is_better else after - before

    def error(self, metric: str) -> float | None:
        """Return the standard error of this gain over the rows held out; None if not known."""
        error = self.changes[metric].error if metric in self.changes else math.nan
        return None if math.isnan(error) else error

    @property
    def train_rows(self) -> NDArray[np.int64]:
        """The rows that it was fine-tuned on, by number."""
        return self.task.data.partition.train_rows(self.client)

    @property
    def test_rows(self) -> NDArray[np.int64]:
        """The rows that were held out, by number."""
        return self.task.data.partition.test_rows(self.client)

    @property
    def module(self) -> nn.Module:
        """The module with its personal parameters, in eval mode, as one predicts with it."""
        self.task.module.load_state_dict(self.params, strict=False)
        return self.task.module.eval()

    def predict(self, x: Any) -> Tensor:
        """Return the outputs for some rows.

        Parameters
        ----------
        x
            [N, …] as a client's file has them, pixels as uint8 too. Where the run's rows were made
            of a table, also such a table, a file or a `pandas.DataFrame`; it needs no target.

        Returns
        -------
        Tensor
            [N, C] scores of the classes (`argmax(-1)` is the most likely one), or targets. Of a
            table's real target these are (y − mean) / scale.

        Raises
        ------
        InputError
            If they are not such rows as the run had.
        """
        data = self.task.data
        given = rows_to_predict(x, data.x.shape[1:], data.table)
        with torch.no_grad():
            return self.task.predict(self.params, torch.from_numpy(given).to(self.task.device))

    def save(self, file: str | Path) -> None:
        """Write the model: as safetensors all that `module` consists of, or exported.

        Parameters
        ----------
        file
            Ends in .safetensors, whose metadata say how the model came about; or in .onnx or .pt2,
            which need no code of ours, and are checked against the model.

        Raises
        ------
        InputError
            If it ends otherwise, or cannot be exported.
        OSError
            If it cannot be written.
        """
        file = Path(file)
        if file.suffix in (".onnx", ".pt2"):
            from nufed.client_app.export import export  # which knows this module

            with tempfile.TemporaryDirectory(prefix=".nufed-", dir=file.parent) as drafts:
                draft = Path(drafts) / file.name
                export(self, draft)
                draft.replace(file)
            return
        if file.suffix != ".safetensors":
            raise InputError(f"{file}: must end in .safetensors, .onnx or .pt2")
        chosen = {} if self.choice is None else {"chosen_of": len(self.choice.loss)}
        facts = {"run": self.run, **asdict(self.how), **chosen, "nufed": _version()}
        file.write_bytes(to_bytes(self.task, self.params, facts))


def _version() -> str:
    """Return NuFed's version, if it is installed as a package."""
    try:
        return version("nufed")
    except PackageNotFoundError:
        return "unknown"
