"""A run folder that travels by the run's log, the one channel from a ServerApp to who submitted it.

    @@nufed@@ {"n": 0, "start": {"size": [7850, 0], "participating": 40, "new": 10, …}}
    @@nufed@@ {"n": 1, "row": {"round": 0, …}}
    @@nufed@@ {"n": 2, "note": "2 of 5 clients are there; going on"}
    @@nufed@@ {"n": 3, "clients": {"bytes": 9120, "sha256": "…"}}
    @@nufed@@ {"n": 4, "part": "<base64>"}
    @@nufed@@ {"n": 5, "model": {"bytes": 31520, "sha256": "…"}}
    @@nufed@@ {"n": 6, "part": "<base64>"}
    @@nufed@@ {"n": 7, "summary": {"rounds": 50, …}}

Lines are numbered: Flower may lose some of a log, or deliver some twice. Other lines lie between.
"""

import base64
import hashlib
import itertools
import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from client_app.meta_gradient import Params
from conf.errors import NuFedError, reason
from conf.files import write_whole
from conf.schema import Config
from conf.text import printable
from conf.typed import Mistyped, made, parsed, typed
from server_app.run_folder import CLIENTS, MODEL, clients_json, finite, read_clients
from server_app.tracking import Callback, Row, RunInfo, State, pass_on
from server_app.written import checked_rows, checked_summary
from strategies.curves import Evaluation
from tasks.module_state import Size
from tasks.task import Task
from tasks.trained import to_bytes

MARK = "@@nufed@@ "  # ASCII: the locale of a container may know no more
PART = 48 << 10  # bytes of a file in a line
BURST = 64  # lines of it at a time: Flower uploads what has gathered every 0.2 s, as one request
PAUSE_S = 0.25


def log_streams(run_config: Mapping[str, object], folder: Path) -> list[Callback]:
    """Return the stream of a run into its log, where the run config asks for it."""
    return [LogStream(folder)] if run_config.get("log-stream") else []


class LogStream(Callback):
    """Print a run as numbered lines of JSON, and warnings besides.

    Parameters
    ----------
    folder
        The run folder here, of which the submitter is told.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._params: Params = {}
        self._task: Task | None = None
        logging.getLogger("nufed").addHandler(_Notes(self._say))

    def on_start(self, run: RunInfo) -> None:
        """Print what a submitter cannot know, after the rows of a run that is resumed."""
        for row in run.rows:
            self._say("before", finite(row))
        a = run.config.algorithm
        facts = {"size": run.size, "participating": run.participating, "new": run.new}
        self._task = run.task
        steps = {"alpha": a.alpha, "beta": a.beta}  # which the server may have chosen
        self._say("start", facts | {"steps": steps, "folder": str(self.folder)})

    def on_round(self, row: Row, state: State) -> None:
        """Print the row; remember the model."""
        self._say("row", finite(row))
        self._params = state.params

    def on_clients(self, evaluation: Evaluation) -> None:
        """Print each client's curve."""
        self._send("clients", clients_json(evaluation).encode())

    def on_end(self, summary: dict[str, Any]) -> None:
        """Print the model of the last good round, then the summary."""
        if self._params and self._task is not None:
            self._send("model", to_bytes(self._task, self._params))
        self._say("summary", finite(summary))

    def _send(self, kind: str, data: bytes) -> None:
        """Print a file: what it must be, then its parts."""
        self._say(kind, {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()})
        for i, start in enumerate(range(0, len(data), PART)):
            self._say("part", base64.b64encode(data[start : start + PART]).decode())
            if i % BURST == BURST - 1:
                time.sleep(PAUSE_S)

    def _say(self, kind: str, content: object) -> None:
        with self._lock:
            line = json.dumps({"n": next(self._numbers), kind: content})
            sys.stdout.write(f"{MARK}{line}\n")  # at once: other threads print too


