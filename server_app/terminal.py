"""The terminal that people read: what others wrote is shown there, and steers nothing."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from nufed.conf.text import printable
from nufed.server_app.notebook import in_notebook

_SHOWN: dict[str, dict[str, bool]] = {
    "auto": {},
    "bar": {"force_terminal": True},
    "lines": {"force_terminal": False},
    "none": {"quiet": True},
}
"""What `progress` says, as options of a terminal."""
_shown = ContextVar("shown", default="auto")


@contextmanager
def showing(progress: str) -> Iterator[None]:
    """Let terminals that are made meanwhile show a run so; where nothing is, warnings alone."""
    log = logging.getLogger("nufed")
    before, level = _shown.set(progress if progress != "auto" else _shown.get()), log.level
    if _shown.get() == "none":
        log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        _shown.reset(before)
        log.setLevel(level)


class Terminal(Console):
    """A console on which nothing is markup, and no text a command: all of it passes `printable`.

    In a notebook it prints plain text; what moves there is of `nufed.server_app.notebook`.
    """

    def __init__(self, **options: Any) -> None:
        usual = {"force_jupyter": False} | _SHOWN[_shown.get()]
        if in_notebook():  # which says of its stream that it is a terminal, and moves no cursor
            usual["force_terminal"] = False
        super().__init__(markup=False, highlight=False, **(usual | options))

    def say(self, line: str, style: str | None = None) -> None:
        """Print one line, however long it is."""
        self.print(printable(line), style=style, soft_wrap=True)

    def render_str(self, text: str, **kwargs: Any) -> Text:
        """Turn a text into what is laid out, as in a cell of a table."""
        return super().render_str(printable(text, lines=True), **kwargs)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Turn whatever is printed into its parts; those that move the cursor are Rich's own."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield segment._replace(text=printable(segment.text, lines=True))
