"""Call what a configuration names: the one place where a `_target_` becomes an object.

As Hydra's `instantiate`, with its `_args_`, `_partial_` and `_recursive_`; but values arrive as
they are. Hydra's turns lists and dicts into OmegaConf's, which most libraries refuse or misread,
and takes a text such as ``${…}`` for one that it is to look up.
"""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_object

from nufed.conf import objects
from nufed.conf.targets import ours

# Hydra logs what it also raises; the line that is made of it is enough.
logging.getLogger("hydra.utils").addHandler(logging.NullHandler())
logging.getLogger("hydra.utils").propagate = False

WORDS = "_target_", "_args_", "_partial_", "_recursive_", "_convert_"


def make(config: Mapping[str, Any], /, *given: object, **named: object) -> Any:
    """Return what the `_target_` of a configuration makes of its keys and of what is given.

    Parameters
    ----------
    config
        `_target_` and its arguments, nested ones too; see `prepared`.
    given, named
        Further arguments. They arrive as they are: a tuple as a tuple.

    Raises
    ------
    InstantiationException
        If it cannot be found or raises; the reason is its ``__cause__``.
    """
    target = prepared(config)
    try:
        return target(*given, **named)
    except InstantiationException:
        raise
    except Exception as error:  # whatever the user's code raises
        message = f"Error in call to target '{config.get('_target_')}':\n{error!r}"
        raise InstantiationException(message) from error


def find(name: str) -> Callable[..., Any]:
    """Return what a dotted name stands for.

    Raises
    ------
    ImportError
        If it is not there; it says what may have been meant, or where a module has to be.
    TypeError
        If it cannot be called.
    InputError
        If it was given as an object in another process.
    """
    if (given := objects.kept(name)) is not None:
        return given
    try:
        found = get_object(name)
    except ImportError as error:
        if objects.is_of_a_session(name):
            raise objects.lost(name) from error
        if (now := f"nufed.{name}") in ours():
            raise ImportError(f"there is no {name}; did you mean {now}?") from None
        cause, module = error.__cause__, name.partition(".")[0]
        if isinstance(cause, ModuleNotFoundError) and cause.name == module:
            remedy = "be where its file is, or have its folder on PYTHONPATH"
            raise ModuleNotFoundError(f"{cause}; {remedy}", name=module) from None
        raise
    if not callable(found):
        raise TypeError(f"is a {type(found).__name__}, which cannot be called")
    return found  # type: ignore[no-any-return]


def prepared(config: Mapping[str, Any]) -> Callable[..., Any]:
    """Return what the `_target_` of a configuration names, its arguments bound, not yet called.

    Raises
    ------
    InstantiationException
        If it, or one that is nested in it, cannot be found or made.
    """
    target = found(config.get("_target_"))
    nested = _made if config.get("_recursive_", True) else _same
    given = [nested(value) for value in config.get("_args_", ())]
    named = {key: nested(value) for key, value in config.items() if key not in WORDS}
    return partial(target, *given, **named) if given or named else target


def found(name: object) -> Callable[..., Any]:
    """Return what goes by a name.

    Raises
    ------
    InstantiationException
        If there is no such thing, or it cannot be called.
    """
    try:
        if not isinstance(name, str):
            raise TypeError(f"_target_ is a {type(name).__name__}, not a name")
        return find(name)
    except Exception as error:  # to import it may raise whatever the user's module raises
        raise InstantiationException(f"Error locating target '{name}'") from error


def _made(value: Any) -> Any:
    """Return a value with all that it names made, at any depth."""
    if isinstance(value, Mapping) and "_target_" in value:
        return prepared(value) if value.get("_partial_") else make(value)
    if isinstance(value, Mapping):
        return {key: _made(entry) for key, entry in value.items()}
    return [_made(entry) for entry in value] if isinstance(value, list) else value


def _same(value: Any) -> Any:
    return value
