"""What is a person's own on this machine: the folder that is kept for them, the runs they made.

A run whose model is code of the person's own goes on, and is adapted, without a word; another's is
not, for its config.yaml may name anything (see `nufed.conf.targets`). The two are told apart by a
line at the end of that file: a digest of it under a key that lies in `$NUFED_DATA` and never leaves
it.
"""

import hashlib
import hmac
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from nufed.conf.errors import InputError
from nufed.conf.files import read_bytes
from nufed.conf.words import path_of

MARK = "# of this person's own, by "
LENGTH = 32  # bytes


def home() -> Path:
    """Return the folder of everything that is prepared once and kept: `$NUFED_DATA`."""
    return path_of(os.environ.get("NUFED_DATA") or "~/.cache/nufed")


def signed(text: str) -> str:
    """Return the text of a config.yaml with the line by which `is_own` knows it again.

    Without it where there is no place for a key: the run is asked about as another's would be.
    """
    key = _key() or _new_key()
    return text if key is None else f"{text}{MARK}{_digest(text, key)}\n"


def is_own(text: str) -> bool:
    """Tell whether `signed` made a text, for this person, on this machine."""
    content, mark, digest = text.rpartition(MARK)
    if not mark or (key := _key()) is None:
        return False
    return hmac.compare_digest(_digest(content, key).encode(), digest.strip().encode())


def _digest(text: str, key: bytes) -> str:
    return hmac.new(key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def _file() -> Path:
    return home() / f"key-{os.getuid()}"  # the folder may be shared


def _key() -> bytes | None:
    """Return this person's key; None if there is none, or others may read or write it."""
    try:
        state = _file().lstat()
        key = read_bytes(_file(), largest=LENGTH)
    except (OSError, InputError):
        return None
    theirs = state.st_uid == os.getuid() and not stat.S_IMODE(state.st_mode) & 0o077
    return key if theirs and len(key) == LENGTH else None


def _new_key() -> bytes | None:
    """Make a key, whole at once; of several that runs make side by side, the first counts."""
    draft = home() / f".key-{secrets.token_hex(8)}"
    try:
        home().mkdir(parents=True, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(LENGTH))
            with suppress(FileExistsError):
                os.link(draft, _file())
        finally:
            draft.unlink()
    except OSError:
        return None
    return _key()
