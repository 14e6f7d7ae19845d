"""What is given in Python, as the words of a command line: one grammar, and one reading of it."""

import os
import shlex
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np

from nufed.conf.errors import InputError
from nufed.conf.keys import known_keys
from nufed.conf.objects import name_of
from nufed.conf.words import written

Overrides = str | Mapping[str, Any]


def words_of(given: Iterable[Overrides], named: Mapping[str, Any]) -> list[str]:
    """Return overrides as they would be typed; of what is said twice, the last.

    Parameters
    ----------
    given
        Texts of one word or several, as after ``nufed`` in a shell; or mappings of keys to values.
    named
        Keys and values.

    Raises
    ------
    InputError
        If a text cannot be taken apart, or a value is of a kind that no key takes.
    """
    found = list[str]()
    for each in (*given, named):
        found += _apart(each) if isinstance(each, str) else _assignments(each)
    said = [word.partition("=")[0].lstrip("+") for word in found]
    last = {key: i for i, key in enumerate(said)}
    return [word for i, word in enumerate(found) if last[said[i]] == i]


def _apart(text: str) -> list[str]:
    """Take a text apart as a shell does."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InputError(f"{text}: cannot be read ({error}); quote it as in a shell") from error
    for word in words:
        if word.startswith("-"):
            raise InputError(
                f"{word}: is an option of the command; here one run is made, of key=value, and a "
                "loop makes several"
            )
    return words


def _assignments(node: Any, prefix: str = "") -> Iterator[str]:
    """Yield key=value for each entry; a mapping that stands for a group goes key by key."""
    if not isinstance(node, Mapping):
        raise InputError(
            f"{node!r:.60}: is a {type(node).__name__}; give text such as 'rounds=20', a mapping, "
            "or rounds=20"
        )
    for key, value in node.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value and _is_group(name) and "_target_" not in value:
            yield from _assignments(value, f"{name}.")
        else:
            yield f"{name}={written(plain(value, name))}"


@cache
def _groups() -> frozenset[str]:
    keys = [key.split(".") for key in known_keys()]
    return frozenset(".".join(parts[:i]) for parts in keys for i in range(1, len(parts)))


def _is_group(key: str) -> bool:
    return key.lstrip("+") in _groups()


def plain(value: Any, key: str) -> Any:
    """Return a value as text, numbers, lists and mappings alone; of a function its name.

    Raises
    ------
    InputError
        If it is anything else.
    """
    if value is None or isinstance(value, str | bool | int | float):
        return value.item() if isinstance(value, np.generic) else value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(name): plain(entry, f"{key}.{name}") for name, entry in value.items()}
    if isinstance(value, list | tuple | range):
        return [plain(entry, key) for entry in value]
    if hasattr(value, "tolist"):  # of NumPy or torch
        return plain(value.tolist(), key)
    if callable(value):
        return name_of(value)
    raise InputError(
        f"{key}={value!r:.60}: is a {type(value).__name__}; give a number, text, a list or a "
        "mapping of these, or a function"
    )
