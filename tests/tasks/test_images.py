"""Images as they are seen: a photo that a camera was turned for is upright."""

import io
from pathlib import Path

import datasets
import numpy as np
import PIL.Image
import pyarrow as pa
import pytest
from pyarrow import parquet

from nufed.conf.compose import compose_config
from nufed.tasks.datasets.images import decode
from nufed.tasks.store import FederatedData, load

ORIENTATION = 0x0112  # of EXIF
LOSS = 12  # of a JPEG, at an edge
SEEN = np.zeros((8, 16), np.uint8)
SEEN[:4, :8] = 200  # bright at the top, on the left
TURNED = {
    1: SEEN,
    2: SEEN[:, ::-1],
    3: SEEN[::-1, ::-1],
    4: SEEN[::-1],
    5: SEEN.T,
    6: np.rot90(SEEN),
    7: SEEN[::-1, ::-1].T,
    8: np.rot90(SEEN, -1),
}
"""What a camera stores so that SEEN is seen, by orientation (Exif 2.32, 4.6.5.1)."""


def photo(orientation: int, kind: str = "JPEG") -> bytes:
    """Return a file that says how it is to be turned."""
    file, exif = io.BytesIO(), PIL.Image.Exif()
    exif[ORIENTATION] = orientation
    pixels = np.ascontiguousarray(TURNED[orientation])
    PIL.Image.fromarray(pixels).save(file, kind, exif=exif)
    return file.getvalue()


def loaded(*overrides: str) -> FederatedData:
    config = compose_config([*overrides, "dataset.one_class=keep"])
    return load(config.dataset, config.partition)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", TURNED)
def test_every_orientation_is_seen_upright(orientation: int, kind: str) -> None:
    (pixels,) = decode([photo(orientation, kind)], None, "it")
    assert abs(pixels.astype(int) - SEEN).max() <= (LOSS if kind == "JPEG" else 0)


def test_a_photo_of_another_orientation_is_of_the_same_size_and_scaled_so() -> None:
    together = decode([photo(1), photo(6)], None, "it")
    assert together.shape == (2, 8, 16)
    assert decode([photo(6)], [4, 8], "it").shape == (1, 4, 8)
    (small,) = decode([photo(6)], [2, 4], "it")
    assert small[0, 0] > 150
    assert small[1, 3] < 20


def test_orientation_counts_whatever_the_file_it_came_in(tmp_path: Path) -> None:
    """A folder, Parquet as `datasets` writes it, and a saved data set of `datasets`."""
    photos = [photo(6), photo(1), photo(8), photo(3)]
    for i, content in enumerate(photos):
        file = tmp_path / "photos" / f"client{i % 2}" / "ab"[i // 2] / f"{i}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    images = [{"bytes": content, "path": None} for content in photos]
    columns = {"x": images, "y": [0, 1, 0, 1], "client": [0, 0, 1, 1]}
    parquet.write_table(pa.table(columns), tmp_path / "mine.parquet")
    features = datasets.Features(image=datasets.Image(), label=datasets.Value("int64"))
    rows = datasets.Dataset.from_dict({"image": images, "label": [0, 1, 0, 1]}, features)
    rows.save_to_disk(str(tmp_path / "saved"))
    for kind, path in (("image_folder", "photos"), ("parquet", "mine.parquet"), ("hf", "saved")):
        dealt = ["partition=iid", "partition.num_clients=2"] if kind == "hf" else []
        overrides = [f"dataset={kind}", f"dataset.path={tmp_path / path}", *dealt]
        x = loaded(*overrides).x
        assert abs(x.astype(int) - SEEN).max() <= LOSS


def test_a_photo_whose_notes_are_damaged_is_taken_as_it_is_stored() -> None:
    file = io.BytesIO()
    PIL.Image.fromarray(SEEN).save(file, "JPEG", exif=b"Exif\0\0no such thing")
    assert decode([file.getvalue()], None, "it").shape == (1, 8, 16)
