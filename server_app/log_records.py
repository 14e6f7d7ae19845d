"""Records in a run's log, which nobody but its ServerApp can write.

    @@nufed@@ 5f1c… {"n": 0, "key": "83ab…"}
    @@nufed@@ 91d0… {"n": 1, "start": {…}}

The log also holds what SuperNodes say, of their errors for one: a mark alone proves nothing. So a
record starts a line and has a code of its text (HMAC-SHA256), under a key that the ServerApp makes
before it hears from any of them, and that they never see, as they do not see the log. What has the
right code is a record, any other line is text. Records are numbered: Flower may lose some of a log,
or deliver some twice.
"""

import hashlib
import hmac
import itertools
import json
import secrets
import sys
import threading
from typing import Any, NamedTuple

from nufed.conf.typed import Mistyped, parsed, typed

MARK = "@@nufed@@ "  # ASCII: the locale of a container may know no more
KEY = "key"


class Record(NamedTuple):
    """One record."""

    number: int
    kind: str
    value: Any


class RecordWriter:
    """Print records, the key first."""

    def __init__(self) -> None:
        self._key = secrets.token_hex(32)
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self.write(KEY, self._key)

    def write(self, kind: str, value: object) -> None:
        """Print one, whatever another thread has left of a line."""
        with self._lock:
            text = json.dumps({"n": next(self._numbers), kind: value})
            sys.stdout.write(f"\n{MARK}{code(self._key, text)} {text}\n")  # at once


class RecordReader:
    """Tell records from what else a log holds."""

    def __init__(self) -> None:
        self._key: str | None = None
        self._first = True

    def again(self) -> None:
        """Begin anew: the log comes from its beginning once more."""
        self._first = True

    def read(self, line: str) -> Record | None:
        """Return the record that a line is; None if it is none of this run's.

        The key is taken from the first line that has the mark and from no other, since later ones
        may quote a SuperNode.
        """
        if not line.startswith(MARK):
            return None
        said, _, text = line.removeprefix(MARK).rstrip("\r\n").partition(" ")
        first, self._first = self._first, False
        key = _key_in(text) if self._key is None and first else self._key
        if key is None or not hmac.compare_digest(said.encode(), code(key, text).encode()):
            return None
        self._key = key
        return _record(text)


def code(key: str, text: str) -> str:
    """Return the code of a record's text, 32 hexadecimal digits."""
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()[:32]


def _record(text: str) -> Record:
    """Read a record; `Mistyped` if it is none, which only another version can have written."""
    content = typed(parsed(text), dict[str, Any], "a record")
    number = typed(content.pop("n", None), int, "n")
    if len(content) != 1:
        raise Mistyped("a record is not of one kind")
    ((kind, value),) = content.items()
    return Record(number, kind, value)


def _key_in(text: str) -> str | None:
    """Return the key that the first record brings, None if it is another."""
    try:
        record = _record(text)
        return typed(record.value, str, KEY) if record[:2] == (0, KEY) else None
    except ValueError:
        return None
