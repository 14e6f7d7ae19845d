"""docs/configuration.md: every group, option and key, from schema.py and the YAML files beside it.

    python -m nufed.conf.reference    writes the page (make docs)

What a key means is said once: below its field in the schema, or else behind it in the YAML file.
"""

import ast
import inspect
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from hydra import compose
from hydra.utils import get_object
from omegaconf import OmegaConf

from nufed.conf.compose import CONFIG, CONFIG_DIR, composing
from nufed.conf.keys import package_of
from nufed.conf.schema import Config

PAGE = CONFIG_DIR.parent / "docs" / "configuration.md"
EXPERIMENT, OPTIMIZER = "experiment", "optimizer"
"""Groups that set the keys of others."""
NO_KEYS = "defaults", "hydra", "launcher", "_target_", "_partial_"
"""What composes a configuration, and what no one but the author of an option sets."""
DATACLASSES = ("algorithm", "rule", "sampler")
"""Groups whose options name a dataclass, of which the keys are the fields."""
FEW = 6
"""Options of a group that are all named beside their default; of more, those with another."""
INTRODUCTION = """\
# Configuration

Written by `make docs` from [conf/schema.py](../conf/schema.py) and the YAML files of
[conf/](../conf); nothing here is typed by hand.

A run is one configuration, composed of the options of groups (`algorithm=fedavg`) and of keys
(`algorithm.nu=3`), in any order. `nufed --cfg job` with your overrides shows what they compose, and
every run folder has it as `config.yaml`. `null` is no value, `[1,2]` a list, and `'{a: 1, b: 2}'`
several keys at once. With `nufed -m`, `1,2` is one run for each, and so is `'range(3)'`.
`${seed}` follows another key. What an option calls is its `_target_`, a function or class by its
full name; arguments that are not listed are added by a plus, as in `+model.width=16`.
"""


class Key(NamedTuple):
    """A key, as a row of a table."""

    name: str
    default: str
    text: str


def page() -> str:
    """Return the text of docs/configuration.md."""
    usual = _usual()
    top = _keys(CONFIG_DIR / CONFIG, "")
    general = [key for key in top if key.name.split(".")[0] not in usual]
    parts = [INTRODUCTION.rstrip(), "## Of no group", _table(general)]
    for group in usual:
        parts += _section(group, usual[group])
    return "\n\n".join(parts) + "\n"


@cache
def _usual() -> dict[str, str]:
    """Return the groups, each with the option that is chosen without a word; in their order."""
    with composing():
        composed = compose(CONFIG, [], return_hydra_config=True)
    chosen = composed.hydra.runtime.choices
    names = [*(field.name for field in fields(Config)), EXPERIMENT]
    names.insert(names.index("strategy") + 1, OPTIMIZER)
    return {name: str(chosen[name]) for name in names if name in chosen}


def _section(group: str, usual: str) -> Iterator[str]:
    """Yield what is said of a group: its options, the keys that all have, those of each."""
    files = sorted((CONFIG_DIR / group).glob("*.yaml"))
    yield f"## {group}"
    rows = [
        f"| `{group}={f.stem}`{' (default)' * (f.stem == usual)} | {_cell(heading(f))} |"
        for f in files
    ]
    yield "\n".join(["| option | what it is |", "|---|---|", *rows])
    if group == EXPERIMENT:  # they set the keys of others
        return
    tables = {file.stem: {key.name: key for key in _keys(file, group)} for file in files}
    shared = set.intersection(*(set(keys) for keys in tables.values()))
    if shared:
        yield _table([_merged(name, tables) for name in tables[usual] if name in shared])
    for option, keys in tables.items():
        if own := [key for name, key in keys.items() if name not in shared]:
            yield f"With `{group}={option}` also:"
            yield _table(own)


def _merged(name: str, tables: Mapping[str, Mapping[str, Key]]) -> Key:
    """Return a key of several options, which may differ in their defaults."""
    keys = {option: table[name] for option, table in tables.items()}
    of = defaultdict[str, list[str]](list)
    for option, key in keys.items():
        of[key.default].append(option)
    usual = max(of, key=lambda default: len(of[default]))
    others = [f"{default} ({', '.join(of[default])})" for default in of if default != usual]
    whole = len(keys) > FEW or not others
    first = usual if whole else f"{usual} ({', '.join(of[usual])})"
    text = max((key.text for key in keys.values()), key=len)
    return Key(name, ", ".join([first, *others]), text)


def _keys(file: Path, group: str) -> list[Key]:
    """Return the keys that a YAML file sets."""
    text = file.read_text()
    package = package_of(text, group)
    prefix = f"{package}." if package else ""
    comments = {f"{prefix}{name}": said for name, said in _comments(text)}
    loaded: Any = OmegaConf.to_container(OmegaConf.load(file))
    meanings = comments | _schema()
    if group in DATACLASSES and loaded.get("_target_", "???") != "???":
        meanings |= _docstrings(get_object(loaded["_target_"]), prefix)
    values = _leaves(loaded, prefix)
    return [
        Key(name, _shown(value), meanings.get(name, ""))
        for name, value in values
        if name != f"{group}.name"  # what an option calls itself
    ]


def _leaves(node: Any, prefix: str) -> Iterator[tuple[str, object]]:
    """Yield the dotted keys of a YAML file, each with its value."""
    for name, value in node.items():
        if name in NO_KEYS and value != "???":
            continue
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _comments(text: str) -> Iterator[tuple[str, str]]:
    """Yield the dotted keys of a YAML file with the comment behind each."""
    parents = list[tuple[int, str]]()
    for line in text.splitlines():
        if match := re.match(r"( *)(\w+):(.*)", line):
            indent, name, rest = len(match[1]), match[2], match[3]
            parents = [each for each in parents if each[0] < indent] + [(indent, name)]
            _, mark, comment = rest.partition("  # ")
            if mark:
                yield ".".join(parent for _, parent in parents), comment


def heading(file: Path) -> str:
    """Return the comment that a YAML file begins with."""
    lines = [line for line in file.read_text().splitlines() if "@package" not in line]
    end = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return " ".join(line.lstrip("# ") for line in lines[:end])


@cache
def _schema() -> dict[str, str]:
    return _docstrings(Config, "")


def _docstrings(type_: Any, prefix: str) -> dict[str, str]:
    """Return what stands below the fields of a dataclass, its bases' too, by dotted key."""
    found = dict[str, str]()
    bases: list[Any] = [base for base in type_.__mro__ if is_dataclass(base)]
    for base in reversed(bases):
        (tree,) = ast.parse(inspect.getsource(base)).body
        assert isinstance(tree, ast.ClassDef)
        for field, below in zip(tree.body, tree.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                key, text = ast.unparse(field.target), ast.literal_eval(below.value)
                found[f"{prefix}{key}"] = " ".join(text.split()).removesuffix(".")
    for each in fields(type_):
        if is_dataclass(each.type):
            found |= _docstrings(each.type, f"{prefix}{each.name}.")
    return found


def _shown(value: object) -> str:
    """Return a default as one would type it."""
    if value == "???":
        return "to be given"
    if value is None or isinstance(value, bool):
        return f"`{ {None: 'null', True: 'true', False: 'false'}[value] }`"
    return f"`{value}`"


def _table(keys: list[Key]) -> str:
    rows = [f"| `{key.name}` | {_cell(key.default)} | {_cell(key.text)} |" for key in keys]
    return "\n".join(["| key | default | what it is |", "|---|---|---|", *rows])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page())
