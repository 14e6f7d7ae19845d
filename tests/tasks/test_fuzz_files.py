"""Hundreds of damaged and forged files of data: each is taken, or refused in one line."""

import ast
import io
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from nufed.conf.schema import PartitionConfig
from nufed.tasks.datasets import image_folder, npz, parquet
from nufed.tasks.partitions import partition
from nufed.tasks.rows import Rows
from tests.fuzz import Escapes, Random, cases, damaged

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2)
HUGE = (2**40, 2**31, 2**63 - 1, 2**64, 10**30, -1, 0)


def pick(random: Random, options: Any) -> Any:
    return options[int(random.integers(len(options)))]


def spoilt(random: Random, content: bytes) -> bytes:
    return damaged(content, random)


def whole(random: Random, content: bytes) -> bytes:
    return content


def divided(rows: Rows) -> None:
    """Do with rows what comes next."""
    partition(rows, natural())


def natural() -> PartitionConfig:
    return PartitionConfig(name="natural", seed=0)


# .npz


def arrays(random: Random) -> dict[str, Any]:
    """Arrays as people have them, one of them perhaps as nobody should."""
    n, width = int(random.integers(4, 40)), int(random.integers(1, 6))
    found: dict[str, Any] = {
        "x": random.normal(size=(n, width)).astype(pick(random, ["f4", "f8", "f2", ">f4", "i4"])),
        "y": np.arange(n) % 2,
        "client": np.arange(n) // 4,
    }
    if random.random() < 0.3:
        found["test"] = np.arange(n) % 4 == 0
    if random.random() < 0.6:
        odd = [
            np.zeros(n, "U0"), np.zeros((n, 0)), np.zeros((0, 3)), np.array(5), np.arange(n) * 1j,
            np.array(["a", "b"] * n)[:n], np.array([b"a"] * n), np.full(n, np.nan),
            np.full(n, np.inf), np.full(n, 2**63 - 1), np.full(n, 2**64 - 1, np.uint64),
            np.arange(n).astype("M8[s]"), np.zeros(n, "i4,f4"), np.zeros((n, 1, 1, 1, 1, 1)),
            np.zeros(n, np.bool_), np.array([None] * n), np.array([[1], [1, 2]], dtype=object),
            np.zeros(n, "V3"), np.full(n, -(2**63)), np.zeros(n, np.longdouble), np.zeros(n, "S0"),
        ]  # fmt: skip
        found[pick(random, [*found])] = pick(random, odd)
    return found


def header(random: Random, content: bytes) -> bytes:
    """Change what an .npy says of itself."""
    size = struct.unpack("<H", content[8:10])[0]
    said = ast.literal_eval(content[10 : 10 + size].decode())
    rest = content[10 + size :]
    match int(random.integers(4)):
        case 0:
            shape = [*said["shape"], 1]
            shape[int(random.integers(len(shape)))] = pick(random, [*HUGE, True, 2.5, "3", (1, 2)])
            said["shape"] = tuple(shape)
        case 1:
            said["descr"] = pick(
                random,
                [
                    "|O", "<U0", "<U1000000000", "|V0", "<f16", "<c16", "nonsense", "<i9", [],
                    [("a", "<f8"), ("a", "<f8")], [("a", "<f8", (2**31,))], ("<f8", 3), 7, "<M8[s]",
                    [["a"]], [("a", [("b", [("c", "<i1")])])],
                ],
            )  # fmt: skip
        case 2:
            said["fortran_order"] = pick(random, [True, 1, None, "yes"])
        case _:
            return (
                content[:6]
                + pick(random, [b"\x02\x00", b"\x03\x00", b"\x09\x09"])
                + struct.pack("<I", pick(random, [size, 2**32 - 1, 0, 2**20]))
                + content[10:]
            )
    text = pick(random, [repr(said), repr(said), "(" * 3000, "[" * 900 + "]" * 900, "{}", "1", ""])
    line = text.encode("latin1")[:60_000] + b"\n"
    return content[:8] + struct.pack("<H", len(line)) + line + rest


