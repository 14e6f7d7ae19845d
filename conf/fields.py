"""An object whose class a `_target_` names, and whose fields are the keys beside it.

Such a class is a dataclass, so that a key that it does not have, a value of another type and one
that is missing are each answered in one line, before anything runs.
"""

import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from hydra.errors import InstantiationException

from nufed.conf.errors import InputError, alike, nearest, reason
from nufed.conf.making import WORDS, found
from nufed.conf.schema import require
from nufed.conf.typed import Mistyped, typed

T = TypeVar("T")

CALLED = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def class_of(base: type[T], values: Mapping[str, Any], key: str) -> type[T]:
    """Return the class that `values` name by `_target_`: a dataclass that is a `base`.

    Parameters
    ----------
    key
        Where the values stand in the configuration.

    Raises
    ------
    InputError
        If there is no such class.
    """
    name = values.get("_target_")
    said = f"{key}._target_={name}"
    try:
        named = found(name)
    except InstantiationException as error:
        cause = error.__cause__ or error
        raise InputError(f"{said}: {reason(cause)}") from error
    if not (isinstance(named, type) and issubclass(named, base) and is_dataclass(named)):
        raise InputError(f"{said}: is no dataclass that is a {base.__module__}.{base.__name__}")
    return cast(type[T], named)


def made_of(kind: type[T], values: Mapping[str, Any], key: str) -> T:
    """Return a dataclass of the values at a key, each of them of its field's type.

    Raises
    ------
    InputError
        If a key is no field, a value is not of its type or out of its range, or one is missing.
    """
    of: dict[str, Field[Any]] = {each.name: each for each in fields(kind)}  # type: ignore[arg-type]
    given = {name: value for name, value in values.items() if name not in WORDS}
    for name in given:
        if name not in of:
            full, known = f"{key}.{name}", [f"{key}.{each}" for each in of]
            hint = nearest(full, known) if alike(full, known) else f"{key} has {', '.join(of)}"
            raise InputError(f"{full}: no such key; {hint}")
    for name, each in of.items():
        needed = each.default is MISSING and each.default_factory is MISSING
        if needed and name not in given:
            raise InputError(f"{key}.{name}: has no value; give one as {key}.{name}=…")
    hints = get_type_hints(kind)
    checked = {name: _checked(value, hints[name], f"{key}.{name}") for name, value in given.items()}
    return kind(**checked)


def _checked(value: Any, hint: Any, key: str) -> Any:
    """Return a value as its type has it; a mapping as the dataclass that it stands for."""
    if is_dataclass(hint) and isinstance(hint, type):
        require(isinstance(value, Mapping), key, value, "several keys")
        return made_of(hint, value, key)
    try:
        return typed(value, hint, key)
    except Mistyped:
        require(False, key, value, called(hint))


def called(hint: Any) -> str:
    """Return what a person is told that a value must be."""
    if get_origin(hint) in (Union, types.UnionType):
        *each, last = ("null" if h is type(None) else called(h) for h in get_args(hint))
        return f"{', '.join(each)}, or {last}"
    if get_origin(hint) in (list, tuple):
        return "a list, as [a,b]"
    return CALLED.get(hint, str(hint))
