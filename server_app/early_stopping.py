"""Early stopping: a run ends once so many evaluations brought nothing better.

What is better is told by train rows alone, or by validation rows: to stop by the rows that a run is
reported on would flatter it. The model of the best evaluation stays in best.safetensors; the run's
own model, model.safetensors, is the last one, to which its curves and its checkpoint belong.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from nufed.conf.schema import Config, EarlyStoppingConfig
from nufed.server_app.run_folder import save_model
from nufed.server_app.tracking import Callback, Row, RunInfo, State, evaluated
from nufed.strategies.curves import exists
from nufed.tasks.measures import lower_is_better
from nufed.tasks.objective import LOWER_IS_BETTER
from nufed.tasks.task import Task

BEST = "best.safetensors"


class Watch:
    """The best evaluation so far, and how many were no better since; a function of the rows alone.

    Parameters
    ----------
    metric
        ``train_loss``: its mean over the rounds since the last evaluation, on train rows, after ν
        steps, of the clients that trained. Another: its mean over participating clients after
        the last fine-tuning step.
    rows
        What metrics.jsonl holds already.
    lower_is_better
        Names of the metrics of which less is better.
    """

    def __init__(
        self,
        metric: str,
        rows: Iterable[Row] = (),
        lower_is_better: Collection[str] = LOWER_IS_BETTER,
    ) -> None:
        self.metric = metric
        self.lower_is_better = metric == "train_loss" or metric in lower_is_better
        self.best: float | None = None
        self.round = 0
        """Round of the best evaluation."""
        self.waited = 0
        """Evaluations since."""
        self._losses = list[float]()
        for row in rows:
            self.take(row)

    def take(self, row: Row) -> bool:
        """Take note of a round; return whether it is the best one evaluated so far."""
        loss = row.get("train_loss")
        if loss is not None and math.isfinite(loss):
            self._losses.append(loss)
        value = self._value(row) if evaluated(row) else None
        if value is None:
            return False
        if not math.isfinite(value):
            self.waited += self.best is not None
            return False
        better = self.best is None or (
            value < self.best if self.lower_is_better else value > self.best
        )
        self.waited += 1
        if better:
            self.best, self.round, self.waited = value, row["round"], 0
        return better

    def _value(self, row: Row) -> float | None:
        """Return what an evaluated round is judged by; None if it says nothing of it."""
        if self.metric == "train_loss":
            losses, self._losses = self._losses, []
            return math.fsum(losses) / len(losses) if losses else None
        curves = row.get("participating", {})
        curve = curves.get(self.metric)
        if not curve or not exists(curves, self.metric):
            return None
        return math.nan if curve[-1] is None else float(curve[-1])  # as what is read again has it


class EarlyStopping(Callback):
    """Keep the model of the best evaluation, and end the run once patience is exhausted.

    Parameters
    ----------
    config
        The metric, and the evaluations to wait.
    folder
        The run folder.
    """

    def __init__(self, config: EarlyStoppingConfig, folder: Path) -> None:
        self.config, self.folder = config, folder
        self._watch = Watch(config.metric)
        self._task: Task | None = None

    def on_start(self, run: RunInfo) -> None:
        """Take up where a run that is resumed was left."""
        self._watch = resumed_watch(self.folder, run.config, run.rows)
        self._task = run.task

    def on_round(self, row: Row, state: State) -> None:
        """Judge a round that was evaluated."""
        better = self._watch.take(row)
        if self.config.patience is None:
            return
        if better and self._task is not None:
            kept = {"round": row["round"], "metric": self.config.metric}
            save_model(self.folder / BEST, self._task, state.params, kept)
        self.stop = self._watch.waited >= self.config.patience

    def on_end(self, summary: dict[str, Any]) -> None:
        """Say which round was best, and whether the run ended for it."""
        if self.config.patience is None or self._watch.best is None:
            return
        summary["best"] = {"round": self._watch.round, self.config.metric: self._watch.best}
        if self.stop and "stopped" not in summary:
            summary["stopped_early"] = describe(self._watch)


def resumed_watch(folder: Path, config: Config, rows: Sequence[Row]) -> Watch:
    """Return the watch of a run that is resumed; a new one if its best model was not kept."""
    metric, lower = config.early_stopping.metric, lower_is_better(config.task)
    watch = Watch(metric, rows, lower)
    if watch.best is None:
        return watch
    kept = _kept(folder / BEST)
    kept_round = int(kept["round"]) if kept.get("metric") == metric else -1
    # One of a round after the checkpoint will come again.
    whole = kept_round == watch.round or kept_round > rows[-1]["round"]
    return watch if whole else Watch(metric, lower_is_better=lower)


def _kept(file: Path) -> dict[str, str]:
    """Return of what the best model is; nothing if there is none that can be read."""
    if not file.is_file():
        return {}
    try:
        with safe_open(file, "pt") as content:
            found: dict[str, str] = content.metadata() or {}
            return found
    except (OSError, SafetensorError):
        return {}


def describe(watch: Watch) -> str:
    """Say in words why a run ended before its last round."""
    evaluations = "1 evaluation" if watch.waited == 1 else f"{watch.waited} evaluations"
    return (
        f"{evaluations} without a better {watch.metric} than {watch.best:.4g} "
        f"of round {watch.round}"
    )