def archived(random: Random) -> bytes:
    """An .npz of such arrays, whose parts may be changed, swapped, doubled, renamed or missing."""
    members = {}
    for name, array in arrays(random).items():
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=True)
        members[f"{name}.npy"] = buffer.getvalue()
    names = [*members]
    one, other = pick(random, names), pick(random, names)
    match int(random.integers(12)):
        case 0:
            members[one], members[other] = members[other], members[one]
        case 1:
            del members[one]
        case 2:
            members[one] = damaged(members[one], random)
        case 3:
            members[one.removesuffix(".npy")] = members.pop(one)
        case 4:
            members[f"{one}/"] = b""
        case 5:
            members[one] = random.bytes(int(random.integers(300)))
        case 6 | 7 | 8:
            members[one] = header(random, members[one])
        case 9:
            members[one] += bytes(int(random.integers(1, 5_000_000)))
        case _:
            pass
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", pick(random, METHODS)) as file:
        for name, content in members.items():
            file.writestr(name, content)
        if random.random() < 0.05:
            file.writestr(one, members.get(one, b""))
    return directory(random, buffer.getvalue()) if random.random() < 0.3 else buffer.getvalue()


def directory(random: Random, content: bytes) -> bytes:
    """Change a field of an entry of a zip's directory: flags, method, checksum, sizes, place."""
    changed, at = bytearray(content), content.find(b"PK\x01\x02")
    field, size = pick(random, [(8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (42, 4), (28, 2)])
    value = pick(random, [1, 99, 0, 2 ** (8 * size) - 1, int(random.integers(2 ** (8 * size)))])
    changed[at + field : at + field + size] = value.to_bytes(size, "little")
    return bytes(changed)


@pytest.mark.filterwarnings("ignore")
def test_no_npz_escapes(tmp_path: Path) -> None:
    escapes, file = Escapes(), tmp_path / "mine.npz"
    for name, random in cases(1500, "npz"):
        content = archived(random)
        file.write_bytes(damaged(content, random) if random.random() < 0.4 else content)
        escapes.of(name, lambda: divided(npz.read(str(file), one_class="keep")))
    escapes.require_none()


# Parquet


def column(random: Random, n: int) -> Any:
    """A column of whatever Arrow has."""
    numbers = [int(i) for i in random.integers(0, 3, n)]
    kinds = [
        pa.int8(), pa.uint64(), pa.float16(), pa.float64(), pa.bool_(), pa.string(), pa.binary(),
        pa.large_string(), pa.date32(), pa.timestamp("us"), pa.decimal128(9, 0), pa.null(),
        pa.list_(pa.float32()), pa.list_(pa.list_(pa.int64())), pa.large_list(pa.string()),
        pa.list_(pa.int8(), 2), pa.struct([("a", pa.int8())]), pa.map_(pa.string(), pa.int8()),
        pa.dictionary(pa.int32(), pa.string()), pa.duration("s"), pa.time64("us"),
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    ]  # fmt: skip
    kind = pick(random, kinds)

    def value(of: Any, i: int) -> Any:
        if random.random() < 0.01:
            return None
        if pa.types.is_struct(of):
            return {field.name: value(field.type, i) for field in of}
        if pa.types.is_map(of):
            return [("k", i)]
        if pa.types.is_fixed_size_list(of):
            return [i, i]
        if pa.types.is_list(of) or pa.types.is_large_list(of):
            return [value(of.value_type, i) for _ in range(pick(random, [2, 2, 2, i, 0]))]
        if pa.types.is_null(of):
            return None
        if pa.types.is_boolean(of):
            return i > 0
        if pa.types.is_string(of) or pa.types.is_large_string(of) or pa.types.is_dictionary(of):
            return f"t{i}" * pick(random, [1, 1, 1, 300])
        if pa.types.is_binary(of):
            return b"\x89PNG" * i
        if pa.types.is_floating(of):
            number = pick(random, [i, i, i, i, i, i, np.nan, np.inf])
            return np.float16(number) if of == pa.float16() else float(number)
        return i

    return pa.array([value(kind, i) for i in numbers], kind)


def table(random: Random) -> bytes:
    """A Parquet file with the usual columns, one or two of which may be anything."""
    n = int(random.integers(0, 60)) if random.random() < 0.1 else int(random.integers(8, 60))
    columns: dict[str, Any] = {
        "x": pa.array([[float(i), 1.0] for i in range(n)], pa.list_(pa.float32())),
        "y": pa.array([i % 2 for i in range(n)], pa.int64()),
        "client": pa.array([f"c{i // 4}" for i in range(n)], pa.string()),
        "test": pa.array([i % 4 == 0 for i in range(n)], pa.bool_()),
    }
    for _ in range(int(random.integers(0, 3))):
        columns[pick(random, [*columns])] = column(random, n)
    if random.random() < 0.05:
        del columns[pick(random, [*columns])]
    buffer = io.BytesIO()
    pq.write_table(
        pa.table(columns), buffer,
        compression=pick(random, ["none", "snappy", "gzip", "zstd"]),
        row_group_size=pick(random, [7, 1000]), use_dictionary=pick(random, [True, False]),
        data_page_version=pick(random, ["1.0", "2.0"]),
    )  # fmt: skip
    return buffer.getvalue()


def footer(random: Random, content: bytes) -> bytes:
    """Damage the footer alone, where a file says how large it is."""
    size = int.from_bytes(content[-8:-4], "little")
    begin = len(content) - 8 - size
    changed = damaged(content[begin:-8], random)
    length = len(changed) if random.random() < 0.8 else int(random.integers(2**32))
    return content[:begin] + changed + length.to_bytes(4, "little") + content[-4:]


@pytest.mark.filterwarnings("ignore")
def test_no_parquet_escapes(tmp_path: Path) -> None:
    escapes, file = Escapes(), tmp_path / "mine.parquet"
    for name, random in cases(1000, "parquet"):
        content = table(random)
        file.write_bytes(pick(random, [footer, footer, spoilt, whole])(random, content))
        test = "test" if random.random() < 0.5 else None
        escapes.of(
            name,
            lambda test=test: divided(
                parquet.read(str(file), "x", "y", "client", test, one_class="keep")
            ),
        )
    escapes.require_none()


# Images


def picture(random: Random) -> bytes:
    """An image in one of the formats, of whatever mode."""
    import PIL.Image

    height, width = (int(i) for i in random.integers(1, 20, 2))
    kind = pick(random, ["PNG", "PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM", "ICO"])
    modes = {"JPEG": ["L", "RGB", "CMYK", "YCbCr"], "GIF": ["L", "P"], "BMP": ["1", "L", "RGB"],
             "WEBP": ["RGB", "RGBA"], "PPM": ["L", "RGB"], "ICO": ["RGBA"]}  # fmt: skip
    mode = pick(random, modes.get(kind, ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "F"]))
    if kind == "PNG" and mode == "F":
        mode = "L"
    made = [PIL.Image.new(mode, (width, height), i % 2) for i in range(3)]
    several = kind in ("GIF", "TIFF", "WEBP", "PNG") and random.random() < 0.1
    several = several and mode in ("L", "P", "RGB", "RGBA")
    more = {"save_all": True, "append_images": made[1:]} if several else {}
    buffer = io.BytesIO()
    made[0].save(buffer, kind, **more)
    return buffer.getvalue()


