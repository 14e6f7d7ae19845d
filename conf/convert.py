"""A `Config` of what Hydra composed or a text says, checked; and as a text."""

import json
import re
import secrets
from collections.abc import Iterator
from dataclasses import asdict, fields, is_dataclass, replace
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nufed.conf.errors import InputError, reason
from nufed.conf.keys import no_such_key, unknown_of_engine
from nufed.conf.plain import dump, each_text, plain
from nufed.conf.schema import AUTO, USUAL, Config

T = TypeVar("T")


def to_config(composed: DictConfig) -> Config:
    """Turn a composed configuration into a checked `Config`.

    Raises
    ------
    InputError
        For a value out of its range, or one that is still missing.
    """
    _require_whole(composed)
    # Once: what an interpolation gives, or an escaped \${…}, is a value, whatever stands in it.
    config = with_clipping(_made(Config, OmegaConf.to_container(composed, resolve=True)))
    if unknown := unknown_of_engine(config.engine):
        raise InputError(no_such_key(unknown))
    return config


def _require_whole(composed: DictConfig) -> None:
    """Raise an `InputError` for a key that no type knows, or one without a value."""
    if unknown := _unknown(composed, Config):
        raise InputError(no_such_key(unknown, list(_keys(Config))))
    if missing := sorted(OmegaConf.missing_keys(composed)):
        raise InputError(f"{missing[0]}: has no value; give one as {missing[0]}=…")


def _made(schema: type[T], values: Any) -> T:
    """Return a dataclass of nested dictionaries, as its fields have them."""
    of: dict[str, Any] = {each.name: each.type for each in fields(schema)}  # type: ignore[arg-type]
    nested = {key: _made(of[key], value) for key, value in values.items() if is_dataclass(of[key])}
    return schema(**{**values, **nested})


def _unknown(node: DictConfig, schema: Any, prefix: str = "") -> str | None:
    """Return the first key, added with Hydra's +, that no field of the schema stands for."""
    types: dict[str, Any] = {field.name: field.type for field in fields(schema)}
    for key in map(str, node):
        if key not in types:
            return f"{prefix}{key}"
        nested = is_dataclass(types[key]) and not OmegaConf.is_missing(node, key)
        if nested and (found := _unknown(node[key], types[key], f"{prefix}{key}.")):
            return found
    return None


def _keys(schema: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys of a schema."""
    for each in fields(schema):
        yield f"{prefix}{each.name}"
        if is_dataclass(each.type):
            yield from _keys(each.type, f"{prefix}{each.name}.")


def to_json(config: Config) -> str:
    """Write a configuration as one line, as it travels to ServerApp and ClientApps."""
    return json.dumps(asdict(config))


def read_config(text: str) -> Config:
    """Read what `to_json`, or a run folder's config.yaml, says, checking types and values again.

    Raises
    ------
    InputError
        For a key or a value that is not possible.
    ValueError
        For a text that is no configuration.
    """
    return read_values(plain(text))


def read_values(values: dict[str, Any]) -> Config:
    """Check keys, types and values of a configuration as plain data: ``${…}`` is text."""
    values = _with_named_tracker(values)
    texts: list[str] = []
    stand_in = secrets.token_hex(8)  # for texts that OmegaConf would take for interpolations

    def hidden(text: str) -> str:
        texts.append(text)
        return f"{stand_in}:{len(texts) - 1}:"

    def shown(text: str) -> str:
        return re.sub(f"{stand_in}:([0-9]+):", lambda found: texts[int(found[1])], text)

    try:
        merged = OmegaConf.merge(
            OmegaConf.structured(Config),
            OmegaConf.create(each_text(values, lambda t: hidden(t) if "${" in t else t)),
        )
        assert isinstance(merged, DictConfig)
        _require_whole(merged)
    except OmegaConfBaseException as error:
        raise ValueError(shown(reason(error))) from error
    return with_clipping(_made(Config, each_text(OmegaConf.to_container(merged), shown)))


def with_clipping(config: Config) -> Config:
    """Return the configuration with what `strategy.clip_norm=auto` means for it.

    That is ``usual`` where β is chosen, as it is longer than is safe for every client; else null.
    It is said at once: a run goes on, and is found again, as what it began with.
    """
    if config.strategy.get("clip_norm") != AUTO:
        return config
    chosen = config.algorithm.get("beta") == AUTO and config.privacy.name == "none"
    return replace(config, strategy=config.strategy | {"clip_norm": USUAL if chosen else None})


def _with_named_tracker(values: dict[str, Any]) -> dict[str, Any]:
    """Return values in which the one tracker of an older run has a name, as several have."""
    tracking = values.get("tracking")
    if tracking is None:
        return values | {"tracking": {}}
    if not isinstance(tracking, dict) or "_target_" not in tracking:
        return values
    module = str(tracking["_target_"]).rpartition(".")[0].rpartition(".")[2]
    return values | {"tracking": {module if module.isidentifier() else "older": tracking}}


def to_yaml(config: Config) -> str:
    """Write a configuration for people to read, and `read_config`."""
    return dump(asdict(config))
