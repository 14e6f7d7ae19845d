"""Image files as one array of pixels: decoded side by side, all of one size."""

import io
import math
import os
import threading
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nufed.conf.errors import InputError, NuFedError, reason
from nufed.conf.files import regular
from nufed.conf.memory import SHARE, free_ram, in_words
from nufed.conf.schema import require

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
"""That are decoded: of Pillow's others, one runs a program on what it reads."""
LARGEST = 1 << 27  # pixels of one image: 400 MB, and as many in every other thread
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
    import PIL.Image

    warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)  # it is an error, below
    to, room = _size(size), _Room(where)
    with ThreadPoolExecutor(os.cpu_count()) as threads:  # Pillow decodes outside Python's lock
        decoded = [*threads.map(partial(_decode, size=to, where=where, room=room), images)]
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


class _Room:
    """How much of the memory is left for pixels, while several threads make some."""

    def __init__(self, where: str) -> None:
        self.where, self._taken, self._lock = where, 0, threading.Lock()
        self._free = free_ram()

    def take(self, size: int, name: str) -> None:
        """Take so many bytes of it, or give them back; raise if they are not there."""
        with self._lock:
            self._taken += size
            if self._taken > SHARE * self._free:
                raise InputError(
                    f"{self.where}: the images up to {name} take {in_words(self._taken)}, and "
                    f"{in_words(self._free)} of memory were free; scale them with dataset.size"
                )


def _decode(image: Path | bytes, size: tuple[int, int] | None, where: str, room: _Room) -> Pixels:
    """Return one image as it is seen, [H, W] if it is grey, else [H, W, 3]."""
    import PIL.Image
    import PIL.ImageOps

    try:
        with (
            io.BytesIO(image) if isinstance(image, bytes) else regular(image, links=True) as file,
            PIL.Image.open(file, formats=FORMATS) as opened,
        ):
            _require_one_picture(opened, _name(image), where)
            if opened.mode not in (*GREY, *COLOURED):
                raise InputError(
                    f"{where}: {_name(image)} has more than 8 bits a channel (mode {opened.mode}); "
                    "convert the images to 8 bits"
                )
            # Twice: by itself, and among all; as it is first, then of the size that is wanted.
            each = 2 if opened.mode in GREY else 6
            room.take(each * math.prod(opened.size), _name(image))
            PIL.ImageOps.exif_transpose(opened, in_place=True)  # upright, as viewers show a photo
            pixels = opened.convert("L" if opened.mode in GREY else "RGB")
            if size is not None and pixels.size != size[::-1]:
                pixels = pixels.resize(size[::-1], PIL.Image.Resampling.BILINEAR)
                room.take(each * (math.prod(size) - math.prod(opened.size)), _name(image))
            return np.asarray(pixels)
    except NuFedError:
        raise
    except Exception as error:  # whatever Pillow makes of a file that is damaged, or of a bomb
        raise InputError(
            f"{where}: {_name(image)} cannot be read ({reason(error)}); mend or remove it"
        ) from error


def _require_one_picture(opened: Any, name: str, where: str) -> None:
    """Raise for an animation, of which one picture would be taken, and for a bomb."""
    if math.prod(opened.size) > LARGEST:
        width, height = opened.size
        raise InputError(
            f"{where}: {name} declares {width:,} x {height:,} pixels; at most {LARGEST:,} are "
            "read: scale it down"
        )
    if opened.format == "MPO":  # a camera's JPEG, with previews after the picture
        return
    try:
        opened.seek(1)
    except EOFError:
        return
    raise InputError(f"{where}: {name} holds several pictures; keep one of them")


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
