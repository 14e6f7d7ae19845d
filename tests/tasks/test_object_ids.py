"""Arrays of Python objects: their text and numbers are read, and nothing is ever run."""

import io
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nufed.conf.errors import InputError
from nufed.tasks.datasets.npz import read
from nufed.tasks.datasets.object_ids import Unreadable, read_objects

Save = Callable[..., Path]


def npy(content: bytes, *shape: int, descr: str = "|O") -> io.BytesIO:
    """Return an .npy whose header says that it holds objects, with any content."""
    file = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    file.write(content)
    file.seek(0)
    return file


def objects(*entries: object) -> np.ndarray[Any, Any]:
    array = np.empty(len(entries), object)
    array[:] = entries
    return array


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize(
    "entries",
    [
        ["ann", "bo", "ann", "李雷", ""],
        [5, -7, 2**70, 2.5, None, b"\xff"],
        [np.str_("é"), np.int8(-3), np.uint64(2**63), np.float32(0.5), np.bytes_(b"a")],
        [f"user {i}" for i in range(70_000)],
        [],
    ],
    ids=["text", "numbers", "numpy's own", "many", "none"],
)
def test_what_numpy_writes_is_read(entries: list[Any], protocol: int) -> None:
    found = read_objects(npy(pickle.dumps(objects(*entries), protocol), len(entries)))
    assert found.tolist() == entries


def test_a_file_of_numpy_savez_is_read(save: Save) -> None:
    path = save(client=np.array(["zoe", "amy", "bob"] * 2, object))
    assert read(str(path)).client.tolist() == ["zoe", "amy", "bob"] * 2  # type: ignore[union-attr]


class Calls:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def hidden(target: Path) -> dict[str, bytes]:
    """Return pickles that would make a file, or trouble, if they were run."""
    touch = Calls(os.system, f"touch {target}")
    array = pickle.dumps(objects("a", "b"), 4)
    return {
        "a call among the entries": pickle.dumps(objects("a", touch), 4),
        "a call instead": pickle.dumps(touch, 4),
        "an old call": f"cos\nsystem\n(S'touch {target}'\ntR.".encode(),
        "exec": pickle.dumps(Calls(exec, f"open({str(target)!r}, 'w')"), 4),
        "a method of what is allowed": array.replace(b"_reconstruct", b"_from_dlpack"),
        "numpy's own file": pickle.dumps(Calls(np.memmap, str(target), "u1", "w+", 0, 9), 4),
        "a dotted name": b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.tofile.x.y\x93.",
        "an instance": f"(ios\nsystem\n(S'touch {target}'\no.".encode(),
        "an extension": b"\x80\x02\x82\x01.",
        "a persistent one": b"\x80\x02U\x01aQ.",
        "nested hashes": b"\x80\x04)" + b"\x86q\x00h\x00" * 40 + b"}q\x01.",
        "a dictionary": pickle.dumps({"a": 1}, 4),
        "a set": pickle.dumps({"a"}, 4),
        "a memo of 16 GB": b"\x80\x04Nr\xff\xff\xff\x7f.",
        "text of 2^62 bytes": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"a.",
        "bytes of 2^40": b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"a.",
        "a frame of 2^60": b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"N.",
        "a number of 2^31 digits": b"\x80\x04\x8b" + struct.pack("<i", 2**31 - 1) + b"1.",
        "nothing": b"",
        "half": array[: len(array) // 2],
        "no stop": array[:-1],
        "no array": pickle.dumps("a", 4),
        "a list": pickle.dumps(["a", "b"], 4),
        "another number of entries": pickle.dumps(objects("a"), 4),
        "a table": pickle.dumps(objects("a", "b").reshape(1, 2), 4)[:-1] + b"0N.",
        "an empty stack": b"\x80\x04R.",
        "a state for numpy.dtype itself": b"\x80\x04\x8c\x05numpy\x8c\x05dtype\x93Nb.",
        "an impossible scalar": pickle.dumps(objects("a", np.float64(1)), 4).replace(b"f8", b"f1"),
        "a scalar of no length": pickle.dumps(objects("a", np.int64(1)), 4).replace(b"i8", b"i4"),
    }


@pytest.mark.parametrize("name", hidden(Path("target")))
def test_what_is_not_text_or_numbers_is_refused_and_not_run(tmp_path: Path, name: str) -> None:
    target = tmp_path / "target"
    with pytest.raises(Unreadable) as caught:
        read_objects(npy(hidden(target)[name], 2))
    assert not target.exists()
    assert len(str(caught.value)) < 100
    assert "\n" not in str(caught.value)


def test_it_is_refused_in_one_line(save: Save, tmp_path: Path) -> None:
    """As ids of clients; and as any other array, which may not hold objects at all."""
    target = tmp_path / "target"
    hostile = objects(*["a"] * 5, Calls(os.system, f"touch {target}"))
    for name, words in {
        "client": "system",
        "x": "save plain numbers",
        "y": "plain numbers",
    }.items():
        path = save(**{name: hostile})
        with pytest.raises(InputError) as caught:
            read(str(path))
        assert str(caught.value).startswith(f"dataset.path={path}: {name} is an array of Python o")
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not target.exists()


def test_a_header_of_another_type_is_refused() -> None:
    with pytest.raises(Unreadable, match="an array of int64"):
        read_objects(npy(bytes(16), 2, descr="<i8"))


def test_mutations_end_in_one_error_or_in_plain_values() -> None:
    """A byte here and there, of text and of numpy's scalars: nothing else is ever raised."""
    random = np.random.default_rng(0)
    whole = pickle.dumps(objects("ann", np.str_("bo"), np.int64(7), 2.5, b"x"), 4)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(2000):
        content = bytearray(whole)
        for place in random.integers(2, len(content), random.integers(1, 4)):
            content[place] = random.integers(256)
        try:
            found = read_objects(npy(bytes(content), 5))
        except Unreadable:
            outcomes["refused"] += 1
        else:
            outcomes["read"] += 1
            assert all(isinstance(e, str | bytes | int | float | None) for e in found.tolist())
    assert min(outcomes.values()) > 100, outcomes
