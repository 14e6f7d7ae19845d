"""submitted.json: which run, on which SuperLink, makes a run folder; it outlives the command."""

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from nufed.conf.errors import InputError
from nufed.conf.files import is_there, read_text, write_whole
from nufed.conf.typed import Mistyped, made, parsed
from nufed.server_app.run_folder import SUBMITTED as FILE

LARGEST = 1 << 20  # bytes of it, which has one short line
RUNS = "runs"
"""Where run folders are, unless a person says otherwise."""

log = logging.getLogger("nufed")


@dataclass(frozen=True)
class Submitted:
    """A run that was submitted."""

    superlink: str
    run_id: str
    """Empty where it is not known whether the SuperLink has the run."""
    run_dir: str
    """The name of its folder on the server's side."""

    def __post_init__(self) -> None:
        if self.run_id and not self.run_id.isdecimal():  # it becomes a word of a command
            raise Mistyped("run_id is not a number")

    @classmethod
    def of(cls, folder: Path) -> Self | None:
        """Return what a run folder follows, or followed; None if no server has its run.

        Raises
        ------
        InputError
            If that cannot be read.
        """
        file = folder / FILE
        if not is_there(file):
            return None
        try:
            return made(cls, parsed(read_text(file, largest=LARGEST)))
        except ValueError as error:
            raise InputError(f"{file}: cannot be read; delete it") from error

    def note_down(self, folder: Path) -> None:
        """Write it into a run folder."""
        write_whole(folder / FILE, f"{json.dumps(asdict(self))}\n".encode())


def followed() -> dict[str, Path]:
    """Return the run folders below runs/ that follow a run of a SuperLink, by its id.

    The newest, where several do. One whose submitted.json cannot be read is told of.
    """
    found = dict[str, Path]()
    files = [file for file in Path(RUNS).rglob(FILE) if file.is_file()]
    for file in sorted(files, key=lambda each: each.stat().st_mtime):
        try:
            if there := Submitted.of(file.parent):
                found[there.run_id] = file.parent
        except InputError as error:
            log.warning("%s", error)
    return found
