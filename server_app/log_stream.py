"""A run folder that travels by the run's log, the one channel from a ServerApp to who submitted it.

    {"n": 1, "submission": {"bytes": 2931, "sha256": "…"}}
    {"n": 2, "part": "<base64>"}
    {"n": 3, "start": {"size": [7850, 0], "participating": 40, "new": 10, …}}
    {"n": 4, "row": {"round": 0, …}}
    {"n": 5, "note": "2 of 5 clients are there; going on"}
    {"n": 6, "clients": {"bytes": 9120, "sha256": "…"}}
    {"n": 7, "part": "<base64>"}
    {"n": 8, "model": {"bytes": 31520, "sha256": "…"}}
    {"n": 9, "part": "<base64>"}
    {"n": 10, "summary": {"rounds": 50, …}}

These are its records (see `nufed.server_app.log_records`); other lines lie between.
"""

import base64
import hashlib
import logging
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nufed.client_app.algorithm import AUTOMATIC, Algorithm, algorithm_of
from nufed.client_app.meta_gradient import Params
from nufed.client_app.work import beside, new_model
from nufed.conf.convert import to_json
from nufed.conf.schema import Config
from nufed.conf.text import printable
from nufed.server_app.log_records import RecordWriter
from nufed.server_app.log_submission import SUBMISSION, Submission
from nufed.server_app.run_folder import clients_json, finite
from nufed.server_app.tracking import Callback, Row, RunInfo, State
from nufed.strategies.curves import Evaluation
from nufed.tasks.task import Task
from nufed.tasks.trained import to_bytes

PART = 48 << 10  # bytes of a file in a record
BURST = 64  # lines of it at a time: Flower uploads what has gathered every 0.2 s, as one request
PAUSE_S = 0.25
LONGEST = 2000  # characters of a warning


def log_streams(run_config: Mapping[str, object], config: Config, folder: Path) -> list[Callback]:
    """Return the stream of a run into its log, where the run config asks for it."""
    if not run_config.get("log-stream"):
        return []
    named = run_config.get("run-dir") or config.resume or f"{config.name}/{folder.name}"
    return [LogStream(folder, Submission(to_json(config), str(named)))]


class LogStream(Callback):
    """Print a run as records, and warnings besides.

    Parameters
    ----------
    folder
        The run folder here, of which the submitter is told.
    submission
        What was submitted, for those who follow the run and did not submit it.
    """

    def __init__(self, folder: Path, submission: Submission) -> None:
        self.folder = folder
        self._say = RecordWriter().write  # now: no SuperNode has said anything yet
        self._shared: Params | None = None
        self._algorithm: Algorithm | None = None
        self._task: Task | None = None
        self._send(SUBMISSION, submission.to_bytes())
        logging.getLogger("nufed").addHandler(_Notes(self._say))

    def on_start(self, run: RunInfo) -> None:
        """Print what a submitter cannot know, after the rows of a run that is resumed."""
        for row in run.rows:
            self._say("before", finite(row))
        self._algorithm = algorithm_of(run.config.algorithm)
        facts = {"size": run.size, "participating": run.participating, "new": run.new}
        self._task = run.task
        chosen = {name: getattr(self._algorithm, name) for name in AUTOMATIC}  # by the server
        self._say("start", facts | {"steps": chosen, "folder": str(self.folder)})

    def on_round(self, row: Row, state: State) -> None:
        """Print the row; remember the model."""
        self._say("row", finite(row))
        self._shared = state.params

    def on_clients(self, evaluation: Evaluation) -> None:
        """Print each client's curve."""
        self._send("clients", clients_json(evaluation).encode())

    def on_end(self, summary: dict[str, Any]) -> None:
        """Print the model of the last good round, then the summary."""
        if self._shared is not None and self._task is not None and self._algorithm is not None:
            model = new_model(self._task, self._algorithm, self._shared)
            also = beside(model, self._shared)
            self._send("model", to_bytes(self._task, model, beside=also))
        self._say("summary", finite(summary))

    def _send(self, kind: str, data: bytes) -> None:
        """Print a file: what it must be, then its parts, between which nothing else comes."""
        self._say(kind, {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()})
        for i, start in enumerate(range(0, len(data), PART)):
            self._say("part", base64.b64encode(data[start : start + PART]).decode())
            if i % BURST == BURST - 1:
                time.sleep(PAUSE_S)


class _Notes(logging.Handler):
    """Pass on what a person is to be told."""

    def __init__(self, say: Callable[[str, object], None]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        """Print it plainly, for who reads the log, and as a record."""
        line = printable(record.getMessage())
        line = line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
        print(line, file=sys.stderr)
        self._say("note", line)
