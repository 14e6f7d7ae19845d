"""What a person gave as an object, in this process: the names by which a configuration has it.

A configuration is text, so a class or function goes by its own name where an import finds it:
`mine.Net`. What none finds (a closure, a module that was made already) is kept here, under a name
that only this process knows.
"""

import re
import secrets
import sys
from collections.abc import Callable
from typing import Any

from nufed.conf.errors import InputError

HERE = "nufed.conf.objects"
MAIN = "__main__"
"""Where a notebook or a script defines things; in every process it is another module."""

_kept: dict[str, Callable[..., Any]] = {}


def name_of(thing: Callable[..., Any]) -> str:
    """Return the name by which `nufed.conf.making.find` finds a thing in this process."""
    if own := _own_name(thing):
        _kept.pop(own, None)  # of a class that was defined anew
        return own
    for name, kept in _kept.items():
        if kept is thing:
            return name
    said = getattr(thing, "__name__", type(thing).__name__)
    name = f"{HERE}.{re.sub(r'[^A-Za-z0-9_]', '', said)}_{secrets.token_hex(4)}"
    _kept[name] = thing
    return name


def keep(name: str, thing: Callable[..., Any]) -> None:
    """Let a thing go by a name that another process gave it."""
    _kept[name] = thing


def kept(name: str) -> Callable[..., Any] | None:
    """Return what goes by a name in this process alone; None if nothing does, or need not."""
    return _kept.get(name)


def is_of_a_session(name: str) -> bool:
    """Tell whether a name is one that other processes do not know, or mean something else by."""
    return name.startswith((f"{HERE}.", f"{MAIN}."))


def lost(name: str) -> InputError:
    """Return the error of such a name in another process."""
    said = name.removeprefix(f"{HERE}.").rpartition("_")[0] if name.startswith(HERE) else name
    return InputError(
        f"{said}: was given as an object in another Python session; define it in a module "
        "(mine.py) and train with that one, or give it again: nufed.load(folder, model=…)"
    )


def _own_name(thing: Callable[..., Any]) -> str | None:
    """Return what an import finds a thing by; None if none does."""
    module, path = (getattr(thing, name, None) for name in ("__module__", "__qualname__"))
    if not isinstance(module, str) or not isinstance(path, str):
        return None
    found: Any = sys.modules.get(module)
    if module != MAIN and getattr(found, "__file__", None) is None:
        return None  # made while the program ran
    for part in path.split("."):
        found = getattr(found, part, None)
    return f"{module}.{path}" if found is thing else None
