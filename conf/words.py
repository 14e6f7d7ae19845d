"""Words of a command line: file names as people type them, and commands that can be typed.

A shell takes quotes away, and Hydra's grammar of overrides then stumbles over `dataset.path=mine
(1).npz`, or reads `a,b.npz` as two values and `${x}.npz` as another key's. What names a file or
folder is text: it is quoted for Hydra before that reads it.
"""

import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from nufed.conf.text import printable

NEW = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")
"""Keys that name a folder to be; they are often made of other keys, as in runs/${name}."""
PATHS = (*NEW, "dataset.path", "engine.root_certificates", "resume", "sampler.path")
"""Keys whose value names a file or folder."""
OF_DATA = (
    *("dataset.client", "dataset.features", "dataset.target", "dataset.test"),
    "evaluation.new_clients",
)
"""Keys whose value is a text out of the data, or a list of them."""
NOTHING = ("", "null", "???")
BARE = re.compile(r"\.{0,2}[A-Za-z_/][\w./+@-]*", re.ASCII)
ENTRY = re.compile(
    r"""[\[\],] | \s*(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")\s*(?=[\],]|$) | (?P<bare>[^\[\],]+)""",
    re.VERBOSE,
)
"""A bracket or comma, an entry in quotes, or one without."""
RESERVED = {"null", "true", "false", "inf", "nan"}


def path_of(text: str | Path) -> Path:
    """Return the path that a text names; ~ is one's home, unless there is a file of that name."""
    path = Path(text)
    if not str(text).startswith("~") or there(path):
        return path
    try:
        return path.expanduser()
    except RuntimeError:  # a name such as ~draft.npz, and no such user
        return path


def there(path: Path) -> bool:
    """Tell whether a file or folder is there; what cannot be a name is not."""
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, no right to look, or a null character
        return False


def apart(words: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return which words name files or folders, and which are key=value, in their order.

    What is there is a file or folder, whatever stands in its name.
    """
    paths, others = list[str](), list[str]()
    for word in words:
        (paths if "=" not in word or there(path_of(word)) else others).append(word)
    return paths, others


def for_hydra(words: Iterable[str], several: bool = False) -> list[str]:
    """Return words of a command line such that Hydra reads those that name files as they stand.

    Parameters
    ----------
    words
        As the shell passes them on.
    several
        Whether a key may have several values, as with -m.
    """
    return [_for_hydra(word, several) for word in words]


def command_line(program: str, words: Iterable[str] = (), **values: object) -> str:
    """Return a command that a shell and Hydra read back as what it was made of.

    Parameters
    ----------
    words
        Overrides that Hydra can read, or other arguments, as they stand.
    values
        key=value besides.
    """
    parts = [program, *words, *(f"{key}={written(v)}" for key, v in values.items())]
    return " ".join(map(for_shell, parts))


def for_shell(word: str) -> str:
    r"""Return a word as a shell reads it back; one that cannot be shown as bash's ``$'a\nb'``."""
    if printable(word) == word:
        return shlex.quote(word)
    return "$'" + "".join(map(_in_ansi_quotes, word)) + "'"


def _in_ansi_quotes(c: str) -> str:
    if c in "\\'":
        return f"\\{c}"
    if printable(c) == c:
        return c
    number = ord(c)
    if number < 0x80 or 0xDC80 <= number <= 0xDCFF:  # the latter is a byte that is no UTF-8
        return {"\n": r"\n", "\t": r"\t", "\r": r"\r"}.get(c, f"\\x{number & 0xFF:02x}")
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def written(value: Any) -> str:
    """Return a value in Hydra's grammar of overrides."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | Path):
        return _quoted(str(value))
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{written(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(written, value))}]"
    return repr(value)


def escaped(value: Any) -> Any:
    """Return a value of which OmegaConf takes every text as it stands, also `${…}` in it."""
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    if isinstance(value, Mapping):
        return {key: escaped(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [escaped(entry) for entry in value]
    return value


def _quoted(text: str) -> str:
    """Return a text as Hydra reads it back; within a shell's quotes, double ones read well."""
    if BARE.fullmatch(text) and text.lower() not in RESERVED:
        return text
    return _in_quotes(escaped(text))


def _in_quotes(text: str) -> str:
    return str(QuotedString(text, Quote.double).with_quotes())


def _for_hydra(word: str, several: bool) -> str:
    key, sign, text = word.partition("=")
    name = key.lstrip("+")
    if not sign or word.startswith("-"):
        return word
    if name not in PATHS:
        if _parsed(word):
            return word
        if name in OF_DATA:
            return f"{key}={_readable(text)}"
        # A key of the person's own code may name a file too.
        return f"{key}={_quoted(text)}" if there(path_of(text)) else word
    if text in NOTHING:
        return word
    if not _literal(name, text):
        several, parts = several and name not in NEW, text.split(",")
        listed = name not in NEW and len(parts) > 1 and all(map(there, map(path_of, parts)))
        if _means_more(word, text, several or listed):
            return word
        if several and listed:
            return f"{key}={','.join(map(_quoted, parts))}"
        if "${" in text:
            return f"{key}={_in_quotes(text)}"
    return f"{key}={_quoted(str(path_of(text)) if name in NEW and text[0] == '~' else text)}"


def _readable(text: str) -> str:
    """Return texts, in which Hydra stumbles over Zoë and <b>, so that it reads each as it is."""

    def entry(found: re.Match[str]) -> str:
        each = found["bare"]
        known = each is None or not each.strip() or _parsed(f"key={each.strip()}")
        return found[0] if known else _quoted(each.strip())

    return ENTRY.sub(entry, text)


def _literal(name: str, text: str) -> bool:
    """Tell whether a text is what a file is called, or a folder that one to be is in."""
    if there(path_of(text)):
        return True
    parts = Path(text).parts
    odd = [i for i, part in enumerate(parts, 1) if re.search(r"\$\{|[\\'\"]", part)]
    return name in NEW and bool(odd) and there(path_of(Path(*parts[: odd[-1]])))


def _means_more(word: str, text: str, several: bool) -> bool:
    """Tell whether a word says in Hydra's grammar what no text says: quotes, escapes, `${…}`."""
    override = _parsed(word)
    if override is None:
        return False
    if override.is_sweep_override():
        return several
    value = override.value()
    return isinstance(value, str) and ("${" in text or value != text.strip())


def _parsed(word: str) -> Override | None:
    """Return a word as Hydra reads it; None where it cannot."""
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException:
        return None
