"""A run folder, made of what a `LogStream` wrote into the run's log."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from nufed.conf.errors import CannotWrite, reason
from nufed.conf.files import write_whole
from nufed.conf.schema import Config
from nufed.conf.typed import Mistyped, made, typed
from nufed.server_app.log_files import BrokenStream, Facts, LogFile
from nufed.server_app.log_records import KEY, RecordReader
from nufed.server_app.log_submission import SUBMISSION
from nufed.server_app.run_folder import CLIENTS, MODEL, read_clients
from nufed.server_app.tracking import Callback, Row, RunInfo, State, pass_on
from nufed.server_app.written import checked_rows, checked_summary
from nufed.tasks.module_state import Size


class LogReader:
    """Make a run folder out of the records that a `LogStream` printed.

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
        """Rounds that are done, as far as rows have come."""
        self.summary: dict[str, Any] | None = None
        """The server's summary, the last thing that comes."""
        self.next = 0
        """The number of the record that is waited for."""
        self.missing: str | None = None
        """What is wrong with the records so far; None if nothing is."""
        self._records = RecordReader()
        self._before: list[Row] = []
        self._files: list[LogFile] = []
        self._take: dict[str, Callable[[Any], None]] = {
            KEY: lambda key: None,
            SUBMISSION: partial(self._take_file, SUBMISSION),
            "before": self._take_before,
            "start": self._take_start,
            "row": self._take_row,
            "note": lambda text: note(typed(text, str, "a note")),
            "model": partial(self._take_file, MODEL),
            "clients": partial(self._take_file, CLIENTS),
            "part": self._take_part,
            "summary": self._take_summary,
        }

    def again(self) -> None:
        """Begin anew: the log comes from its beginning once more."""
        self._records.again()

    def read(self, line: str) -> str:
        """Take a line of the log; return what of it is not for us.

        A record that came before is passed over, and so are all after a gap: the log can be read
        again from its beginning, with the same reader.

        Raises
        ------
        BrokenStream
            If what a record says is not what it is to say, or a file that came is not the one that
            was sent.
        CannotWrite
            If a file that came cannot be written.
        """
        try:
            record = self._records.read(line)
            if record is None:
                return line if line.strip() else ""
            if record.number > self.next:
                self.missing = (
                    f"records {self.next} to {record.number - 1} of the run's log are missing"
                )
            elif record.number == self.next:
                if record.kind not in self._take:
                    raise Mistyped(f"is of an unknown kind {record.kind!r:.40}")
                self.missing = None
                self.next += 1
                self._take[record.kind](record.value)
        except Mistyped as error:
            raise BrokenStream(f"record {self.next} of the run's log: {error}") from error
        return ""

    def _take_before(self, row: object) -> None:
        self._before = checked_rows([*self._before, row])

    def _take_start(self, said: object) -> None:
        start = made(_Start, said)
        self._files.clear()  # what was submitted, which is known here
        self.server_folder = start.folder
        algorithm = self.config.algorithm | asdict(start.steps)
        self.config = replace(self.config, algorithm=algorithm)
        if self._before:
            self.rounds = self._before[-1]["round"]
        for callback in self.callbacks:
            counted = RunInfo(self.config, Size(*start.size), start.participating, start.new)
            callback.on_start(replace(counted, rows=tuple(self._before)))
        self.started = True

    def _take_row(self, said: object) -> None:
        (row,) = checked_rows([said])
        self.rounds = row["round"]
        pass_on(row, State(row["round"], {}, {}), self.callbacks)

    def _take_file(self, name: str, said: object) -> None:
        self._files.append(LogFile(name, made(Facts, said)))

    def _take_part(self, text: object) -> None:
        if not self._files:
            raise Mistyped("a part of no file")
        self._files[-1].take(text)

    def _take_summary(self, said: object) -> None:
        summary = checked_summary(said)
        for file in self._files:
            file.require_whole()
        for file in self._files:
            if file.name == CLIENTS:
                self._pass_on_clients(file)
            try:
                write_whole(self.folder / file.name, file.data)
            except OSError as error:
                raise CannotWrite.of(self.folder / file.name, error) from error
        self.summary = summary

    def _pass_on_clients(self, file: LogFile) -> None:
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
