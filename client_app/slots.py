"""Versions of what clients keep, by round: contents of one size in slots of one file.

    <name>.index    a record a client, at its number: VERSIONS × (round, slot, checksum)
    <name>.slots    slot 1, slot 2, …, of `size` bytes each

A content is written before the entry that names it, and never over a version that is still asked
for. The checksum is of the client, the round and the content: what a power cut left half written,
and what has been cut off, does not have it, and counts as not there; nothing is forced to the disk.
Processes take turns by a lock on the index, which ends with the process that has it; one that is
killed leaves at most a slot that is nobody's.
"""

import fcntl
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nufed.conf.errors import CannotWrite, InputError
from nufed.conf.files import is_there, regular

VERSIONS = 4
"""Of a client: the newest up to each of two checkpoints, the newest before the round, the round's.
"""
FORGOTTEN = -1
ENTRY = np.dtype([("round", "<i8"), ("slot", "<i8"), ("check", "<u8"), ("unused", "<u8")])
"""Slot 0 is none. 32 bytes, so that none lies across two pages, of which only one is written."""
RECORD = VERSIONS * ENTRY.itemsize
PIECE = 8192 * RECORD  # of the index, read at once

Records = NDArray[np.void]
Rows = NDArray[np.uint8]


class Version(NamedTuple):
    """What one client had after one round."""

    client: int
    round: int
    content: Rows


class Slots:
    """Contents of `size` bytes, at least 1, in files that begin with the name `path`.

    Errors of all methods: `InputError` if a file cannot be read or is no regular one, `CannotWrite`
    if it cannot be written.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.size = size
        self.index, self.slots = (path.with_name(f"{path.name}.{kind}") for kind in _KINDS)

    def read(self, clients: Sequence[int], before: int) -> tuple[Rows, NDArray[np.bool_]]:
        """Return contents [K, size], each the newest of a round before `before`, and whose is so.

        One whose newest is damaged has none, not an older one.
        """
        rows = np.zeros((len(clients), self.size), np.uint8)
        found = np.zeros(len(clients), np.bool_)
        if not (is_there(self.index) and is_there(self.slots)):
            return rows, found
        with self._reading() as (index, slots):
            records = _sound(_records(index, clients), _count(slots, self.size))
            newest, there = _newest(records, before - 1)
            entries = records[np.arange(len(clients)), newest]
            for i in np.flatnonzero(there).tolist():
                found[i] = self._fill(slots, rows[i], clients[i], entries[i])
        return rows, found

    def write(self, clients: Sequence[int], round: int, rows: Rows, saved: Iterable[int]) -> None:
        """Write contents of different clients [K, size], each over one that nobody asks for.

        Parameters
        ----------
        saved
            At most `VERSIONS` − 2 rounds; the newest version up to each is asked for.
        """
        limits = {min(each, round - 1) for each in (*saved, round - 1)}
        assert len(limits) < VERSIONS, "or there is no version to write over"
        with held(self.index) as index, writable(self.slots) as slots:
            count = _count(slots, self.size)
            records = _sound(_records(index, clients), count)
            places = _places(records, round, limits)
            entries = records[np.arange(len(clients)), places]
            new = entries["slot"] == 0
            entries["slot"][new] = count + 1 + np.arange(new.sum())
            entries["round"] = round
            for row, slot in zip(rows, entries["slot"].tolist(), strict=True):
                put(slots, row.data, (slot - 1) * self.size)
            each = zip(clients, rows, strict=True)
            entries["check"] = [_check(client, round, row) for client, row in each]
            for client, place, entry in zip(clients, places.tolist(), entries, strict=True):
                put(index, entry.tobytes(), client * RECORD + place * ENTRY.itemsize)

    def forget(self, since: int) -> None:
        """Forget versions of rounds after `since`; their slots serve again."""
        if not is_there(self.index):
            return
        with held(self.index) as index:
            for at, records in _pieces(index):
                late = (records["slot"] > 0) & (records["round"] > since)
                if late.any():
                    records["round"][late] = FORGOTTEN
                    put(index, records.tobytes(), at)

    def all(self) -> Iterator[Version]:
        """Yield every version that is whole, those of a client by round."""
        if not (is_there(self.index) and is_there(self.slots)):
            return
        with self._reading() as (index, slots):
            count = _count(slots, self.size)
            for at, records in _pieces(index):
                versions = np.sort(_sound(records, count), order="round", axis=1)
                for i, place in np.argwhere((versions["slot"] > 0) & (versions["round"] >= 0)):
                    client, entry = at // RECORD + int(i), versions[i, place]
                    content = np.zeros(self.size, np.uint8)
                    if self._fill(slots, content, client, entry):
                        yield Version(client, int(entry["round"]), content)

    def remove(self) -> None:
        """Remove the files."""
        for file in (self.index, self.slots):
            try:
                file.unlink(missing_ok=True)
            except OSError as error:
                raise CannotWrite.of(file, error) from error

    @contextmanager
    def _reading(self) -> Iterator[tuple[int, int]]:
        """Open index and slots to read, while nobody writes."""
        with regular(self.index) as index, regular(self.slots) as slots:
            try:
                fcntl.flock(index, fcntl.LOCK_SH)
                yield index.fileno(), slots.fileno()
            except OSError as error:
                raise InputError(f"{self.slots}: cannot be read ({error.strerror})") from error

    def _fill(self, slots: int, row: Rows, client: int, entry: np.void) -> bool:
        """Read a content into a row; return whether it is what was written for that entry."""
        read = os.preadv(slots, [row.data], (int(entry["slot"]) - 1) * self.size)
        whole = read == self.size
        return whole and _check(client, int(entry["round"]), row) == int(entry["check"])


_KINDS = ("index", "slots")


def _check(client: int, round: int, content: Rows) -> int:
    return zlib.crc32(content.data, zlib.crc32(struct.pack("<qq", client, round)))


def _count(slots: int, size: int) -> int:
    """Return how many slots were begun."""
    return -(-os.fstat(slots).st_size // size)


def _records(index: int, clients: Sequence[int]) -> Records:
    """Return the records of clients, [K, VERSIONS]; of those beyond the end, empty ones."""
    records = (os.pread(index, RECORD, client * RECORD) for client in clients)
    content = b"".join(record.ljust(RECORD, b"\0") for record in records)
    return np.frombuffer(content, ENTRY).reshape(-1, VERSIONS).copy()


def _pieces(index: int) -> Iterator[tuple[int, Records]]:
    """Yield where a piece of the index begins, and its records; pieces that are holes are none."""
    data = _next_data(index, 0)
    while data is not None:
        at = data - data % PIECE
        content = os.pread(index, PIECE, at)
        content += b"\0" * (-len(content) % RECORD)
        yield at, np.frombuffer(content, ENTRY).reshape(-1, VERSIONS).copy()
        data = _next_data(index, at + PIECE)


def _next_data(file: int, at: int) -> int | None:
    """Return where the next bytes are that are no hole of a sparse file."""
    try:
        return os.lseek(file, at, os.SEEK_DATA)
    except OSError:  # beyond the last
        return None


def _sound(records: Records, count: int) -> Records:
    """Return records without entries that name a slot which is not there."""
    records[(records["slot"] < 0) | (records["slot"] > count)] = 0
    return records


def _newest(records: Records, limit: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return which version is the newest up to round `limit`, and whose has one: [K] each."""
    rounds = np.where(records["slot"] > 0, records["round"], FORGOTTEN)
    rounds[rounds > limit] = FORGOTTEN
    return rounds.argmax(1), rounds.max(1) >= 0


