"""What an .npz says of itself: looked at before a byte of an array is read.

A header of a hundred bytes may announce terabytes, and a megabyte of zeros, compressed, a gigabyte.
"""

import math
import os
import zipfile
from collections.abc import Sequence
from typing import IO, Any, BinaryIO

import numpy as np

from nufed.conf.errors import InputError
from nufed.conf.memory import in_words, require_room

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
ENCRYPTED = 1  # a bit of a member's flags
LARGE, TIMES = 1 << 30, 100
"""Bytes from which an array may be no more than so many times as large as what is stored of it."""
MAGIC = b"\x93NUMPY"
SAVE = "save it with numpy.savez"
OBJECTS = ("client",)
"""Arrays that may be of Python objects; see `nufed.tasks.datasets.object_ids`."""
LARGEST_OBJECT = 40  # bytes in memory for each that is stored: text of one character has 50


def require_sound(file: BinaryIO, names: Sequence[str], where: str) -> None:
    """Raise unless the arrays of these names, where they are there, are what they declare.

    Parameters
    ----------
    file
        The .npz, opened.
    where
        What names it to a person.

    Raises
    ------
    InputError
        If one is twice there, encrypted, of an unknown compression, no array, of another size than
        it declares, or larger than memory.
    """
    total = 0
    with zipfile.ZipFile(file) as archive:
        for name in names:
            found = [each for each in archive.infolist() if each.filename in (name, f"{name}.npy")]
            if len(found) > 1:
                raise InputError(f"{where}: has two arrays {name!r}; {SAVE}")
            for member in found:
                total += _declared(archive, file, member, name, where)
    require_room(total, where, "its arrays declare")


def _declared(
    archive: zipfile.ZipFile, file: BinaryIO, member: zipfile.ZipInfo, name: str, where: str
) -> int:
    """Return the bytes that an array takes in memory."""
    if member.flag_bits & ENCRYPTED:
        raise InputError(f"{where}: {name} is encrypted; {SAVE}")
    if member.compress_type not in METHODS:
        raise InputError(
            f"{where}: {name} is compressed by method {member.compress_type}, which is not known "
            f"here; {SAVE}"
        )
    if member.compress_size > os.fstat(file.fileno()).st_size:
        raise InputError(f"{where}: {name} is cut off; {SAVE}")
    if member.file_size > max(LARGE, TIMES * member.compress_size):
        raise InputError(
            f"{where}: {name} would take {in_words(member.file_size)} out of a file that has "
            f"{in_words(member.compress_size)} of it; if these are data, {SAVE}, uncompressed"
        )
    require_room(member.file_size, where, f"{name} declares")
    with archive.open(member) as content:  # a header may take as much as all of it
        shape, dtype = _header(content, name, where)
        stored = member.file_size - content.tell()
    if dtype.hasobject and name in OBJECTS:
        return LARGEST_OBJECT * stored
    if dtype.hasobject:
        raise InputError(
            f"{where}: {name} is an array of Python objects, such as text or ragged rows; save "
            "plain numbers"
        )
    rows, *row = shape or (1,)
    if min(rows, *row, 0) < 0 or dtype.itemsize == 0 or (rows > 0 and 0 in row):
        raise InputError(f"{where}: {name} has shape {list(shape)!s:.60} of {dtype}; {SAVE}")
    declared = math.prod(shape) * dtype.itemsize
    if declared != stored:
        raise InputError(
            f"{where}: {name} declares {in_words(declared)} ({list(shape)!s:.60} of {dtype}), the "
            f"file has {in_words(stored)} of it; {SAVE}"
        )
    return max(declared, member.file_size)


def _header(content: IO[bytes], name: str, where: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the shape and type that a member says to be of."""
    if content.read(len(MAGIC)) != MAGIC:
        raise InputError(f"{where}: {name} is no array of NumPy; {SAVE}")
    of_1 = content.read(2) == b"\x01\x00"
    read = np.lib.format.read_array_header_1_0 if of_1 else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(content)
    return tuple(shape), dtype
