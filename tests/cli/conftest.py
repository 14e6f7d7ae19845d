"""What the tests of commands share: those that run in this process leave it as it was."""

import logging
import os
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what a command does to its process."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    log = logging.getLogger("nufed")
    handlers, level = log.handlers.copy(), log.level
    yield
    log.handlers, log.level = handlers, level
    os.environ.pop("HYDRA_FULL_ERROR", None)
