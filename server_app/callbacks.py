"""Callbacks of a person's own, which `callbacks` names; an exception from one ends the run.

    class Mine(Callback):
        def __init__(self, folder: Path, **keys_of_its_node) -> None: ...

It is made as a tracker is. What it raises is kept until all others have had the same hook: the
round is written and saved, and the run ends in one line.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.errors import InstantiationException

from nufed.conf.errors import CallbackFailed, InputError, reason
from nufed.conf.making import make
from nufed.conf.schema import Config
from nufed.server_app.tracking import HOOKS, Callback, RunInfo

if TYPE_CHECKING:
    from nufed.server_app.report.page import Section
    from nufed.server_app.report.record import Record
    from nufed.server_app.report.sections import SectionOf

LONGEST = 300  # characters of what an exception says


def own_callbacks(config: Config, folder: Path) -> list["Own"]:
    """Make the callbacks that the configuration names.

    Raises
    ------
    InputError
        If one cannot be made, or is no `Callback`.
    """
    named = (config.callbacks or {}).items()
    return [Own(name, made(f"callbacks.{name}", node, folder)) for name, node in named]


def made(key: str, node: Mapping[str, Any], folder: Path) -> Callback:
    """Return the callback that stands at a key, given the run folder.

    Raises
    ------
    InputError
        If it cannot be made, or is no `Callback`.
    """
    target = node.get("_target_")
    try:
        callback = make(node, folder)
    except (InstantiationException, TypeError) as error:
        cause: BaseException = error  # the innermost: Hydra's own words say only that it failed
        while cause.__cause__ is not None:
            cause = cause.__cause__
            if isinstance(cause, InputError):
                raise cause from error
        raise InputError(f"{key}._target_={target}: {reason(cause)}") from cause
    if not isinstance(callback, Callback):
        what = f"{Callback.__module__}.{Callback.__name__}"
        raise InputError(f"{key}._target_={target}: must be a subclass of {what}")
    return callback


class Own(Callback):
    """A person's own callback: what it raises is kept, and it is not called again.

    Stands before the others, so that all of them learn why a run ended.

    Parameters
    ----------
    name
        By which the configuration has it.
    """

    def __init__(self, name: str, callback: Callback) -> None:
        self.name, self._callback = name, callback
        self.failed: CallbackFailed | None = None
        for hook in HOOKS:
            if hook not in ("on_start", "on_end"):
                setattr(self, hook, partial(self._try, hook))

    def __str__(self) -> str:
        return str(self._callback)

    def on_start(self, run: RunInfo) -> None:
        """Pass it on; what is raised ends the run before anything is written."""
        self._try("on_start", run)
        require_none_failed([self])

    def on_end(self, summary: dict[str, Any]) -> None:
        """Pass it on; say in the summary that the run was stopped, if it failed now or before."""
        self._try("on_end", summary)
        if self.failed is not None:
            summary.setdefault("stopped", str(self.failed))

    def sections(self) -> "list[SectionOf]":
        """Return what it has for the report; a section that fails is told of in its place."""
        return [partial(self._section, each) for each in self._callback.report_sections]

    def _section(self, section: "SectionOf", run: "Record") -> "Section | None":
        from nufed.server_app.report.page import Section

        try:
            return section(run)
        except Exception as error:
            self.failed = self._told("its section of the report", error)
            return Section(f"callbacks.{self.name}", [str(self.failed)])

    def _try(self, hook: str, *arguments: Any) -> None:
        if self.failed is not None:
            return
        try:
            getattr(self._callback, hook)(*arguments)
            self.stop = bool(self._callback.stop)
        except Exception as error:
            self.failed, self.stop = self._told(hook, error), False

    def _told(self, what: str, error: Exception) -> CallbackFailed:
        said = f"{type(error).__name__}: {reason(error)}"[:LONGEST]
        found = CallbackFailed(f"callbacks.{self.name}: {what} failed ({said})")
        found.__cause__ = error
        return found


def require_none_failed(callbacks: Iterable[Callback]) -> None:
    """Raise what the first of a person's own callbacks that failed ends the run by."""
    for each in callbacks:
        if isinstance(each, Own) and each.failed is not None:
            raise each.failed
