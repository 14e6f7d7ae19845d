"""Which keys there are, and what to say of one that is none of them."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra.conf import HydraConf
from omegaconf import OmegaConf

from nufed.conf.errors import alike, nearest

FOLDER = Path(__file__).parent
OPEN = (
    *("model", "dataset", "strategy", "rule", "sampler", "schedule", "tracking", "callbacks"),
    "task.metrics",
    "partition.partitioner",
)
"""Groups whose keys are arguments of what they name, which a person may add to."""
ANY_ENGINE = ("evaluate_with_training",)
"""Keys that every engine knows, though most options do not speak of them."""


def known_keys() -> dict[str, list[str]]:
    """Return every key that a file of the configuration sets -> the files, as group=option."""
    found: dict[str, list[str]] = defaultdict(list)
    # Those of a group first: that an option of another sets a key of it, too, orders nothing.
    files = sorted(FOLDER.rglob("*.yaml"), key=lambda file: (_sets_others(file), file))
    for file in files:
        group = file.parent.relative_to(FOLDER).as_posix().removeprefix(".")
        if group.startswith("hydra"):
            continue
        if group and group not in found:
            found[group] = []
        if group == "experiment":
            continue  # it sets the keys of others
        package = package_of(file.read_text(), group)
        for key in _paths(OmegaConf.to_container(OmegaConf.load(file)), package):
            found[key].append(f"{group}={file.stem}" if group else file.name)
    return found


def _sets_others(file: Path) -> bool:
    return file.parent != FOLDER and file.read_text().startswith("# @package _global_")


def package_of(text: str, group: str) -> str:
    """Return where the keys of an option's YAML file go: what its head says, else to its group."""
    found = re.match(r"# @package ([\w.]+)\n", text)
    package = found[1] if found else group
    return "" if package == "_global_" else package


def no_such_key(key: str, more: Sequence[str] = ()) -> str:
    """Return the line for a key that does not exist: where it does, which is meant, or what is.

    Parameters
    ----------
    key
        As it was typed, dotted, without a sign.
    more
        Keys that exist though no file sets them.
    """
    files = known_keys()
    if owners := files.get(key):
        return (
            f"{key}: no such key with the chosen options; it belongs to {', '.join(owners)}: "
            "name one too"
        )
    if key.startswith("hydra."):
        more = [*more, *_paths(OmegaConf.to_container(OmegaConf.structured(HydraConf)), "hydra")]
    keys = list(dict.fromkeys([*files, *more]))
    group = _group(key, keys)
    if not group or group == "hydra" or alike(key, keys):
        return f"{key}: no such key; {nearest(key, keys)}"
    has = [k.removeprefix(f"{group}.") for k in keys if k.startswith(f"{group}.")]
    leaves = [k for k in has if not any(other.startswith(f"{k}.") for other in has)]
    own = ""
    if any(key.startswith(f"{each}.") for each in OPEN):
        own = f"; an argument of your own is added by +{key}=…"
    return f"{key}: no such key; {group} has {', '.join(leaves)}{own}"


def unknown_of_engine(engine: dict[str, object]) -> str | None:
    """Return the first key that an engine's option does not have; None of an engine of one's own.

    Engines read what they know; a key that none reads would be ignored without a word.
    """
    files = {file.stem: file for file in (FOLDER / "engine").glob("*.yaml")}
    file = files.get(str(engine.get("name")))
    if file is None:
        return None
    loaded = OmegaConf.load(file)
    known = OmegaConf.to_container(loaded.engine if "engine" in loaded else loaded)
    assert isinstance(known, dict)
    return next((f"engine.{key}" for key in engine if key not in {*known, *ANY_ENGINE}), None)


def _group(key: str, keys: Sequence[str]) -> str:
    """Return the longest beginning of a dotted key that other keys share."""
    group = key.rpartition(".")[0]
    while group and not any(other.startswith(f"{group}.") for other in keys):
        group = group.rpartition(".")[0]
    return group


def _paths(node: object, prefix: str) -> Iterator[str]:
    """Yield the dotted keys of a nested dictionary."""
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        if key not in ("defaults", "hydra", "_target_", "_partial_"):
            path = f"{prefix}.{key}".lstrip(".")
            yield path
            yield from _paths(value, path)
