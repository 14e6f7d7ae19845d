"""Files that would hang a reader, fill the memory or run code: each refused in one line."""

import io
import os
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from nufed.conf.errors import InputError
from nufed.conf.memory import SLACK, limited
from nufed.tasks.datasets import hf, image_folder, npz, parquet

Read = Callable[[Path], object]
READERS: dict[str, Read] = {
    "mine.npz": lambda path: npz.read(str(path)),
    "own.npz": lambda path: npz.read_own(str(path)),
    "mine.parquet": lambda path: parquet.read(str(path), "x", "y", "client"),
    "mine.csv": lambda path: hf.read(str(path), "x", "y", "client"),
}


def refusal(read: Read, path: Path) -> str:
    """Return the one line with which it is refused."""
    with pytest.raises(InputError) as caught:
        read(path)
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", ["FIFO", "socket", "device"])
def test_what_is_no_regular_file_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    path = Path(name)
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(name)
    else:
        path.symlink_to("/dev/zero")
    assert f"is a {kind}, not a regular file" in refusal(READERS[name], path)


@pytest.mark.parametrize("name", ["mine.parquet", "mine.csv"])
def test_a_fifo_in_a_folder_of_data_is_not_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"x": [1.0]}), tmp_path / "data" / "0.parquet")
    os.mkfifo(tmp_path / "data" / "1.parquet")
    line = refusal(READERS[name], tmp_path / "data")
    assert "1.parquet is neither a file nor a folder" in line


# .npz


def npy(descr: str, shape: str, content: bytes = b"") -> bytes:
    """An array that says to be of this type and shape."""
    said = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(said)) + said + content


def archive(path: Path, x: bytes, method: int = zipfile.ZIP_STORED) -> Path:
    """Write an .npz with this for x."""
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("x.npy", x)
        for name, array in (("y", np.arange(6) % 2), ("client", np.arange(6) // 3)):
            buffer = io.BytesIO()
            np.save(buffer, array)
            file.writestr(f"{name}.npy", buffer.getvalue())
    return path


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (npy("'<f8'", "(1099511627776,)"), "x declares 8.8 TB ([1099511627776] of float64), the"),
        (npy("'<f8'", "(6, 1099511627776)"), "x declares 52.8 TB"),
        (npy("'<f8'", f"({2**62}, 16)"), "x declares 5.9e+05 PB"),
        (npy("'<f8'", "(-1,)"), "x has shape [-1]"),
        (npy("'<f8'", f"({2**40}, 0)"), "x has shape [1099511627776, 0]"),
        (npy("'|V0'", f"({2**40},)"), "x has shape [1099511627776] of |V0"),
        (npy("'<U0'", f"({2**40},)"), "x has shape [1099511627776] of <U0"),
        (npy("'<U250000000'", "(6,)"), "x declares 6 GB"),
        (npy("'|O'", "(6,)", b"cos\nsystem\n(S'touch /tmp/run'\ntR."), "array of Python objects"),
        (npy("'<f8'", "(6,)", bytes(40)), "x declares 48 bytes ([6] of float64), the file has 40"),
        (npy("'<f8'", "(6,)", bytes(56)), "x declares 48 bytes ([6] of float64), the file has 56"),
        (npy("'<f8'", "(" * 900), "not a readable .npz"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(99), "not a readable .npz"),
        (b"x = 1\n", "x is no array of NumPy"),
    ],
    ids=str,
)
def test_an_array_that_is_not_what_it_says_is_refused(tmp_path: Path, x: bytes, words: str) -> None:
    line = refusal(READERS["mine.npz"], archive(tmp_path / "mine.npz", x))
    assert line.startswith(f"dataset.path={tmp_path / 'mine.npz'}: ")
    assert words in line


def entry(path: Path, field: int, value: bytes) -> Path:
    """Change a field of the first entry of a zip's directory."""
    content = bytearray(path.read_bytes())
    at = content.find(b"PK\x01\x02") + field
    content[at : at + len(value)] = value
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        (8, b"\x01\x00", "x is encrypted"),
        (10, b"\x63\x00", "x is compressed by method 99, which is not known here"),
        (10, b"\x09\x00", "x is compressed by method 9,"),
        (20, b"\x00\x00\x00\x70", "x is cut off"),
    ],
)
def test_a_zip_that_cannot_be_read_is_refused(
    tmp_path: Path, field: int, value: bytes, words: str
) -> None:
    path = archive(tmp_path / "mine.npz", npy("'<f8'", "(6,)", bytes(48)))
    assert words in refusal(READERS["mine.npz"], entry(path, field, value))


