"""What is shown of a run from Python: its lines and how far it is, or only what it warns of."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from nufed.cli.command import Lines
from nufed.server_app.terminal import showing as showing_in_terminals


@contextmanager
def showing(progress: bool) -> Iterator[None]:
    """Show what the command shows, for as long as a run takes; or let warnings alone through."""
    with warnings.catch_warnings():
        # Of a notebook without widgets, when a library beneath imports bars that nobody sees.
        warnings.filterwarnings("ignore", "IProgress not found")
        with _lines() if progress else showing_in_terminals("none"):
            yield


@contextmanager
def _lines() -> Iterator[None]:
    """Show what is logged."""
    log = logging.getLogger("nufed")
    level, lines = log.level, Lines()
    if not any(isinstance(handler, Lines) for handler in log.handlers):
        log.addHandler(lines)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(level)
        log.removeHandler(lines)
