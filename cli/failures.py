"""Errors as one line: Hydra's and OmegaConf's exceptions in our words, with the nearest option."""

import difflib
import re
from collections.abc import Iterator
from pathlib import Path

from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from conf.compose import CONFIG_DIR
from conf.errors import NuFedError


def one_line(error: BaseException) -> str | None:
    """Return the line to print for a person's mistake; None for a defect of ours."""
    if isinstance(error, NuFedError):
        return str(error)
    if isinstance(error, MissingConfigException):
        return _missing_option(error)
    if isinstance(error, OverrideParseException):
        return f"{error.override}: cannot be read as an override; write key=value, in quotes if it has spaces"
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _bad_key(error)
    if isinstance(error, OSError) and error.filename:
        return f"hydra.run.dir={error.filename}: cannot be written ({error.strerror}); name another folder"
    return None


def _missing_option(error: MissingConfigException) -> str:
    """Explain an option of a group, such as dataset=foo, that no file stands for."""
    wanted = str(error.missing_cfg_file or "").removesuffix(".yaml")
    group, _, option = wanted.rpartition("/")
    options = sorted(error.options or [])
    return f"{group}={option}: no such option; {_nearest(option, options)}"


def _bad_key(error: Exception) -> str:
    """Explain a key that does not exist, or a value of the wrong type."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ConfigCompositionException) and (
            match := re.search(r"Could not (?:override|delete from config.*?) '([^']+)'", str(cause))
        ):
            key = match.group(1).split("=")[0]
            if any("not in" in str(c) or "not find" in str(c) for c in causes):
                return f"{key}: no such key; {_nearest(key, known_keys())}"
    root = causes[-1]
    key = getattr(root, "full_key", None) or ""
    reason = str(getattr(root, "msg", None) or root).strip().splitlines()[0]
    return f"{key}: {reason}" if key else reason


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those that it came from."""
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__


def known_keys() -> list[str]:
    """Return every key that some file of the configuration sets, groups included."""
    keys = {p.name for p in CONFIG_DIR.iterdir() if p.is_dir() and not p.name.startswith("__")}
    for file in CONFIG_DIR.rglob("*.yaml"):
        package = file.parent.relative_to(CONFIG_DIR).as_posix().removeprefix(".")
        keys |= set(_paths(file, package))
    return sorted(keys)


def _paths(file: Path, package: str) -> Iterator[str]:
    """Yield the dotted keys of one file."""

    def walk(node: object, prefix: str) -> Iterator[str]:
        if not isinstance(node, dict):
            return
        for key, value in node.items():
            if key not in ("defaults", "hydra", "_target_", "_partial_"):
                path = f"{prefix}.{key}".lstrip(".")
                yield path
                yield from walk(value, path)

    yield from walk(OmegaConf.to_container(OmegaConf.load(file)), package)


def _nearest(wanted: str, options: list[str]) -> str:
    """Return a hint: the options alike, or all where there are few."""
    if alike := difflib.get_close_matches(wanted, options, n=3, cutoff=0.6):
        return f"did you mean {' or '.join(alike)}?"
    if 0 < len(options) <= 12:
        return f"choose one of {', '.join(options)}"
    return "see nufed --help"
