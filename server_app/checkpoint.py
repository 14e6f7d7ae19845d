"""Checkpoints: all that a run needs to go on, in one file that is whole or not there.

    <run folder>/checkpoint/000020.3f2a….safetensors

The name holds the round and a checksum of the content, so that no byte of it changes unnoticed. A
file appears by a rename, once its content has reached the disk, and the one before it stays.
"""

import fcntl
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save

from nufed.client_app.meta_gradient import Params
from nufed.conf.compose import CONFIG, to_file
from nufed.conf.convert import read_values
from nufed.conf.errors import InputError, NuFedError, reason
from nufed.conf.files import read_bytes, replacing, write_whole
from nufed.conf.typed import made, parsed, typed
from nufed.conf.words import command_line
from nufed.server_app.model_file import elsewhere
from nufed.server_app.releases import Ledger
from nufed.server_app.run_folder import RESCUED, finite
from nufed.server_app.sound import require_sound
from nufed.server_app.tracking import Callback, Row, State
from nufed.tasks.streams import DRAWS

FOLDER = "checkpoint"
KEPT = 2
NAME = re.compile(r"([0-9]{6,15})\.([0-9a-f]{32})\.safetensors")

log = logging.getLogger("nufed")


@dataclass(frozen=True)
class Checkpoint:
    """A run up to the end of a round."""

    state: State
    rows: tuple[Row, ...]
    """metrics.jsonl so far."""
    config: dict[str, Any]
    """The configuration, as `dataclasses.asdict` gives it."""
    num_clients: int
    new_clients: list[int]
    """The federation, and who of it never trains: with the seed, all that sampling depends on."""
    wall_s: float
    """Seconds that the run took so far."""
    data: str | None = None
    """Digest of the data set's rows, where they are here."""
    draws: int = DRAWS
    """Of `nufed.tasks.streams`: who samples, trains and is held out."""
    buffers: Params = field(default_factory=dict)
    """Those of the model."""
    frozen: str | None = None
    """A checksum of the parameters that do not train; None of an older version's checkpoint."""


class Checkpoints(Callback):
    """Save a run every so many rounds, and once more at its end.

    Parameters
    ----------
    folder
        The run folder.
    every
        Rounds between checkpoints; None only at the end.
    first
        What a checkpoint before the first round would be: where the run starts or goes on.
    ledger
        The releases of a private run, which go along where it is to be resumed from elsewhere.
    """

    def __init__(
        self, folder: Path, every: int | None, first: Checkpoint, ledger: Ledger | None = None
    ) -> None:
        self.folder, self.every, self.ledger = folder, every, ledger
        self.latest = self._saved = first
        self._told = False  # that none can be written
        self._started = time.monotonic() - first.wall_s

    def on_round(self, row: Row, state: State) -> None:
        """Take note of a round, and save the run when it is due."""
        rows, wall_s = (*self.latest.rows, row), time.monotonic() - self._started
        self.latest = replace(self.latest, state=state, rows=rows, wall_s=wall_s)
        if self.every is not None and state.round > 0 and state.round % self.every == 0:
            self.save()

    def save(self) -> bool:
        """Save the run after its last whole round, unless that is done; return whether it is."""
        if self.latest is self._saved:
            return True
        try:
            write(self.latest, self.folder)
        except OSError as error:  # full, perhaps not for long: no reason to lose the run over it
            if not self._told:
                why, self._told = error.strerror, True
                log.warning("%s: no checkpoint can be written (%s)", self.folder / FOLDER, why)
            return False
        self._saved, self._told = self.latest, False
        return True

    def on_end(self, summary: dict[str, Any]) -> None:
        """Save the run; write how long it took into the summary, and how to go on where one can."""
        place, saved = self.folder, self.save()
        summary["wall_s"] = self.latest.wall_s
        if not summary.get("resumable"):
            return
        if not saved and (rescued := self._rescue(summary)):
            place, summary[RESCUED] = rescued, str(rescued)
        summary["resumable"] = bool(_files(place))
        if summary["resumable"]:
            summary["stopped"] += f"; go on with: {command_line('nufed', resume=place)}"

    def _rescue(self, summary: Mapping[str, Any]) -> Path | None:
        """Save the run where it can be resumed from: beside the model, or where there is room."""
        if RESCUED not in summary:
            return elsewhere(self._write_run)
        place = Path(summary[RESCUED])
        try:
            self._write_run(place)
        except OSError:
            return None
        return place

    def _write_run(self, folder: Path) -> None:
        if self.ledger is not None:  # first: without it, a checkpoint could be resumed
            self.ledger.write(folder)
        write(self.latest, folder)
        write_whole(folder / CONFIG, to_file(read_values(self.latest.config)).encode())


