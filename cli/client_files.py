"""What the files of clients are called, whatever their ids are."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from urllib.parse import quote

from nufed.tasks.ids import Id

LONGEST = 100  # of a name; file systems take 255 bytes, endings and all
DIGITS = 16  # of the digest that stands for what a name leaves out


def file_names(ids: Sequence[Id]) -> list[str]:
    """Return a name for each client's files, without an ending, no two alike.

    It is the id, and of letters, digits, ``_``, ``-``, ``.`` and ``~`` alone: any other is written
    as ``%`` and two hexadecimal digits a byte of UTF-8, as in a URL, and so is a dot or a dash that
    it begins with. One that is longer than 100 characters, or differs from another by no more than
    capitals, which some file systems do not tell apart, has a digest of the id at its end.
    """
    plain = [_quoted(str(each)) for each in ids]
    alike = Counter(name.lower() for name in plain)
    digested = [_digested(name, str(each)) for name, each in zip(plain, ids, strict=True)]
    names = [
        name if len(name) <= LONGEST and alike[name.lower()] == 1 else other
        for name, other in zip(plain, digested, strict=True)
    ]
    # An id may be made to look like what another comes to.
    return names if len({name.lower() for name in names}) == len(names) else digested


def _quoted(text: str) -> str:
    name = quote(text, safe="")
    return f"%{ord(name[0]):02X}{name[1:]}" if name[0] in ".-" else name


def _digested(name: str, text: str) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
    return f"{name[: LONGEST - DIGITS - 1].rstrip('%')}-{digest}"
