"""Errors as one line: Hydra's and OmegaConf's exceptions in our words, with the nearest option."""

import errno
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException, ValidationError

from nufed.cli.start import COMMANDS
from nufed.conf.errors import NuFedError, alike, nearest
from nufed.conf.keys import no_such_key
from nufed.conf.words import written

FULL = (errno.EDQUOT, errno.EFBIG, errno.ENOSPC, errno.EROFS)
FILES = {".npz": "npz", ".parquet": "parquet", ".csv": "hf", ".json": "hf", ".jsonl": "hf"}
TABLES = ".csv", ".parquet"
TABLE = "a table with text or gaps becomes an .npz by nufed-data prepare"
KINDS = {"Integer": "an integer", "Float": "a number", "bool": "true or false"}


def one_line(error: BaseException) -> str | None:
    """Return the line to print for a person's mistake; None for a defect of ours."""
    if isinstance(error, NuFedError):
        return str(error)
    if isinstance(error, OSError) and error.errno in FULL:
        name = error.filename or "a file"
        return f"{name}: cannot be written ({error.strerror}); make room, or name another folder"
    if isinstance(error, MissingConfigException):
        return _missing_option(error)
    if isinstance(error, OverrideParseException):
        near = alike(str(error.override), COMMANDS)
        if near and error.override not in COMMANDS:  # which do not go with options of Hydra's
            return f"{error.override}: no such command; did you mean nufed {near[0]}?"
        return f"{error.override}: cannot be read; write key=value, in quotes if it has spaces"
    if ambiguous := re.match(r"Ambiguous value for argument '(.*)'\n", str(error)):
        return (
            f"{ambiguous[1]}: has several values, which are for nufed -m; a list has brackets, "
            "a decimal number a point"
        )
    if plugin := re.search(r"Unknown plugin class : 'hydra_plugins\.(\w+)", str(error)):
        package = plugin[1].replace("_", "-")  # hydra_optuna_sweeper
        return f"{package}: is not installed; pip install {package}"
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _composition(error)
    if isinstance(error, ValueError) and "Config group override must be" in str(error):
        return "a group cannot be null; name one of its options, as in dataset=digits"
    return None


def _missing_option(error: MissingConfigException) -> str:
    """Explain an option of a group, such as dataset=foo, that no file stands for."""
    wanted = str(error.missing_cfg_file or "").removesuffix(".yaml")
    group, _, option = wanted.rpartition("/")
    path = wanted.removeprefix("dataset/")
    if group.startswith("dataset") and (kind := FILES.get(Path(path).suffix)):
        say = shlex.join([f"dataset={kind}", f"dataset.path={written(path)}"])
        table = f"; {TABLE}" if Path(path).suffix in TABLES else ""
        return f"dataset={path}: names a file; say {say}{table}"
    return f"{group}={option}: no such option; {nearest(option, sorted(error.options or []))}"


def _composition(error: Exception) -> str:
    """Explain a key that does not exist, or a value of the wrong type."""
    causes = list(_causes(error))
    for cause in causes:
        if match := re.search(r"Missing mandatory value: (\S+)", str(cause)):
            return f"{match.group(1)}: has no value; give one as {match.group(1)}=…"
        if isinstance(cause, MissingMandatoryValue):
            return f"{cause.full_key}: has no value; give one as {cause.full_key}=…"
        if isinstance(cause, ValidationError) and cause.full_key:
            return _wrong_type(cause)
        if match := re.search(r"Could not override '([^']+)'", str(cause)):
            return no_such_key(match.group(1).split("=")[0])
        if match := re.search(r"Could not delete from config\. '([^']+)' does not", str(cause)):
            return no_such_key(match.group(1))
        if match := re.search(r"An item is already at '([^']+)'", str(cause)):
            return f"+{match.group(1)}: is there already; write {match.group(1)}=… without the +"
        if isinstance(cause, OmegaConfBaseException) and cause.full_key:
            return f"{cause.full_key}: {str(cause).strip().splitlines()[0]}"
    lines = [str(cause).strip().splitlines() for cause in causes]
    return next((text[0] for text in reversed(lines) if text), type(error).__name__)


def _wrong_type(error: ValidationError) -> str:
    match = re.search(
        r"Value '(.*)' (?:of type '.*' could not be converted to|is not a valid) (\w+)", str(error)
    )
    if match is None:
        return f"{error.full_key}: {str(error).splitlines()[0]}"
    return f"{error.full_key}={match.group(1)}: must be {KINDS.get(match.group(2), match.group(2))}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those that it came from."""
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__
