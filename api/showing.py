"""What is shown of a run from Python: its lines and how far it is, or only what it warns of."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from nufed.cli.command import Lines
from nufed.server_app.terminal import silent


@contextmanager
def showing(progress: bool) -> Iterator[None]:
    """Show what the command shows, for as long as a run takes; or let warnings alone through."""
    if not progress:
        with silent():
            yield
        return
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
