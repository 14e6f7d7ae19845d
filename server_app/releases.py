"""What a private run released, written down before anybody has it: ε counts it, whatever dies when.

    <run folder>/releases.jsonl
    {"round": 12, "asked": 10, "clients": 50, "noise_multiplier": 1.0}

A line a release, on the disk before the release is made, in their order since the run began. A
round stands there again each time that it was repeated, as after a crash. The last line may be torn
by one; it counts as a release, which may or may not have been made.

A copy of a run folder counts the copy's own releases: who goes on with both has to add them.
"""

import json
import os
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from nufed.conf.errors import CannotWrite, InputError, reason
from nufed.conf.files import is_there, read_bytes, replacing
from nufed.conf.typed import made, parsed
from nufed.server_app.run_folder import LARGEST
from nufed.strategies.privacy import Release

RELEASES = "releases.jsonl"


class Ledger:
    """The releases of a run, in its folder.

    Only the process that holds the folder (`checkpoint.alone`) may add to it.

    Parameters
    ----------
    folder
        The run folder.
    releases
        Those that its file has.
    """

    def __init__(self, folder: Path, releases: list[Release]) -> None:
        self.file, self.releases = folder / RELEASES, releases

    def add(self, release: Release) -> None:
        """Write a release down, so that a power cut leaves it there.

        Raises
        ------
        CannotWrite
            If it cannot be. Then it must not be made.
        """
        begun = bool(self.releases)  # its file is there; a new one would lack what it had
        flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            file = os.open(self.file, flags if begun else flags | os.O_CREAT, 0o666)
            try:
                _append(file, _line(release))
            finally:
                os.close(file)
            if not begun:
                _sync(self.file.parent)
        except OSError as error:
            raise CannotWrite.of(self.file, error) from error
        self.releases.append(release)

    def write(self, folder: Path) -> None:
        """Write all of them into another folder, from which the run can go on; none, no file.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        if self.releases:
            put(folder, b"".join(map(_line, self.releases)))


def opened(folder: Path, torn: Release) -> Ledger:
    """Open the ledger of a run folder, and mend it; one without a file has no releases.

    Parameters
    ----------
    torn
        What a last line counts as that is not whole.

    Raises
    ------
    InputError
        If it cannot be read or mended, or an earlier line is no release.
    """
    file = folder / RELEASES
    if not is_there(file):
        return Ledger(folder, [])
    *lines, rest = read_bytes(file, largest=LARGEST).split(b"\n")
    ends_whole = not rest
    if not ends_whole:
        lines.append(rest)
    releases = list[Release]()
    for number, line in enumerate(lines, start=1):
        try:
            releases.append(made(Release, parsed(line)))
        except ValueError as error:
            if number < len(lines):  # all before the last were on the disk before the next began
                what = f"line {number} is no release ({reason(error):.200})"
                raise InputError(f"{file}: {what}; put back the file that the run wrote") from error
            releases.append(torn)
            ends_whole = False
    try:
        if not ends_whole:
            put(folder, b"".join(map(_line, releases)))
    except OSError as error:
        raise InputError(f"{file}: cannot be mended ({error.strerror})") from error
    return Ledger(folder, releases)


def put(folder: Path, content: bytes) -> None:
    """Write the file of a folder anew, whole or as it was, and onto the disk.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    with replacing(folder / RELEASES) as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    _sync(folder)


def _line(release: Release) -> bytes:
    return f"{json.dumps(asdict(release))}\n".encode()


def _append(file: int, line: bytes) -> None:
    """Append a line to an open file, and onto the disk; none of it where that fails."""
    begin = os.fstat(file).st_size
    try:
        while line:  # at the edge of a full disk, some of it is written first
            line = line[os.write(file, line) :]
        os.fsync(file)
    except OSError:
        with suppress(OSError):  # then it counts as a release, which it is not: ε is not too small
            os.ftruncate(file, begin)
        raise


def _sync(folder: Path) -> None:
    """Bring the names in a folder onto the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
