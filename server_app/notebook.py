"""How far a run is, in a notebook: one line that is drawn anew, whatever front end shows it."""

import sys
import time
from html import escape
from importlib import import_module
from typing import Any

SECONDS = 0.1  # between two drawings


def in_notebook() -> bool:
    """Tell whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


class NotebookBar:
    """A bar and a line beside it.

    Parameters
    ----------
    total
        Rounds.
    done
        Those that are done already.
    """

    def __init__(self, total: int, done: int) -> None:
        self._total, self._shown = total, time.monotonic()
        self._last = done, ""
        self._handle: Any = import_module("IPython.display").display(
            self._drawn(), raw=True, display_id=True
        )

    def update(self, completed: int, description: str) -> None:
        """Move on, to be seen at once unless it was drawn just now."""
        self._last = completed, description
        if time.monotonic() - self._shown >= SECONDS:
            self._draw()

    def stop(self) -> None:
        """Draw the last state, which stays."""
        self._draw()

    def _draw(self) -> None:
        self._shown = time.monotonic()
        self._handle.update(self._drawn(), raw=True)

    def _drawn(self) -> dict[str, str]:
        done, said = self._last
        text = "  ".join(filter(None, (f"round {done}/{self._total}", said)))
        bar = f'<progress value="{done}" max="{self._total}"></progress>'
        pre = '<pre style="display: inline; white-space: pre-wrap">'
        return {"text/plain": text, "text/html": f"{bar} {pre}{escape(text)}</pre>"}
