"""What clients keep between their rounds, where their rows are: a file for a client and a round.

`read(client, before)` gives the newest state of an *earlier* round, so that a round that is
repeated, and a run that goes on from a checkpoint, begin from what they began from. What no
checkpoint asks for any more is forgotten.

    <folder>/<client>/<round>.safetensors
"""

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from safetensors import SafetensorError
from safetensors.torch import load, save

from nufed.client_app.meta_gradient import Params
from nufed.conf.errors import CannotWrite
from nufed.conf.files import is_there, read_bytes, read_text

CLIENT, ROUND = re.compile(r"([0-9]{1,18})"), re.compile(r"([0-9]{1,15})\.safetensors")
SESSION = "session"
LONGEST = 100  # characters of a session's name


class States(Protocol):
    """Where clients' states lie."""

    def read(self, client: int, before: int) -> Params:
        """Return the newest state of a round earlier than `before`; empty if there is none."""

    def keep(self, client: int, round: int, state: Params) -> None:
        """Keep the state that a round led to."""


class Held:
    """States in memory that somebody else keeps: of nobody, or those brought to a worker."""

    def __init__(self, brought: Mapping[int, Params] | None = None) -> None:
        self.brought = brought or {}
        self.kept: dict[int, Params] = {}

    def read(self, client: int, before: int) -> Params:
        """Return the state that was brought along."""
        return self.brought.get(client, {})

    def keep(self, client: int, round: int, state: Params) -> None:
        """Take note of it, for whoever keeps it."""
        self.kept[client] = state

    def on_cpu(self) -> dict[int, Params]:
        """Return what was kept, where every process can have it: tensors of their own."""
        return {
            client: {name: p.detach().cpu().clone() for name, p in state.items()}
            for client, state in self.kept.items()
        }


class StateFolder:
    """States in files.

    Parameters
    ----------
    folder
        Of one run; it need not be there.
    session
        Names the process that carries the run on. A new one goes on after round `since`; states of
        later rounds are then of rounds that will be done again.
    since
        The round after which this session began.
    saved
        The round of the oldest checkpoint that the run may go on from.

    Raises
    ------
    CannotWrite
        If the folder cannot be written.
    """

    def __init__(self, folder: Path, session: str, since: int, saved: int) -> None:
        self.folder, self.saved = folder, saved
        note = folder / SESSION
        if not is_there(note) or read_text(note, largest=LONGEST) != session:
            for client in _numbers(folder, CLIENT):
                self._remove(client, [round for round in self._rounds(client) if round > since])
            _write(note, session.encode())

    def read(self, client: int, before: int) -> Params:
        """Return the newest state of a round earlier than `before`; empty if it is lost."""
        earlier = [round for round in self._rounds(client) if round < before]
        if not earlier:
            return {}
        try:
            return load(read_bytes(self._file(client, earlier[-1])))
        except SafetensorError:  # a power cut tore it: as if it had never been written
            return {}

    def keep(self, client: int, round: int, state: Params) -> None:
        """Write a state, and forget those that no checkpoint asks for; an empty one is none.

        Raises
        ------
        CannotWrite
            If the disk is full, or not to be written to.
        """
        if not state:
            return
        old = [each for each in self._rounds(client) if each <= min(self.saved, round - 1)]
        contiguous = {name: p.detach().cpu().contiguous() for name, p in state.items()}
        _write(self._file(client, round), save(contiguous))
        self._remove(client, old[:-1])

    def _rounds(self, client: int) -> list[int]:
        """Return the rounds whose state a client has, in order."""
        return sorted(_numbers(self.folder / str(client), ROUND))

    def _remove(self, client: int, rounds: Iterable[int]) -> None:
        for round in rounds:
            self._file(client, round).unlink(missing_ok=True)

    def _file(self, client: int, round: int) -> Path:
        return self.folder / str(client) / f"{round}.safetensors"


def _numbers(folder: Path, name: re.Pattern[str]) -> list[int]:
    """Return the numbers that entries of a folder have for a name."""
    try:
        found = [name.fullmatch(entry) for entry in os.listdir(folder)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [int(each[1]) for each in found if each]


def _write(file: Path, content: bytes) -> None:
    draft = file.with_suffix(f".{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # Not forced to the disk, as a checkpoint is: a state that is lost is begun afresh.
        draft.write_bytes(content)
        draft.replace(file)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        raise CannotWrite.of(file, error) from error
