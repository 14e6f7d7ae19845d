"""The run folder: metrics.jsonl, clients.json, summary.json, config.yaml."""

import json
import math
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError

from nufed.client_app.meta_gradient import Params
from nufed.conf.compose import CONFIG, to_file
from nufed.conf.errors import CannotWrite, InputError, reason
from nufed.conf.files import read_text, write_whole
from nufed.conf.typed import parsed
from nufed.server_app.tracking import Callback, Row, RunInfo, State
from nufed.server_app.written import TEST_ROWS, checked_clients, checked_rows
from nufed.strategies.curves import GROUPS, Evaluation, Members
from nufed.tasks.task import Task
from nufed.tasks.trained import MODEL as MODEL  # of a run folder too
from nufed.tasks.trained import to_bytes

METRICS, SUMMARY = "metrics.jsonl", "summary.json"
SUBMITTED = "submitted.json"
"""Where a run was submitted: the server that has it, and how it is called there."""
CLIENTS = "clients.json"
"""What the last evaluation measured, client by client; rows of metrics.jsonl stay small."""
REPORT = "report.html"
LARGEST = 1 << 30
"""Bytes of a record that are read. A round's row takes some kB, a client of clients.json 100 bytes:
what is larger is no record, and to read it would take the memory."""
RESCUED = "rescued"
"""In a summary, the folder that took what the run's own could not."""

T = TypeVar("T")


class RunFolder(Callback):
    """Write what a run leaves behind; a row as soon as it is known, the rest at the end.

    Parameters
    ----------
    path
        The run folder.
    again
        Whether it holds a part of this very run, all of which comes again.
    """

    def __init__(self, path: Path, again: bool = False) -> None:
        self.path, self._again = path, again
        self._lost: CannotWrite | None = None

    def on_start(self, run: RunInfo) -> None:
        """Write the configuration, and metrics.jsonl as far as it goes.

        Raises
        ------
        InputError
            If the folder cannot be written; or holds a run already, and none is resumed.
        """
        if run.rows or self._again:
            try:
                write_whole(self.path / METRICS, "".join(map(_line, run.rows)).encode())
            except OSError as error:
                raise _unwritable(self.path, error) from error
            (self.path / SUMMARY).unlink(missing_ok=True)  # of the end that was not one
        else:
            require_free(self.path)
            try:
                (self.path / METRICS).open("x").close()  # another may have found it free too
            except FileExistsError as error:
                raise _taken(self.path) from error
            except OSError as error:
                raise _unwritable(self.path, error) from error
        try:
            write_whole(self.path / CONFIG, to_file(run.config).encode())
        except OSError as error:
            if not (run.rows or self._again):
                (self.path / METRICS).unlink()
            raise _unwritable(self.path, error) from error

    def on_round(self, row: Row, state: State) -> None:
        """Append the row, whole or not at all."""
        try:
            append(self.path / METRICS, _line(row).encode())
        except OSError as error:
            raise CannotWrite.of(self.path / METRICS, error) from error

    def on_clients(self, evaluation: Evaluation) -> None:
        """Write each client's curve."""
        content = clients_json(evaluation).encode()
        try:
            write_whole(self.path / CLIENTS, content)
        except OSError as error:  # told at the end: the model is yet to be written
            self._lost = CannotWrite.of(self.path / CLIENTS, error)

    def on_end(self, summary: dict[str, Any]) -> None:
        """Write the summary."""
        if self._lost is not None:
            summary.setdefault("stopped", str(self._lost))
        try:
            write_whole(self.path / SUMMARY, _pretty(summary))
        except OSError as error:
            summary.setdefault("stopped", str(CannotWrite.of(self.path / SUMMARY, error)))
            if RESCUED in summary:
                with suppress(OSError):
                    write_whole(Path(summary[RESCUED]) / SUMMARY, _pretty(summary))


def require_free(path: Path) -> None:
    """Make the folder of a run to be, if it is not there.

    Raises
    ------
    InputError
        If it cannot be written, or holds a run already.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        if (path / METRICS).exists():
            raise _taken(path)
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise _unwritable(path, error) from error


def clients_json(evaluation: Evaluation) -> str:
    """Return an evaluation as JSON: group -> client ids, train and test rows, metrics' curves.

    Numbers have six digits: so many are measured in float32, and 100,000 clients take 10 MB.
    """
    content: dict[str, Any] = {"round": evaluation.round}
    for group, members in evaluation.groups.items():
        known = {} if members.test_rows is None else {TEST_ROWS: members.test_rows}
        content[group] = {"client": members.clients, "rows": members.rows, **known} | {
            name: [[float(f"{value:.6g}") for value in curve] for curve in curves]
            for name, curves in members.curves.items()
        }
    return json.dumps(finite(content), separators=(",", ":")) + "\n"


def read_clients(text: str | bytes | bytearray) -> Evaluation:
    """Return what `clients_json` wrote, to its six digits.

    Raises
    ------
    ValueError, TypeError, KeyError, AttributeError
        If it is something else.
    """
    content = checked_clients(parsed(text))
    groups = dict[str, Members]()
    for group in (group for group in GROUPS if group in content):
        curves = dict(content[group])
        clients, rows = curves.pop("client"), curves.pop("rows")
        test_rows = curves.pop(TEST_ROWS, None)
        stacked = {name: np.array(values, np.float64) for name, values in curves.items()}
        groups[group] = Members(clients, rows, stacked, test_rows)
    return Evaluation(int(content["round"]), groups)


def whole_rows(file: Path) -> list[Row]:
    """Return the rows of metrics.jsonl, to which a run may still be writing."""
    lines = read_text(file, largest=LARGEST).split(
        "\n"
    )  # no other ends a line: texts within may hold any
    return checked_rows([parsed(line) for line in lines[:-1]])


def read_json(check: Callable[[object], T], file: Path) -> T:
    """Return what a record holds that is one JSON value, checked; errors are for `load`."""
    return check(parsed(read_text(file, largest=LARGEST)))


def load(file: Path, read: Callable[[Path], T]) -> T:
    """Return ``read(file)`` of a file of a run, which somebody may have changed.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    try:
        return read(file)
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"{file}: cannot be read ({reason(error)})") from error


def save_model(
    path: Path,
    task: Task,
    params: Params,
    facts: Mapping[str, object] | None = None,
    beside: Params | None = None,
) -> None:
    """Write a model, as `nufed.tasks.trained.to_bytes` has it, whole or not at all.

    Raises
    ------
    CannotWrite
        If the disk is full, or the folder is not there any more.
    """
    try:
        write_whole(path, to_bytes(task, params, facts, beside))
    except OSError as error:
        raise CannotWrite.of(path, error) from error


def append(file: Path, line: bytes) -> None:
    """Append a line to a file, whole or not at all.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    with file.open("ab", buffering=0) as out:
        begin = out.tell()
        try:
            while line:  # at the edge of a full disk, some of it is written first
                line = line[out.write(line) :]
        except OSError:
            with suppress(OSError):
                out.truncate(begin)
            raise


def _pretty(summary: Mapping[str, Any]) -> bytes:
    return (json.dumps(finite(dict(summary)), indent=2) + "\n").encode()


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: cannot be written ({error.strerror}); name another folder")


def _line(row: Row) -> str:
    return json.dumps(finite(row)) + "\n"


def _taken(path: Path) -> InputError:
    return InputError(f"{path}: holds a run already; name another folder")


def finite(value: Any) -> Any:
    """Return `value` with NaN and infinity, which JSON does not know, as None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return value