class _Notes(logging.Handler):
    """Pass on what a person is to be told."""

    def __init__(self, say: Callable[[str, object], None]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        """Print it plainly, for who reads the log, and numbered."""
        print(printable(record.getMessage()), file=sys.stderr)
        self._say("note", record.getMessage())


class BrokenStream(NuFedError):
    """The lines of a log do not make up a run folder; the text says why."""


class LogReader:
    """Make a run folder out of the lines that a `LogStream` printed.

    Parameters
    ----------
    config
        The configuration that was submitted.
    folder
        Where the model and the clients' curves go; they appear whole or not at all.
    callbacks
        Called as the server's are: without models, and `on_end` is left to the caller.
    note
        Called with each warning of the server.
    """

    def __init__(
        self,
        config: Config,
        folder: Path,
        callbacks: list[Callback],
        note: Callable[[str], None],
    ) -> None:
        self.config, self.folder, self.callbacks = config, folder, callbacks
        self.server_folder: str | None = None
        """The server's run folder, once it is known."""
        self.started = False
        self.rounds = 0
        """Rounds whose row has come."""
        self.summary: dict[str, Any] | None = None
        """The server's summary, the last thing that comes."""
        self.next = 0
        """The number of the line that is waited for."""
        self.missing: str | None = None
        """What is wrong with the lines so far; None if nothing is."""
        self._before: list[Row] = []
        self._files: list[_File] = []
        self._take: dict[str, Callable[[Any], None]] = {
            "before": self._take_before,
            "start": self._take_start,
            "row": self._take_row,
            "note": lambda text: note(typed(text, str, "a note")),
            "model": partial(self._take_file, MODEL),
            "clients": partial(self._take_file, CLIENTS),
            "part": self._take_part,
            "summary": self._take_summary,
        }

    def read(self, line: str) -> str:
        """Take a line of the log; return what of it is not for us.

        A line that came before is passed over, and so are all after a gap: the log can be read
        again from its beginning, with the same reader.

        Raises
        ------
        BrokenStream
            If a file that came is not the one that was sent.
        """
        plain, mark, text = line.partition(MARK)
        if not mark:
            return line
        try:
            content = typed(parsed(text), dict[str, Any], "a line")
            number = typed(content.pop("n"), int, "n")
            ((kind, value),) = content.items()
            take = self._take[kind]
        except (ValueError, KeyError):
            self.missing = f"line {self.next} of the run's record is damaged: {text.strip():.60}"
            return plain
        if number > self.next:
            self.missing = f"lines {self.next} to {number - 1} of the run's record are missing"
        elif number == self.next:
            self.missing = None
            self.next += 1
            try:
                take(value)
            except Mistyped as error:
                raise BrokenStream(f"line {number} of the run's record: {error}") from error
        return plain

    def _take_before(self, row: object) -> None:
        self._before = checked_rows([*self._before, row])

    def _take_start(self, said: object) -> None:
        start = made(_Start, said)
        self.server_folder = start.folder
        algorithm = replace(self.config.algorithm, **asdict(start.steps))
        self.config = replace(self.config, algorithm=algorithm)
        self.started = True
        for callback in self.callbacks:
            counted = RunInfo(self.config, Size(*start.size), start.participating, start.new)
            callback.on_start(replace(counted, rows=tuple(self._before)))

    def _take_row(self, said: object) -> None:
        (row,) = checked_rows([said])
        self.rounds = row["round"]
        pass_on(row, State(row["round"], {}, {}), self.callbacks)

    def _take_file(self, name: str, said: object) -> None:
        self._files.append(_File(name, made(_Facts, said)))

    def _take_part(self, text: object) -> None:
        if not self._files:
            raise Mistyped("a part of no file")
        file = self._files[-1]
        try:
            file.data += base64.b64decode(typed(text, str, "a part"), validate=True)
        except ValueError as error:
            raise BrokenStream(f"{file.name} in the run's log is damaged ({error})") from error
        if len(file.data) > file.facts.bytes:
            raise BrokenStream(f"{file.name} in the run's log is longer than it was to be")

    def _take_summary(self, said: object) -> None:
        summary = checked_summary(said)
        for file in self._files:
            file.require_whole()
        for file in self._files:
            if file.name == CLIENTS:
                self._pass_on_clients(file)
            write_whole(self.folder / file.name, file.data)
        self.summary = summary

    def _pass_on_clients(self, file: "_File") -> None:
        try:
            evaluation = read_clients(file.data)
        except ValueError as error:
            raise BrokenStream(f"{file.name} in the run's log: {reason(error)}") from error
        for callback in self.callbacks:
            callback.on_clients(evaluation)


@dataclass(frozen=True)
class _Steps:
    """The step sizes of a run."""

    alpha: float
    beta: float


@dataclass(frozen=True)
class _Start:
    """What a submitter cannot know."""

    size: list[int]
    participating: int
    new: int
    steps: _Steps
    folder: str


@dataclass(frozen=True)
class _Facts:
    """What a file must be."""

    bytes: int
    sha256: str


@dataclass
class _File:
    """A file of the run folder, as far as it has come."""

    name: str
    facts: _Facts
    data: bytearray = field(default_factory=bytearray)

    def require_whole(self) -> None:
        """Raise a `BrokenStream` unless this is what was sent."""
        digest = hashlib.sha256(self.data).hexdigest()
        if len(self.data) != self.facts.bytes or digest != self.facts.sha256:
            raise BrokenStream(
                f"{self.name} in the run's log has {len(self.data)} of {self.facts.bytes} bytes "
                "or another checksum than the one that was sent"
            )