def test_a_zip_bomb_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Megabytes of zeros in kilobytes, all of it as declared; above a gigabyte, that is."""
    x = npy("'<f8'", "(6, 100000)", bytes(4_800_000))
    path = archive(tmp_path / "mine.npz", x, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 48_000
    assert npz.read(str(path)).x.shape == (6, 100_000)
    monkeypatch.setattr("nufed.tasks.datasets.members.LARGE", 1 << 20)
    line = refusal(READERS["mine.npz"], path)
    assert "x would take 4.8 MB out of a file that has 4." in line
    assert "save it with numpy.savez, uncompressed" in line


def test_arrays_beyond_the_free_memory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = archive(tmp_path / "mine.npz", npy("'<f8'", "(6, 1000)", bytes(48_000)))
    monkeypatch.setattr("nufed.conf.memory.free_ram", lambda: 50_000)
    assert "x declares 48.1 kB, and 50 kB of memory are free" in refusal(READERS["mine.npz"], path)
    monkeypatch.setattr("nufed.conf.memory.free_ram", lambda: 60_500)
    assert "its arrays declare 48.4 kB, and 60.5 kB of" in refusal(READERS["mine.npz"], path)
    monkeypatch.setattr("nufed.conf.memory.free_ram", lambda: 100_000)
    assert npz.read(str(path)).x.shape == (6, 1000)


def test_two_arrays_of_one_name_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "mine.npz", npy("'<f8'", "(6,)", bytes(48)))
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("x", npy("'<f8'", "(6,)", b"\x01" * 48))
    assert "has two arrays 'x'" in refusal(READERS["mine.npz"], path)


# Parquet


def rows(**columns: object) -> pa.Table:
    """Six rows, but for these columns."""
    return pa.table(
        {"x": [[1.0, 2.0]] * 6, "y": [0, 1] * 3, "client": ["a"] * 3 + ["b"] * 3} | columns
    )


def test_more_rows_than_the_free_memory_has_bytes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million rows in a few kilobytes."""
    path, n = tmp_path / "mine.parquet", 1_000_000
    same = {"x": np.zeros(n, "i1"), "y": np.arange(n) % 2 == 0, "client": np.zeros(n, "i1")}
    pq.write_table(pa.table(same), path)
    assert path.stat().st_size < 200_000
    monkeypatch.setattr("nufed.conf.memory.free_ram", lambda: 3_000_000)
    line = refusal(READERS["mine.parquet"], path)
    assert "its 1,000,000 rows declare at least 3 MB, and 3 MB of memory are free" in line


def test_text_that_a_dictionary_repeats_is_counted_as_long_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.parquet"
    text = pa.array(["y" * 100_000] * 2000).dictionary_encode()
    many = {"x": [1.0] * 2000, "y": text, "client": [0, 1] * 1000}
    pq.write_table(pa.table(many), path, compression="zstd")
    assert path.stat().st_size < 50_000
    monkeypatch.setattr("nufed.conf.memory.free_ram", lambda: 100 << 20)
    assert "column 'y' takes 800 MB, and 105 MB of memory" in refusal(READERS["mine.parquet"], path)


def test_columns_of_nothing_are_refused(tmp_path: Path) -> None:
    pq.write_table(rows(x=pa.array([[]] * 6, pa.list_(pa.float32()))), tmp_path / "mine.parquet")
    line = refusal(READERS["mine.parquet"], tmp_path / "mine.parquet")
    assert "x has shape (6, 0): a row holds nothing" in line


def test_other_columns_are_not_read(tmp_path: Path) -> None:
    """Of a name with a dot too; and what is missing is told with all that are there."""
    path = tmp_path / "mine.parquet"
    pq.write_table(rows(**{"a.b": [0.5] * 6, "photo": [b"\0" * 1000] * 6}), path)
    assert parquet.read(str(path), "a.b", "y", "client", one_class="keep").x.shape == (6, 1)
    with pytest.raises(InputError, match=r"no column 'z' \(found: x, y, client, a.b, photo\)"):
        parquet.read(str(path), "z", "y", "client")


