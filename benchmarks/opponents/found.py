"""Which opponents there are: the files of this folder that name one."""

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules
from typing import Protocol, cast

from benchmarks import opponents
from benchmarks.opponents.work import Work


class Opponent(Protocol):
    """What a module of an opponent has."""

    __name__: str
    NAME: str
    NEEDS: str
    """The distribution that it stands on."""
    SAME: bool
    """Whether it does the same work; else FedAvg with as many gradients."""

    def lacks(self, work: Work) -> str | None:
        """Return what it does not have for some work; None if it can do it."""

    def prepare(self, work: Work) -> tuple[Callable[[], None], str]:
        """Return what carries out a round, warm, and how it goes about it."""


def found() -> list[Opponent]:
    """Return the opponents, by the names of their files."""
    modules = [
        import_module(f"{opponents.__name__}.{m.name}") for m in iter_modules(opponents.__path__)
    ]
    return [cast(Opponent, module) for module in modules if hasattr(module, "NAME")]
