"""tracking=wandb: Weights & Biases, offline unless one asks for more."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import wandb

from nufed.conf.errors import InputError
from nufed.server_app.trackers import known_as
from nufed.server_app.trackers.scalars import flat_config, scalars
from nufed.server_app.tracking import Callback, Row, RunInfo, State

MODES = ("offline", "online")


class WandB(Callback):
    """Log every round to a run of W&B; of a run that is resumed, to the same one.

    Parameters
    ----------
    folder
        The run folder; what is to be sent later lies in its ``wandb/``.
    project
        W&B's project.
    mode
        ``offline``, sent by ``wandb sync``; or ``online``, after ``wandb login``.
    """

    def __init__(self, folder: Path, project: str, mode: str) -> None:
        if mode not in MODES:
            raise InputError(f"tracking.wandb.mode={mode}: must be {' | '.join(MODES)}")
        self.folder, self.project, self.mode = folder, project, mode

    def on_start(self, run: RunInfo) -> None:
        """Open the run."""
        name, is_new = known_as(self.folder, "wandb", lambda: uuid4().hex[:12])
        self._run = wandb.init(
            project=self.project,
            name=run.config.name,
            id=name,
            resume="allow" if self.mode == "online" else None,
            dir=self.folder,
            mode=self.mode,
            config=flat_config(run.config),
            settings=wandb.Settings(silent=True, console="off"),
        )
        for row in run.rows if is_new else ():
            self._log(row)

    def on_round(self, row: Row, state: State) -> None:
        """Log what the row has."""
        self._log(row)

    def on_end(self, summary: dict[str, Any]) -> None:
        """Close the run."""
        self._run.finish(exit_code=1 if "stopped" in summary else 0)

    def _log(self, row: Row) -> None:
        self._run.log(scalars(row), step=row["round"])