def _places(records: Records, round: int, limits: Iterable[int]) -> NDArray[np.intp]:
    """Return which version of each client is written over [K].

    That of the same round; else one that nobody asks for; else one that is not there yet.
    """
    each, used = np.arange(len(records)), records["slot"] > 0
    rank = np.where(used, 2, 1)
    for limit in limits:
        newest, there = _newest(records, limit)
        rank[each[there], newest[there]] = 0
    rank[used & (records["round"] == round)] = 3
    places: NDArray[np.intp] = rank.argmax(1)
    return places


def put(file: int, content: bytes | memoryview, at: int) -> None:
    """Write all of a content to its place in a file."""
    rest = memoryview(content)
    while rest:
        written = os.pwrite(file, rest, at)
        rest, at = rest[written:], at + written


@contextmanager
def writable(path: Path) -> Iterator[int]:
    """Open a regular file to read and to write, made if it is not there.

    Raises
    ------
    CannotWrite
        If it cannot be opened, or of an `OSError` meanwhile.
    InputError
        If something else is in its place.
    """
    try:
        is_there(path)  # and nothing else in its place
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
        file = os.open(path, flags, 0o666)
    except OSError as error:
        raise CannotWrite.of(path, error) from error
    try:
        yield file
    except OSError as error:
        raise CannotWrite.of(path, error) from error
    finally:
        os.close(file)


@contextmanager
def held(path: Path) -> Iterator[int]:
    """Open a file as `writable` does, once no other process has it; it is held until the end."""
    with writable(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file
