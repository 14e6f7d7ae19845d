"""Trackers: one file each, a callback that `tracking.<name>._target_` names, given the folder.

    class Mine(Callback):
        def __init__(self, folder: Path, **keys_of_its_yaml) -> None: ...

There may be several. Each may fail without the run and the others: what it raises is told once,
and the run goes on without it. A package that is missing, or a key that is wrong, ends the run
before it begins.
"""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from nufed.conf.errors import InputError, reason
from nufed.conf.files import is_there, read_text, write_whole
from nufed.conf.schema import Config
from nufed.conf.typed import parsed, typed
from nufed.server_app.callbacks import made
from nufed.server_app.tracking import HOOKS, Callback, Row, RunInfo

OF_ROUNDS = "on_round", "on_evaluation"
IDS = "tracking.json"
LARGEST = 1 << 20  # bytes of it; it has a line for each tracker

log = logging.getLogger("nufed")


def trackers(config: Config, folder: Path) -> list["Harmless"]:
    """Make the trackers that the configuration names.

    Raises
    ------
    InputError
        If one cannot be made.
    """
    return [Harmless(_made(name, node, folder)) for name, node in config.tracking.items()]


def _made(name: str, node: Mapping[str, Any], folder: Path) -> Callback:
    """Make one; of ours, a package that is missing is named."""
    try:
        return made(f"tracking.{name}", node, folder)
    except InputError as error:
        cause, target = error.__cause__, str(node.get("_target_"))
        package = cause.name if isinstance(cause, ModuleNotFoundError) else None
        if not package or not target.startswith(f"{__name__}."):
            raise
        package, option = package.split(".")[0], target.removeprefix(f"{__name__}.").split(".")[0]
        raise InputError(f"tracking={option}: needs {package}; pip install {package}") from error


class Harmless(Callback):
    """A tracker whose failure is told in one line, and costs nothing but what it tracks.

    Every hook that there is goes to it, and it may end the run as any callback may.
    """

    def __init__(self, tracker: Callback) -> None:
        self._tracker = tracker
        self._lost = False
        self._last = -1
        self.drawn: tuple[Row, ...] = ()
        """Rows that it has, of a run that comes again from its beginning."""
        for hook in HOOKS:
            setattr(self, hook, partial(self._try, hook))

    def __str__(self) -> str:
        return str(self._tracker)

    def _try(self, hook: str, *arguments: Any) -> None:
        if self._lost or (self.drawn and self._has(hook, arguments[0])):
            return
        if self.drawn and hook == "on_start":
            arguments = (self._with_drawn(arguments[0]),)
        try:
            getattr(self._tracker, hook)(*arguments)
            self.stop = bool(self._tracker.stop)
        except Exception as error:
            self._lost, self.stop = True, False
            log.warning("%s: %.300s; the run goes on without it", self, reason(error))

    def _has(self, hook: str, of: Any) -> bool:
        return hook in OF_ROUNDS and of["round"] <= self._last

    def _with_drawn(self, run: RunInfo) -> RunInfo:
        """Return what is known of a run, with the rows that are drawn."""
        if len(self.drawn) <= len(run.rows):
            return run
        self._last = self.drawn[-1]["round"]
        return replace(run, rows=self.drawn)


def known_as(folder: Path, tracker: str, new: Callable[[], str]) -> tuple[str, bool]:
    """Return under which id a tracker knows the run of a folder, and whether that is a new one."""
    file = folder / IDS
    try:
        text = read_text(file, largest=LARGEST) if is_there(file) else "{}"
        ids = typed(parsed(text), dict[str, str], IDS)
    except ValueError as error:
        raise InputError(f"{file}: cannot be read ({reason(error)}); delete it") from error
    is_new = tracker not in ids
    if is_new:
        ids[tracker] = new()
        write_whole(file, f"{json.dumps(ids)}\n".encode())
    return ids[tracker], is_new
