"""JSON from elsewhere as the types that our dataclasses say: what is not of its type is named."""

import json
import types
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

MOST = 2**64  # integers are below it, either way: what is larger is no number of ours


class Mistyped(ValueError):
    """A value is missing or not of its type; the text says which."""


def parsed(text: str | bytes | bytearray) -> Any:
    """Return what JSON says, which may be anything but NaN, and no deeper than Python goes.

    Raises
    ------
    ValueError
        If it is no JSON.
    """
    try:
        return json.loads(text, parse_constant=_no_number)
    except RecursionError as error:
        raise Mistyped("nested too deep") from error


def made(kind: type[T], facts: object, **given: object) -> T:
    """Return a dataclass of a JSON object that has its fields; those with a default may be missing.

    Parameters
    ----------
    facts
        What JSON says.
    given
        Fields that are known already, and not looked for.

    Raises
    ------
    Mistyped
        If it is no object, or a field is missing, unknown or of another type.
    """
    if not isinstance(facts, dict):
        raise Mistyped(f"is {_shown(facts)}, not an object")
    known = {field.name: field for field in fields(kind) if field.name not in given}  # type: ignore[arg-type]
    if unknown := sorted(set(facts) - set(known)):
        raise Mistyped(f"has an unknown {unknown[0]!r:.40}")
    hints = get_type_hints(kind)
    values = {name: typed(facts[name], hints[name], name) for name in known if name in facts}
    for name, each in known.items():
        if name not in values and each.default is MISSING and each.default_factory is MISSING:
            raise Mistyped(f"has no {name!r}")
    return kind(**values, **given)


def typed(value: Any, hint: Any, name: str) -> Any:
    """Return a JSON value as a type: lists as tuples, objects as dataclasses, where it says so.

    Parameters
    ----------
    hint
        Any, None, bool, int, float, str, a list, tuple or dict of such, a union, or a dataclass.
    name
        What the value is called, for an error.

    Raises
    ------
    Mistyped
        If it is of another type. A bool is no number, and a float is finite.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        *others, last = (each for each in inner if each is not type(None))
        for each in others:
            with suppress(Mistyped):
                return typed(value, each, name)
        return typed(value, last, name)
    if origin in (list, tuple) and isinstance(value, list):
        entries = [typed(each, inner[0], f"an entry of {name}") for each in value]
        return entries if origin is list else tuple(entries)
    if origin in (dict, Mapping) and isinstance(value, dict):
        return {key: typed(each, inner[1], f"{key!r:.40} of {name}") for key, each in value.items()}
    if is_dataclass(hint) and isinstance(hint, type):
        return made(hint, value)
    if hint in (bool, str) and type(value) is hint:
        return value
    if hint is int and type(value) is int and abs(value) < MOST:
        return value
    if hint is float and type(value) in (int, float) and abs(value) < float("inf"):
        return _real(value, name)
    raise Mistyped(f"{name} is {_shown(value)}, not {_called(hint)}")


def _real(value: float, name: str) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise Mistyped(f"{name} is larger than any number") from error


def _shown(value: object) -> str:
    """Return a few characters of a value, however large it is."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    return repr(value[:40] if isinstance(value, str) else value)[:60]


def _called(hint: Any) -> str:
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    return names.get(hint, str(hint).replace("typing.", ""))


def _no_number(text: str) -> None:
    raise Mistyped(f"{text} is no number of JSON")
