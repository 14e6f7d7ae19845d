"""Errors that end a run in one line, without a traceback, and with exit status 2."""

from collections.abc import Sequence


class NuFedError(Exception):
    """Base of the errors whose one-line message says all that there is to say."""


class InputError(NuFedError):
    """Something given to NuFed cannot be used; the message names it, its value and the remedy."""


class RunStopped(NuFedError):
    """A run cannot go on; the message says in which round, why, and what is saved where."""


class Diverged(RunStopped):
    """Losses became NaN or infinite; `blamed` names the step sizes that may be too large."""

    def __init__(self, reason: str, blamed: Sequence[str] = ()) -> None:
        super().__init__(reason)
        self.blamed = blamed


class TooFewReplies(RunStopped):
    """A run cannot go on for want of clients; it can be resumed when they are there again."""


class Terminated(KeyboardInterrupt):
    """The process was told to end (SIGTERM)."""


def reason(error: BaseException) -> str:
    """Return what an exception says, in one line; its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
