"""Arrays of Python objects in an .npy, such as text out of pandas: read as data, never as code.

Such an array lies there as a pickle, a program for a machine that can call whatever it names. Here
the program is looked through first: it may consist of the instructions that make text, numbers,
bytes, lists and tuples, and of those that name and call something. Then what it names must be one
of the few things that numpy names, and in its place stands a class of this file that only keeps
what it is given: nothing of numpy's, or of anybody's, is called with what the file says.
"""

import io
import pickle
import pickletools
from collections.abc import Callable
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

INSTRUCTIONS = frozenset(
    [
        *("PROTO", "FRAME", "STOP", "MARK", "MEMOIZE", "BINPUT", "LONG_BINPUT", "BINGET"),
        *("LONG_BINGET", "NONE", "NEWFALSE", "NEWTRUE", "BININT", "BININT1", "BININT2", "LONG1"),
        *("BINFLOAT", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES"),
        *("BINBYTES", "BINBYTES8", "EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_TUPLE", "TUPLE"),
        *("TUPLE1", "TUPLE2", "TUPLE3", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"),
    ]
)
"""No dictionary, no set (their hashes may take for ever), no other way to make an object."""
NUMBERS = frozenset(f"{kind}{size}" for kind in "iuf" for size in (1, 2, 4, 8)) - {"f1"}


class Unreadable(ValueError):
    """What is in the file is no array of text or numbers; the text says what else."""


def read_objects(file: IO[bytes]) -> NDArray[np.object_]:
    """Read an .npy whose header says that it holds Python objects.

    Returns
    -------
    ndarray of object
        [N] Text, bytes, numbers, None, or what a reader of ids will refuse.

    Raises
    ------
    Unreadable
        If it holds anything that would have to be run to be read, or is not whole.
    ValueError
        If it has no header as numpy writes it.
    """
    shape = _shape(file)
    content = file.read()
    _look_through(content)
    try:
        found = _Reader(io.BytesIO(content)).load()
    except Unreadable:
        raise
    except Exception as error:  # whatever the machine makes of a program that makes no sense
        raise Unreadable("no whole array") from error
    entries = found.entries if isinstance(found, _Array) else None
    if not isinstance(entries, list) or shape != (len(entries),):
        raise Unreadable("no array of one column")
    array = np.empty(len(entries), object)
    array[:] = [None if isinstance(each, list | tuple) else each for each in entries]
    return array


def _shape(file: IO[bytes]) -> tuple[int, ...]:
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in read:
        raise Unreadable(f"no version {version} of such an array")
    shape, _, type_ = read[version](file)
    if type_ != np.dtype(object):
        raise Unreadable(f"an array of {type_}")
    return tuple(shape)


def _look_through(content: bytes) -> None:
    """Raise unless a pickle has the instructions alone that are needed, and its sizes are real."""
    try:
        for instruction, value, _ in pickletools.genops(content):
            if instruction.name not in INSTRUCTIONS:
                raise Unreadable(f"other than text and numbers ({instruction.name})")
            if instruction.name == "LONG_BINPUT" and int(value or 0) >= len(content):
                raise Unreadable("no whole array")  # as much memory as it says would be asked for
    except Unreadable:
        raise
    except Exception as error:
        raise Unreadable("no whole array") from error


class _Array:
    """Stands for an array: keeps its entries."""

    def __init__(self, *_: object) -> None:
        self.entries: object = None

    def __setstate__(self, state: tuple[object, ...]) -> None:
        self.entries = state[4]


class _Type:
    """Stands for a `numpy.dtype`."""

    def __init__(self, code: str, *_: object) -> None:
        self.code, self.order = str(code), "<"

    def __setstate__(self, state: tuple[object, ...]) -> None:
        self.order = ">" if state[1] == ">" else "<"


def _scalar(type_: _Type, content: bytes) -> object:
    """Return a scalar of numpy's, such as numpy.str_, as what Python has for it."""
    if not isinstance(type_, _Type) or not isinstance(content, bytes):
        raise Unreadable("no whole array")
    if type_.code in NUMBERS:
        (number,) = np.frombuffer(content, np.dtype(type_.order + type_.code)).tolist()
        return number
    if type_.code.startswith("U"):
        encoding = "utf-32-be" if type_.order == ">" else "utf-32-le"
        return content.decode(encoding).rstrip("\0")
    if type_.code.startswith("S"):
        return content.rstrip(b"\0")
    raise Unreadable(f"scalars of type {type_.code!r:.20}")


STANDING: dict[tuple[str, str], Callable[..., object] | str] = {
    ("numpy", "ndarray"): "ndarray",  # is named alone, and never called
    ("numpy", "dtype"): _Type,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
}


class _Reader(pickle.Unpickler):
    """Knows the names that numpy gives, and ours in their place."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name; nothing is ever imported."""
        if (module, name) not in STANDING:
            raise Unreadable(f"other than text and numbers ({module}.{name})"[:200])
        return STANDING[module, name]
