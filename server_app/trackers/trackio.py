"""tracking=trackio: Trackio, on this machine (trackio show)."""

from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from uuid import uuid4

import trackio

from nufed.server_app.trackers import known_as
from nufed.server_app.trackers.scalars import flat_config, scalars
from nufed.server_app.tracking import Callback, Row, RunInfo, State


class Trackio(Callback):
    """Log every round to a run of Trackio; of a run that is resumed, to the same one.

    Parameters
    ----------
    folder
        The run folder.
    project
        Trackio's project.
    """

    def __init__(self, folder: Path, project: str) -> None:
        self.folder, self.project = folder, project

    def on_start(self, run: RunInfo) -> None:
        """Open the run."""
        own = f"{run.config.name}-{uuid4().hex[:6]}"
        name, is_new = known_as(self.folder, "trackio", lambda: own)
        with redirect_stdout(None):  # it would print how to look at it
            self._run = trackio.init(
                project=self.project,
                name=name,
                config=flat_config(run.config),
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        for row in run.rows if is_new else ():
            self._log(row)

    def on_round(self, row: Row, state: State) -> None:
        """Log what the row has."""
        self._log(row)

    def on_end(self, summary: dict[str, Any]) -> None:
        """Close the run."""
        with redirect_stdout(None):
            self._run.finish()

    def _log(self, row: Row) -> None:
        self._run.log(scalars(row), step=row["round"])