def write(checkpoint: Checkpoint, run: Path) -> Path:
    """Write a checkpoint of the run in the folder `run`, and keep the one before it.

    Older ones are removed; and those of later rounds, which a resumed run could not use.

    Raises
    ------
    OSError
        If it cannot be written. Those that were there before are as they were.
    """
    folder = run / FOLDER
    folder.mkdir(exist_ok=True)
    content = _pack(checkpoint)
    file = folder / f"{checkpoint.state.round:06}.{_checksum(content)}.safetensors"
    with replacing(file) as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    with _opened(folder) as directory:
        os.fsync(directory)
    files = _files(run)
    mine = files.index(file)
    for other in files[:mine] + files[mine + KEPT :]:
        other.unlink()
    return file


def read(run: Path) -> Checkpoint:
    """Read the newest checkpoint of a run that is as it was written; say which ones are not.

    Raises
    ------
    InputError
        If there is none.
    """
    file = newest(run)
    try:
        saved = _unpack(file)
        require_sound(saved, int(file.name.split(".")[0]))
        return saved
    except NuFedError:
        raise
    except Exception as error:  # whole, but not what a run writes: of what kind, who knows
        raise InputError(f"{file}: is no checkpoint of a run ({reason(error):.200})") from error


@contextmanager
def alone(run: Path, remedy: str = "wait for it, or end it") -> Iterator[None]:
    """Hold the folder of a run, so that no other process takes up the same run meanwhile.

    Parameters
    ----------
    remedy
        What a person can do if another does, for the error.

    Raises
    ------
    InputError
        If another process holds it.
    """
    with _opened(run) as directory:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the process
        except BlockingIOError as error:
            raise InputError(f"{run}: this run is going on in another process; {remedy}") from error
        yield


def newest(run: Path) -> Path:
    """Return the file of a run's newest checkpoint that is as it was written; errors as `read`."""
    for file in _files(run):
        match = NAME.fullmatch(file.name)
        if match and match[2] == _checksum(read_bytes(file)):
            return file
        log.warning("%s: is not what was written (truncated or edited); not used", file)
    raise InputError(
        f"resume={run}: holds no checkpoint that can be used; one of engine=deployment is in the "
        "server's run folder, else start the run anew"
    )


def saved_rounds(run: Path) -> list[int]:
    """Return the rounds of the checkpoints that a run may go on from, the newest first."""
    return [int(file.name.split(".")[0]) for file in _files(run)[:KEPT]]


def _pack(checkpoint: Checkpoint) -> bytes:
    """Return a checkpoint as safetensors: tensors, and the rest as JSON in their metadata."""
    state, values = checkpoint.state, dict[str, Any]()
    tensors = {f"model/{name}": tensor for name, tensor in state.params.items()}
    for key, value in state.strategy.items():
        if isinstance(value, torch.Tensor):
            tensors[f"strategy/{key}"] = value
        else:
            values[key] = value
    tensors |= {f"buffers/{name}": tensor for name, tensor in checkpoint.buffers.items()}
    rest = vars(checkpoint) | {"state": {"round": state.round, "strategy": values}}
    del rest["buffers"]
    contiguous = {name: tensor.cpu().contiguous().clone() for name, tensor in tensors.items()}
    return save(contiguous, {"checkpoint": json.dumps(finite(rest))})


def _unpack(file: Path) -> Checkpoint:
    """Read what `_pack` made."""
    tensors: dict[str, Params] = {"model": {}, "strategy": {}, "buffers": {}}
    with safe_open(file, "pt") as content:
        rest = typed(parsed(content.metadata()["checkpoint"]), dict[str, Any], "checkpoint")
        for path in content.keys():  # noqa: SIM118  (no dictionary)
            owner, _, name = path.partition("/")
            tensors[owner][name] = content.get_tensor(path)
    said = made(_Said, rest.pop("state"))
    state = State(said.round, tensors["model"], tensors["strategy"] | said.strategy)
    older = {"draws": 1}  # which do not say so
    return made(Checkpoint, older | rest, state=state, buffers=tensors["buffers"])


@dataclass(frozen=True)
class _Said:
    """The part of a run's state that is JSON."""

    round: int
    strategy: dict[str, Any]


def _files(run: Path) -> list[Path]:
    """Return the checkpoints of a run, the newest first."""
    folder = run / FOLDER
    found = [f for f in folder.iterdir() if NAME.fullmatch(f.name)] if folder.is_dir() else []
    # By round; of two of the same round, which a resumed run leaves, by when they were written.
    return sorted(found, key=lambda f: (int(f.name.split(".")[0]), f.stat().st_mtime), reverse=True)


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    """Open a folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