def test_memory_that_is_not_there_cannot_be_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nufed.conf.memory.free_ram", lambda: 0)
    with limited(), pytest.raises(MemoryError):
        np.zeros(2 * SLACK, np.uint8)
    assert len(np.zeros(2 * SLACK, np.uint8)) == 2 * SLACK


# Images


def folder(root: Path, content: bytes, name: str = "1.png") -> Path:
    """A folder of two clients' images, one of which is this."""
    import PIL.Image

    for place in ("a/0", "a/1", "b/0", "b/1"):
        (root / place).mkdir(parents=True)
        PIL.Image.new("RGB", (4, 4)).save(root / place / "0.png")
    (root / "a/0" / name).write_bytes(content)
    return root


def saved(kind: str, mode: str, size: tuple[int, int] = (4, 4), frames: int = 1) -> bytes:
    import PIL.Image

    made = [PIL.Image.new(mode, size, 50 * i) for i in range(frames)]
    buffer = io.BytesIO()
    more = {"save_all": True, "append_images": made[1:]} if frames > 1 else {}
    made[0].save(buffer, kind, **more)
    return buffer.getvalue()


def images(path: Path) -> object:
    return image_folder.read(str(path))


def bomb(side: int) -> bytes:
    """A PNG that declares this many pixels a side, and holds a few."""
    good = saved("PNG", "RGB")
    head = b"IHDR" + struct.pack(">II", side, side) + good[24:29]
    return good[:12] + head + struct.pack(">I", zlib.crc32(head)) + good[33:]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (bomb(12_000), "declares 12,000 x 12,000 pixels; at most 134,217,728 are read"),
        (bomb(2**31 - 1), "cannot be read"),
        (saved("PNG", "RGB")[:-30], "cannot be read"),
        (saved("PNG", "I;16"), "has more than 8 bits a channel (mode I;16)"),
        (saved("GIF", "L", frames=3), "holds several pictures"),
        (saved("PNG", "RGB", frames=2), "holds several pictures"),
        (saved("TIFF", "RGB", frames=2), "holds several pictures"),
        (saved("EPS", "RGB"), "cannot be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n", "cannot be read"),
        (b"", "cannot be read"),
    ],
    ids=str,
)
def test_an_image_that_is_none_to_be_read_is_refused(
    tmp_path: Path, content: bytes, words: str
) -> None:
    line = refusal(images, folder(tmp_path, content))
    assert "a/0/1.png" in line
    assert words in line


def test_images_beyond_the_free_memory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder(tmp_path, saved("PNG", "RGB", (1000, 1000)))
    monkeypatch.setattr("nufed.tasks.datasets.images.free_ram", lambda: 2_000_000)
    line = refusal(images, path)
    assert "take 6" in line
    assert "MB, and 2 MB of memory were free; scale them with dataset.size" in line


def test_a_fifo_among_images_is_not_opened(tmp_path: Path) -> None:
    path = folder(tmp_path, b"")
    (path / "a/0/1.png").unlink()
    os.mkfifo(path / "a/0/1.png")
    assert "is a FIFO, not a regular file" in refusal(images, path)


def test_links_that_lead_in_circles_end(tmp_path: Path) -> None:
    """Followed without end they would be two to the power of forty folders."""
    path = folder(tmp_path / "images", saved("PNG", "RGB"))
    for name in ("round", "about"):
        (path / "a/0" / name).symlink_to(path, target_is_directory=True)
    assert "is not in client/class/" in refusal(images, path)


def test_cmyk_and_grey_images_are_taken(tmp_path: Path) -> None:
    path = folder(tmp_path, saved("JPEG", "CMYK"), "1.jpg")
    assert image_folder.read(str(path)).x.shape == (5, 3, 4, 4)


# CSV


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x,y,client\n",
        b"\xff\xfe\0\0" * 20,
        b"x,y,client\n1,2\n3,4,5,6\n",
        b'x,y,client\n"1,2,3\n',
        b"x,y,client\n1,0,a\nNaN,1,b\n",
        b"x,x,y,client\n1,2,0,a\n",
        b"\0" * 1000,
    ],
    ids=lambda content: repr(content)[:20],
)
def test_a_csv_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mine.csv").write_bytes(content)
    refusal(READERS["mine.csv"], tmp_path / "mine.csv")
