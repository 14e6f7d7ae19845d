"""The model that a run leaves behind, which is not lost where the run's folder is full."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from errno import EDQUOT, EFBIG, ENOSPC
from pathlib import Path
from typing import IO, Any

from nufed.client_app.algorithm import Algorithm, algorithm_of
from nufed.client_app.meta_gradient import Params
from nufed.client_app.work import beside, new_model
from nufed.conf.errors import CannotWrite, InputError
from nufed.server_app.run_folder import MODEL, RESCUED, save_model
from nufed.server_app.tracking import Callback, Row, RunInfo, State
from nufed.tasks.task import Task

SLACK = 32 << 10  # bytes beside the tensors


class ModelFile(Callback):
    """Write the model of the last good round, into another folder where the run's has no room.

    Room for it is taken when the run starts, so that a disk that fills up meanwhile, by whoever's
    doing, costs no model; and a disk that is too full is told of before anything is computed.

    Parameters
    ----------
    folder
        The run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._room: IO[bytes] | None = None
        self._task: Task | None = None
        self._algorithm: Algorithm | None = None
        self._shared: Params | None = None
        self._round = -1

    def on_start(self, run: RunInfo) -> None:
        """Take the room.

        Raises
        ------
        InputError
            If there is none.
        """
        self._task, self._algorithm = run.task, algorithm_of(run.config.algorithm)
        whole = {} if run.task is None else run.task.state({})
        try:
            self._room = room(self.folder, sum(t.nbytes for t in whole.values()) + SLACK)
        except OSError as error:
            raise InputError(
                f"{self.folder}: has no room for the model ({error.strerror}); name another folder"
            ) from error

    def on_round(self, row: Row, state: State) -> None:
        """Remember the model."""
        self._shared, self._round = state.params, state.round

    def on_end(self, summary: dict[str, Any]) -> None:
        """Write it; say where it is, of a run that was cut short."""
        if self._room is not None:
            self._room.close()
        if self._shared is None or self._task is None:
            return
        place = self.folder
        try:
            self._write(place)
        except CannotWrite as error:
            summary.setdefault("stopped", str(error))
            found = elsewhere(self._write)
            if found is None:
                summary["stopped"] += f"; the model of round {self._round} fits nowhere else either"
                return
            place, summary[RESCUED] = found, str(found)
        if "stopped" in summary:
            summary["stopped"] += f"; the model of round {self._round} is in {place}"

    def _write(self, folder: Path) -> None:
        assert self._task is not None
        assert self._algorithm is not None
        assert self._shared is not None
        model = new_model(self._task, self._algorithm, self._shared)
        save_model(folder / MODEL, self._task, model, beside=beside(model, self._shared))


def room(folder: Path, size: int) -> IO[bytes]:
    """Take so many bytes of a folder's disk, until what is returned is closed, or we end.

    Raises
    ------
    OSError
        If there are fewer.
    """
    taken = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (without a name: no trace is left)
    if not hasattr(os, "posix_fallocate"):
        return taken
    try:
        os.posix_fallocate(taken.fileno(), 0, size)
    except OSError as error:
        if error.errno in (EDQUOT, EFBIG, ENOSPC):
            taken.close()
            raise
    return taken  # else the file system cannot say


def elsewhere(write: Callable[[Path], object]) -> Path | None:
    """Write into a new folder where that can be done; return it, or None if there is none."""
    for parent in _places():
        with suppress(OSError, CannotWrite):
            folder = Path(tempfile.mkdtemp(prefix="nufed-run-", dir=parent))
            try:
                write(folder)
                return folder
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
    return None


def _places() -> Iterator[Path]:
    """Yield folders that may have room: that of temporary files, this one, and one's home."""
    with suppress(OSError):
        yield Path(tempfile.gettempdir())
    yield Path.cwd()
    with suppress(RuntimeError):
        yield Path.home()
