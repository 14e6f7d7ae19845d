"""A configuration's text as plain data: what stands in it, and nothing that it could call for.

YAML and JSON as others may have written them. No tags, no aliases (a few lines of them stand for
billions of values), no resolvers: ``${…}`` is a text like any other.
"""

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

import yaml

DEEPEST, MOST = 32, 50_000
"""Levels and values of a text. A configuration has some five, and a hundred."""
FLOAT = "tag:yaml.org,2002:float"
EXPONENT = re.compile(r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)[eE][-+]?[0-9]+")
"""Numbers such as 1e-3, which YAML 1.1 takes for text."""


def plain(text: str) -> dict[str, Any]:
    """Return what a text in JSON or YAML says.

    Raises
    ------
    ValueError
        If it cannot be read, is no mapping, has aliases or tags, or one key twice.
    """
    try:
        found = json.loads(text, object_pairs_hook=_once)
    except (json.JSONDecodeError, RecursionError):
        try:
            found = yaml.load(text, _Loader)
        except yaml.YAMLError as error:
            raise ValueError(_said(error)) from error
    _require_plain(found)
    if not isinstance(found, dict):
        raise ValueError("it holds no keys")
    return found


def dump(values: dict[str, Any]) -> str:
    """Return plain data as YAML that `plain` reads as the same."""
    return str(yaml.dump(values, Dumper=_Dumper, allow_unicode=True, sort_keys=False))


def each_text(value: Any, change: Callable[[str], str]) -> Any:
    """Return plain data with each of its texts changed, but for keys."""
    if isinstance(value, dict):
        return {key: each_text(entry, change) for key, entry in value.items()}
    if isinstance(value, list):
        return [each_text(entry, change) for entry in value]
    return change(value) if isinstance(value, str) else value


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Refuses what plain data have no need of, before it is made."""

    depth = nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _refused("aliases and anchors are not read; write the value itself", event)
        if getattr(event, "tag", None) is not None:
            raise _refused("tags are not read", event)
        self.depth, self.nodes = self.depth + 1, self.nodes + 1
        if self.depth > DEEPEST:
            raise _refused(f"it is nested more than {DEEPEST} levels deep", event)
        if self.nodes > MOST:
            raise _refused(f"it has more than {MOST:,} values", event)
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        _once((self.construct_object(key, deep=True), None) for key, _ in node.value)
        return dict(super().construct_mapping(node, deep))


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Writes a value that stands twice out twice, and in quotes what `_Loader` would misread."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for each in (_Loader, _Dumper):
    each.add_implicit_resolver(FLOAT, EXPONENT, list("-+.0123456789"))
NO_TEXT = ":timestamp", ":merge", ":value"  # to YAML 1.1; to us dates, << and = are text
NO_COLON = "(?![^:]*:)"
"""Of no number: YAML 1.1 takes 1:30 for 90, and time that is quadratic in the colons."""
_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, re.compile(NO_COLON + found.pattern, found.flags))
        for tag, found in known
        if not tag.endswith(NO_TEXT)
    ]
    for first, known in _Loader.yaml_implicit_resolvers.items()
}


def _refused(what: str, event: yaml.Event) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=what, problem_mark=event.start_mark)


def _said(error: yaml.YAMLError) -> str:
    """Return what YAML complains of and in which line, without the text around it."""
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    if problem is None or mark is None:
        return " ".join(str(error).split())
    return f"{problem}, line {mark.line + 1}"


def _once(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """Return pairs as a dictionary; raise a `ValueError` for a key that comes twice."""
    found: dict[Any, Any] = {}
    for key, value in pairs:
        if not isinstance(key, str | int | float | bool):
            raise ValueError("a key is no text")
        if key in found:
            raise ValueError(f"the key {key!r} comes twice")
        found[key] = value
    return found


def _require_plain(value: Any, depth: int = 0) -> None:
    """Raise a `ValueError` for JSON that is too deep; YAML was refused before."""
    if depth > DEEPEST:
        raise ValueError(f"it is nested more than {DEEPEST} levels deep")
    if isinstance(value, dict | list):
        for entry in value.values() if isinstance(value, dict) else value:
            _require_plain(entry, depth + 1)
