"""Errors that end a run in one line, without a traceback, and with exit status 2."""

import difflib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from nufed.conf.text import printable


class NuFedError(Exception):
    """Base of the errors whose one-line message says all that there is to say."""

    def _render_traceback_(self) -> list[str]:
        """Return what a notebook shows of it, in place of a traceback."""
        return [f"{type(self).__name__}: {printable(str(self))}"]


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


class WorkersLost(RunStopped):
    """A run cannot go on, as the processes that compute it died; it can be resumed."""


class CallbackFailed(RunStopped):
    """A run cannot go on, as a callback of the person's own raised; it can be resumed."""


class CannotWrite(RunStopped):
    """A run cannot go on, as its folder is full or cannot be written; it can be resumed."""

    @classmethod
    def of(cls, path: Path, error: OSError) -> "CannotWrite":
        """Return the error of a file that could not be written."""
        return cls(f"{path}: cannot be written ({error.strerror or error})")


class Terminated(KeyboardInterrupt):
    """The process was told to end (SIGTERM)."""


def reason(error: BaseException) -> str:
    """Return what an exception says, in one line; its type where it says nothing.

    Of a name that a module does not have, the nearest that it has, or where the module was found:
    it may be another of that name.
    """
    cause = error
    while isinstance(cause, ImportError) and cause.__cause__ is not None:
        cause = cause.__cause__  # Hydra's own words say only that the import failed
    if isinstance(cause, ModuleNotFoundError) and cause.name:
        module, _, name = cause.name.rpartition(".")
        if module not in sys.modules:
            return str(cause)
        close = difflib.get_close_matches(name, dir(sys.modules[module]), n=1)
        place = getattr(sys.modules[module], "__file__", None)
        hint = f"; {module} is {place}" if place else ""
        if close:
            hint = f"; did you mean {module}.{close[0]}?"
        return f"there is no {cause.name}{hint}"
    return " ".join(str(error).split()) or type(error).__name__


ALIKE, TIED = 0.7, 0.04
"""How alike a suggestion has to be, of 1; and by how much a second one may be less so."""
BEGINNING = 3
"""Letters of a name that are enough to begin it by."""


def nearest(wanted: str, options: Sequence[str], typed: Mapping[str, str] | None = None) -> str:
    """Return a hint: the option that is most like what was typed, or all where there are few.

    Up to three that end in it are meant, as algorithm.nu by nu. Two are named where they are
    about as near. `typed` has options that are typed otherwise.
    """
    said = [(typed or {}).get(option, option) for option in options]
    ends = [
        each for each, option in zip(said, options, strict=True) if option.endswith(f".{wanted}")
    ]
    if 0 < len(ends) <= 3:
        *others, last = ends
        return f"did you mean {' or '.join(filter(None, (', '.join(others), last)))}?"
    if close := alike(wanted, options):
        return f"did you mean {' or '.join(said[options.index(each)] for each in close)}?"
    if 0 < len(options) <= 12:
        return f"choose one of {', '.join(said)}"
    return "see nufed --help"


def alike(wanted: str, options: Sequence[str]) -> list[str]:
    """Return the option that is near to what was typed, two where they are about as near, or none.

    Of a dotted key, its last word has to be near, and what stands before it: algorithm.mu is like
    algorithm.nu in what they share, and means something else.
    """
    degrees = {option: _alike(wanted, option) for option in options}
    best = sorted((o for o in degrees if degrees[o] >= ALIKE), key=lambda o: -degrees[o])[:2]
    return [option for option in best if degrees[option] > degrees[best[0]] - TIED]


def _alike(wanted: str, option: str) -> float:
    """Return how alike two names are, of 1."""
    (group, _, word), (its_group, _, its_word) = (n.rpartition(".") for n in (wanted, option))
    if not group:  # the group was left away
        return _same(word, its_word) * (1 if not its_group else 0.95)
    if word == its_word and group.split(".")[0] == its_group.split(".")[0]:
        return 0.99  # algorithm.query for algorithm.batch.query
    return min(_same(group, its_group), _same(word, its_word))


def _same(typed: str, word: str) -> float:
    if len(typed) >= BEGINNING and word.startswith(typed) and "." not in word[len(typed) :]:
        return max(0.9, len(typed) / len(word))
    return difflib.SequenceMatcher(a=word.lower(), b=typed.lower()).ratio()
