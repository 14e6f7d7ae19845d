"""Image files as one array of pixels: decoded side by side, all of one size."""

import io
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from conf.errors import InputError, reason
from conf.schema import require

GREY, COLOURED = ("1", "L", "LA"), ("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "La", "RGBa")
"""Pillow's modes of 8 bits a channel at most."""

Pixels = NDArray[np.uint8]


def decode(images: Sequence[Path | bytes], size: object, where: str) -> Pixels:
    """Return images as uint8, [N, H, W] if all are grey, else [N, 3, H, W].

    Parameters
    ----------
    images
        Files, or what they hold.
    size
        H and W, or one number for both, that images are scaled to; None asks for one size of all.
    where
        What names the data to a person.

    Raises
    ------
    InputError
        If an image cannot be read or has more than 8 bits a channel, or sizes differ.
    """
    to = _size(size)
    with ThreadPoolExecutor(os.cpu_count()) as threads:  # Pillow decodes outside Python's lock
        decoded = [*threads.map(partial(_decode, size=to, where=where), images)]
    shapes = Counter(pixels.shape[:2] for pixels in decoded)
    if len(shapes) > 1:
        (common, number), *_ = shapes.most_common(1)
        odd = next(i for i, pixels in enumerate(decoded) if pixels.shape[:2] != common)
        raise InputError(
            f"{where}: images differ in size: {number} of {len(decoded)} are "
            f"{common[0]}x{common[1]}, {_name(images[odd])} is "
            f"{decoded[odd].shape[0]}x{decoded[odd].shape[1]}; say dataset.size={min(common)}"
        )
    (shape,) = shapes
    if all(pixels.ndim == 2 for pixels in decoded):
        return np.stack(decoded)
    together = np.empty((len(decoded), 3, *shape), np.uint8)
    for i, pixels in enumerate(decoded):
        together[i] = pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return together


def _decode(image: Path | bytes, size: tuple[int, int] | None, where: str) -> Pixels:
    """Return one image, [H, W] if it is grey, else [H, W, 3]."""
    import PIL.Image

    try:
        with PIL.Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as opened:
            if opened.mode not in (*GREY, *COLOURED):
                raise InputError(
                    f"{where}: {_name(image)} has more than 8 bits a channel (mode {opened.mode}); "
                    "convert the images to 8 bits"
                )
            pixels = opened.convert("L" if opened.mode in GREY else "RGB")
            if size is not None and pixels.size != size[::-1]:
                pixels = pixels.resize(size[::-1], PIL.Image.Resampling.BILINEAR)
            return np.asarray(pixels)
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise InputError(
            f"{where}: {_name(image)} cannot be read ({reason(error)}); mend or remove it"
        ) from error


def _size(size: object) -> tuple[int, int] | None:
    if size is None:
        return None
    both = [size, size] if type(size) is int else size
    valid = isinstance(both, list) and len(both) == 2
    valid = valid and all(type(side) is int and side >= 1 for side in both)  # type: ignore[attr-defined]
    require(valid, "dataset.size", size, "height and width in pixels, such as 32 or [24,32]")
    assert isinstance(both, list)
    return both[0], both[1]


def _name(image: Path | bytes) -> str:
    return "an image" if isinstance(image, bytes) else str(image)
