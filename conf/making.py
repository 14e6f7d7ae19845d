"""Call what a configuration names: the one place where a `_target_` becomes an object."""

from collections.abc import Callable, Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate


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


def prepared(config: Mapping[str, Any]) -> Callable[..., Any]:
    """Return what the `_target_` of a configuration names, its arguments bound, not yet called.

    Lists and dicts among them are Python's own: most libraries refuse, or misread, OmegaConf's.
    One's own ``_convert_`` is kept.

    Raises
    ------
    InstantiationException
        If it, or one that is nested in it, cannot be found or made.
    """
    bound: Callable[..., Any] = instantiate({"_convert_": "all"} | dict(config), _partial_=True)
    return bound
