"""The overrides that stand for a configuration: what one would type to run it again."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields, replace
from functools import cache
from typing import Any

from hydra import compose
from omegaconf import DictConfig, OmegaConf

from nufed.conf.compose import CONFIG_DIR, composing
from nufed.conf.convert import to_config, with_clipping
from nufed.conf.schema import AUTO, Config
from nufed.conf.words import escaped, written

DATASET, TRACKING = "dataset", "tracking"
GROUPS = tuple(
    field.name
    for field in fields(Config)
    if (CONFIG_DIR / field.name).is_dir() and field.name not in (DATASET, TRACKING)
)


def overrides_of(config: Config) -> list[str] | None:
    """Return the overrides that compose a configuration, but for what it resumes.

    The options of groups that come nearest, then the keys that differ from theirs. None if that
    composes something else, as where a value cannot be written as an override.
    """
    wanted = replace(config, resume=None)
    with composing():
        options = _options(wanted)
        try:
            words = options + _differences(compose("config", options), asdict(_said(wanted)))
            same = to_config(compose("config", words)) == wanted
        except Exception:  # whatever Hydra and OmegaConf make of words that nobody typed
            return None
    return words if same else None


def _said(config: Config) -> Config:
    """Return a configuration as it is said where `strategy.clip_norm` need not be."""
    unsaid = replace(config, strategy=config.strategy | {"clip_norm": AUTO})
    return unsaid if with_clipping(unsaid) == config else config


def differing_keys(config: Config, other: Config) -> dict[str, tuple[Any, Any]]:
    """Return the keys in which two configurations differ, each with both values; None is no value.

    A key stands for all below it where one of the two has nothing there.
    """
    ours, theirs = (dict(leaves(asdict(each))) for each in (config, other))
    keys = [*ours, *(key for key in theirs if key not in ours)]
    return {
        key: (ours.get(key), theirs.get(key)) for key in keys if ours.get(key) != theirs.get(key)
    }


def _options(config: Config) -> list[str]:
    """Return ``group=option`` for every group whose option is not chosen without a word."""
    usual = _chosen(None)[DATASET]
    dataset = _nearest(DATASET, config.dataset, usual)
    choices = _chosen(None if dataset == usual else dataset)  # it chooses options of other groups
    options = {group: _nearest(group, getattr(config, group), choices[group]) for group in GROUPS}
    options[TRACKING] = _trackers(config)
    return [
        *([f"{DATASET}={dataset}"] if dataset != usual else []),
        *(f"{group}={option}" for group, option in options.items() if option != choices[group]),
    ]


def _trackers(config: Config) -> str:
    """Return the options of tracking, of which there may be several."""
    there = {file.stem for file in (CONFIG_DIR / TRACKING).glob("*.yaml")}
    found = [name for name in config.tracking if name in there]
    return found[0] if len(found) == 1 else f"[{','.join(found)}]" if found else "none"


@cache
def _chosen(dataset: str | None) -> dict[str, str]:
    """Return each group's option where at most the data set is named."""
    words = [] if dataset is None else [f"dataset={dataset}"]
    choices = compose("config", words, return_hydra_config=True).hydra.runtime.choices
    return {group: choices[group] for group in (DATASET, TRACKING, *GROUPS)}


def _nearest(group: str, wanted: Any, chosen: str) -> str:
    """Return the option of a group that goes by the same name, or makes the same thing."""
    found = wanted if isinstance(wanted, dict) else asdict(wanted)
    marks = [f"{key}: {found[key]}" for key in ("name", "_target_") if found.get(key)]

    def alike(option: str) -> tuple[bool, ...]:
        text = (CONFIG_DIR / group / f"{option}.yaml").read_text()
        lines = {line.split("#")[0].strip() for line in text.splitlines()}
        return (*(mark in lines for mark in marks), "_target_: ???" in lines, option == chosen)

    return max(sorted(file.stem for file in (CONFIG_DIR / group).glob("*.yaml")), key=alike)


def _differences(composed: DictConfig, wanted: dict[str, Any]) -> list[str]:
    """Return ``key=value`` for what differs; what follows another key only if it differs still."""
    OmegaConf.set_struct(composed, False)
    said = dict[str, str]()
    for following in (False, True):
        for key, value in _changes(composed, wanted, "", following):
            if value is _GONE:
                said[f"~{key}"] = f"~{key}"
                continue
            parent, _, name = key.rpartition(".")
            node = OmegaConf.select(composed, parent) if parent else composed
            new = name not in node.keys()  # noqa: SIM118  (`in` leaves out what has no value yet)
            said[key] = f"{'+' if new else ''}{key}={written(value)}"
            OmegaConf.update(composed, key, escaped(value), merge=False, force_add=True)
    return list(said.values())


_GONE = object()


def _changes(
    node: DictConfig, wanted: Mapping[str, Any], prefix: str, following: bool
) -> Iterator[tuple[str, Any]]:
    """Yield key and value of what differs; `following`: also where it is said by another key."""
    for key, value in wanted.items():
        path = f"{prefix}{key}"
        if not following and key in node and OmegaConf.is_interpolation(node, key):
            continue
        there = None if OmegaConf.is_missing(node, key) else node.get(key)
        if isinstance(value, dict) and isinstance(there, DictConfig):
            yield from _changes(there, value, f"{path}.", following)
        elif key not in node or OmegaConf.is_missing(node, key) or _plain(there) != value:
            yield path, value
    if not following:
        yield from ((f"{prefix}{key}", _GONE) for key in map(str, node) if key not in wanted)


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted keys of a nested dictionary, each with its value."""
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
