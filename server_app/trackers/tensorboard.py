"""tracking=tensorboard: event files in the run folder, written in step with the rounds.

Synchronously, through TensorBoard's own record writer: its event writer's thread would tell of a
full disk by a traceback, and of a row only after minutes.
"""

import socket
import time
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import summary as summaries

from nufed.conf.convert import to_yaml
from nufed.server_app.trackers.scalars import (
    evaluation_scalars,
    flat_config,
    means,
    round_scalars,
    scalars,
)
from nufed.server_app.tracking import Callback, Row, RunInfo, State
from nufed.strategies.curves import GROUPS

FOLDER = "tensorboard"
COMPARED = ("algorithm.", "seed", "dataset.name", "partition.name", "clients_per_round")
"""Keys, by how they start, that the HPARAMS tab compares runs by."""


class TensorBoard(Callback):
    """Write scalars, the configuration as text, and what the HPARAMS tab shows.

    Parameters
    ----------
    folder
        The run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / FOLDER
        self._last = -1
        self._laid_out = False

    def on_start(self, run: RunInfo) -> None:
        """Open an event file; of a run that is resumed it takes up the curves where they were."""
        goes_on = self.folder.exists()
        self.folder.mkdir(exist_ok=True)
        # By name they are read, in the order that they were begun in.
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}"
        self._file = (self.folder / name).open("wb")
        self._writer = RecordWriter(self._file)
        self._add(Event(file_version="brain.Event:2"))
        if goes_on and run.rows:  # what was drawn of later rounds is void
            log = SessionLog(status=SessionLog.START)
            self._add(Event(session_log=log, step=run.rows[-1]["round"] + 1))
        for row in () if goes_on else run.rows:
            self._draw(row, scalars(row))
        config = to_yaml(run.config)
        self._add_summary(summaries.text("config", f"```yaml\n{config}```"), 0)
        for part in _hparams(run)[:2]:
            self._add_summary(part, 0)
        self._file.flush()

    def on_round(self, row: Row, state: State) -> None:
        """Draw what every round has."""
        self._draw(row, round_scalars(row))

    def on_evaluation(self, row: Row, state: State) -> None:
        """Draw the means after each k, and the other statistics after the last."""
        found = evaluation_scalars(row)
        if not self._laid_out:
            self._add_summary(summaries.custom_scalars(_layout(row)), row["round"])
            self._laid_out = True
        self._draw(row, found)

    def on_end(self, summary: dict[str, Any]) -> None:
        """Close the file."""
        self._file.close()

    def _draw(self, row: Row, values: dict[str, float]) -> None:
        found = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._add_summary(Summary(value=found), row["round"])
        self._file.flush()

    def _add_summary(self, summary: Summary, step: int) -> None:
        self._add(Event(summary=summary, step=step))

    def _add(self, event: Event) -> None:
        event.wall_time = time.time()
        self._writer.write(event.SerializeToString())


def _hparams(run: RunInfo) -> tuple[Summary, ...]:
    """Return what the HPARAMS tab shows of a run: its keys, and how it ends."""
    keys = {
        key: value
        for key, value in flat_config(run.config).items()
        if key.startswith(COMPARED) and isinstance(value, str | int | float)
    }
    last = run.config.evaluation.steps
    usual = ["mae" if run.task and not run.task.classification else "accuracy"]
    own = run.config.task.metrics
    names = ["loss", *(usual if own is None else own)]
    ends = {f"{group}/{name}_k{last}": 0.0 for group in GROUPS for name in names}
    found: tuple[Summary, ...] = summaries.hparams(keys, ends)
    return found


def _layout(row: Row) -> dict[str, Any]:
    """Return charts with the personalization curves' points, each k a line over the rounds."""
    return {
        group: {
            metric: ["Multiline", [f"{group}/{metric}_k{k}" for k in row[group]["k"]]]
            for metric in means(row[group])
        }
        for group in GROUPS
        if group in row
    }
