"""CelebA (Liu et al. 2015): faces of celebrities; a client is a person, y one of 40 attributes.

As LEAF (Caldas et al. 2018) has it: persons of five images or more, who are smiling or not.
"""

from pathlib import Path

import numpy as np

from nufed.conf.errors import InputError, nearest
from nufed.conf.files import read_text
from nufed.conf.schema import require
from nufed.conf.words import path_of
from nufed.tasks.datasets.images import decode
from nufed.tasks.rows import Rows

IMAGES, PERSONS, ATTRIBUTES = "img_align_celeba", "identity_CelebA.txt", "list_attr_celeba.txt"
LARGEST = 1 << 26  # bytes of a list: the larger of the two has 27 MB
FETCH = "fetch it anew"


def read(path: str | None, attribute: str, size: int | list[int] | None, least: int) -> Rows:
    """Return images of persons, and whether each has the attribute.

    Parameters
    ----------
    path
        The folder of `IMAGES`, `PERSONS` and `ATTRIBUTES`, as the data set is published.
    attribute
        One of the forty, such as ``Smiling``.
    size
        As of `nufed.tasks.datasets.images.decode`.
    least
        Images that a person has, or they are left out.

    Returns
    -------
    Rows
        x uint8 [N, 3, H, W]; y [N], 1 with the attribute, else 0; client [N], the person's number.

    Raises
    ------
    InputError
        If the files are missing or malformed, or do not agree.
    """
    if not path:
        raise InputError(f"dataset.path: has no value; name the folder that holds {IMAGES}")
    require(least >= 1, "dataset.least", least, "at least 1")
    where, folder = f"dataset.path={path}", path_of(path)
    for name in (IMAGES, PERSONS, ATTRIBUTES):
        if not (folder / name).exists():
            raise InputError(f"{where}: {name} is missing; put it there, as CelebA has it")
    person = _persons(folder / PERSONS)
    has = _attribute(folder / ATTRIBUTES, attribute)
    if person.keys() != has.keys():
        odd = min(person.keys() ^ has.keys())
        raise InputError(
            f"{where}: {PERSONS} and {ATTRIBUTES} are not of the same images, first {odd}; take "
            "both from one source"
        )
    files = sorted(person)
    client = np.array([person[file] for file in files])
    _, of, images = np.unique(client, return_inverse=True, return_counts=True)
    most = int(images.max())
    require(least <= most, "dataset.least", least, f"at most {most}, the most that one has")
    kept = images[of] >= least
    y = np.array([has[file] for file in files], np.int64)[kept]
    x = decode([folder / IMAGES / files[i] for i in np.flatnonzero(kept)], size, where)
    return Rows(x, y, client[kept])


def _persons(file: Path) -> dict[str, int]:
    """Return whose each image is: of lines ``000001.jpg 2880``."""
    found = dict[str, int]()
    for number, line in enumerate(read_text(file, links=True, largest=LARGEST).splitlines(), 1):
        match line.split():
            case [image, person] if person.isascii() and person.isdigit() and image not in found:
                found[_name(image, file, number)] = int(person)
            case _:
                raise InputError(f"{file}: line {number} is no image with a person; {FETCH}")
    if not found:
        raise InputError(f"{file}: has no lines; {FETCH}")
    return found


def _attribute(file: Path, attribute: str) -> dict[str, bool]:
    """Return which images have an attribute: their number, its name, and ``000001.jpg -1 1 …``."""
    lines = read_text(file, links=True, largest=LARGEST).splitlines()
    count, names, rows = (
        (lines[0].strip(), lines[1].split(), lines[2:]) if len(lines) > 2 else ("", [], [])
    )
    if count != str(len(rows)):
        raise InputError(f"{file}: announces {count or 'no'} images and has {len(rows)}; {FETCH}")
    if attribute not in names:
        hint = nearest(attribute, names)
        raise InputError(f"dataset.attribute={attribute}: {file.name} has no such one; {hint}")
    column, found = names.index(attribute), dict[str, bool]()
    for number, line in enumerate(rows, 3):
        image, *values = line.split() or [""]
        if len(values) != len(names) or values[column] not in ("1", "-1") or image in found:
            raise InputError(
                f"{file}: line {number} is no image with {len(names)} times 1 or -1; {FETCH}"
            )
        found[_name(image, file, number)] = values[column] == "1"
    return found


def _name(image: str, file: Path, number: int) -> str:
    """Return the name of an image, which leads to no other folder."""
    if Path(image).name != image:
        raise InputError(f"{file}: line {number} names {image!r:.60}, which is no image; {FETCH}")
    return image