def sized(random: Random, content: bytes) -> bytes:
    """Let a PNG, GIF or BMP declare another size."""
    sides = [pick(random, [1, 0, 65535, 30_000, 2**31 - 1, 2**32 - 1]) for _ in range(2)]
    if content[:4] == b"\x89PNG":
        chunk = b"IHDR" + struct.pack(">II", *sides) + content[24:29]
        return content[:12] + chunk + struct.pack(">I", zlib.crc32(chunk)) + content[33:]
    if content[:3] == b"GIF":
        return content[:6] + struct.pack("<HH", *(side & 0xFFFF for side in sides)) + content[10:]
    if content[:2] == b"BM":
        return content[:18] + struct.pack("<II", *sides) + content[26:]
    return damaged(content, random)


@pytest.mark.filterwarnings("ignore")
def test_no_image_escapes(tmp_path: Path) -> None:
    escapes = Escapes()
    import PIL.Image

    good = io.BytesIO()
    PIL.Image.new("RGB", (9, 9)).save(good, "PNG")
    for place in ("a/0", "a/1", "b/0", "b/1"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "1.png").write_bytes(good.getvalue())
    file = tmp_path / "a/0/2.jpg"
    for name, random in cases(500, "image"):
        content = picture(random)
        file.write_bytes(pick(random, [sized, spoilt, whole])(random, content))
        size = pick(random, [8, [4, 6]])
        escapes.of(name, lambda size=size: divided(image_folder.read(str(tmp_path), size)))
    escapes.require_none()
