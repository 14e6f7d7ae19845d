"""A model that is given from Python: the words that name it, whatever kind of object it is."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from nufed.api.words import plain, words_of
from nufed.conf.compose import find_config
from nufed.conf.errors import InputError
from nufed.conf.objects import is_of_a_session, keep, name_of
from nufed.conf.words import written


def model_words(model: object) -> list[str]:
    """Return the words that choose a model.

    Parameters
    ----------
    model
        An option of the group, a mapping of its keys, a class or function that makes a
        `torch.nn.Module`, with arguments as a `functools.partial`, or a module itself.

    Raises
    ------
    InputError
        If it is none of these, or cannot be copied.
    """
    if isinstance(model, str):
        return [f"model={written(model)}"]
    if isinstance(model, Mapping):
        if "_target_" not in model:
            return words_of([], {"model": model})
        target, named = model["_target_"], {k: v for k, v in model.items() if k != "_target_"}
        return [*_custom(target if isinstance(target, str) else _name(target)), *_keys(named)]
    if isinstance(model, partial) and not model.args and (made := _named(model)):
        return made
    return [*_custom(_name(model))]


def again(folder: Path, model: object) -> bool:
    """Let the model that a run was given as an object be made by what is given now.

    Returns
    -------
    bool
        False if the run names its model, which then is found by that.
    """
    target = str(find_config(folder, str(folder)).config.model.get("_target_"))
    if not is_of_a_session(target) or isinstance(model, str | Mapping):
        return False
    keep(target, _maker(model))
    return True


def _named(model: "partial[Any]") -> list[str] | None:
    """Return the words for a function and its arguments; None if they cannot be written."""
    try:
        arguments = {key: plain(value, f"model.{key}") for key, value in model.keywords.items()}
    except InputError:
        return None
    return [*_custom(_name(model.func)), *_keys(arguments)]


def _custom(name: str) -> list[str]:
    return ["model=custom", f"model._target_={name}"]


def _keys(arguments: Mapping[str, Any]) -> Iterator[str]:
    return (f"+model.{k}={written(plain(v, f'model.{k}'))}" for k, v in arguments.items())


def _name(model: object) -> str:
    return name_of(_maker(model))


def _maker(model: Any) -> Any:
    """Return what makes the module."""
    if not isinstance(model, type) and callable(getattr(model, "named_parameters", None)):
        from torch import nn

        from nufed.tasks.instance import instance_of

        if isinstance(model, nn.Module):
            return instance_of(model)
    if not callable(model):
        raise InputError(
            f"model={model!r:.60}: is a {type(model).__name__}; give a torch.nn.Module, its class, "
            "or a function that makes one"
        )
    return model
