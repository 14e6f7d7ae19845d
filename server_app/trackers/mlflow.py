"""tracking=mlflow: MLflow, in a local file unless a server is named."""

import time
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from nufed.server_app.trackers import known_as
from nufed.server_app.trackers.scalars import flat_config, scalars
from nufed.server_app.tracking import Callback, Row, RunInfo, State

LONGEST = 500  # characters of a parameter


class MLflow(Callback):
    """Log every round to a run of MLflow; of a run that is resumed, to the same one.

    Parameters
    ----------
    folder
        The run folder, which names the run.
    experiment
        MLflow's experiment; made if there is none.
    uri
        The tracking server or store.
    """

    def __init__(self, folder: Path, experiment: str, uri: str) -> None:
        self.folder, self.experiment, self.uri = folder, experiment, uri

    def on_start(self, run: RunInfo) -> None:
        """Open the run, with the configuration as its parameters."""
        self._client = client = MlflowClient(self.uri)
        name = run.config.name
        self._id, is_new = known_as(self.folder, "mlflow", lambda: self._new(name))
        client.update_run(self._id, status="RUNNING")
        known = client.get_run(self._id).data.params  # a parameter never changes
        params = {key: str(value)[:LONGEST] for key, value in flat_config(run.config).items()}
        new = [Param(key, value) for key, value in params.items() if key not in known]
        client.log_batch(self._id, params=new)
        for row in run.rows if is_new else ():
            self._log(row)

    def _new(self, name: str) -> str:
        found = self._client.get_experiment_by_name(self.experiment)
        experiment = (
            self._client.create_experiment(self.experiment)
            if found is None
            else found.experiment_id
        )
        return str(self._client.create_run(experiment, run_name=name).info.run_id)

    def on_round(self, row: Row, state: State) -> None:
        """Log what the row has."""
        self._log(row)

    def on_end(self, summary: dict[str, Any]) -> None:
        """Close the run."""
        self._client.set_terminated(self._id, "FAILED" if "stopped" in summary else "FINISHED")

    def _log(self, row: Row) -> None:
        now = round(time.time() * 1000)
        metrics = [Metric(tag, value, now, row["round"]) for tag, value in scalars(row).items()]
        self._client.log_batch(self._id, metrics)
