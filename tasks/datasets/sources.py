"""Files of data, which others may have made: regular ones alone are opened."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from nufed.conf.errors import InputError, NuFedError, reason
from nufed.conf.files import regular

T = TypeVar("T")


def torchvision_datasets() -> Any:
    """Return `torchvision.datasets`, which takes seconds to import.

    Raises
    ------
    InputError
        If it does not load.
    """
    try:
        import torchvision.datasets
    except (ImportError, RuntimeError) as error:
        raise InputError(
            f"torchvision does not load ({error}); install it and torch from the same index"
        ) from error
    return torchvision.datasets


def opened(path: Path, where: str) -> BinaryIO:
    """Open a file of data to read from; see `nufed.conf.files.regular`.

    Parameters
    ----------
    where
        What names it to a person.
    """
    try:
        return regular(path, links=True)
    except InputError as error:
        raise InputError(f"{where}: {str(error).removeprefix(f'{path}: ')}") from error


def require_regular_files(folder: Path, where: str) -> None:
    """Raise an `InputError` if a folder, or one within, holds what is neither file nor folder.

    Whoever opens a FIFO that lies there waits for ever.
    """
    for inner, _, names in os.walk(folder):
        for name in names:
            path = Path(inner, name)
            if path.exists() and not path.is_file():
                raise InputError(
                    f"{where}: {path.relative_to(folder)} is neither a file nor a folder; remove it"
                )


def readable(read: Callable[[], T], where: str, what: str) -> T:
    """Return ``read()``; whatever a reader makes of damaged bytes is told in one line.

    Parameters
    ----------
    where, what
        What names the data to a person, and what it should be and is not.

    Raises
    ------
    InputError
        Of `read` itself, or in place of any other exception.
    """
    try:
        return read()
    except NuFedError:
        raise
    except MemoryError as error:
        raise InputError(f"{where}: needs more memory than is free; give fewer rows") from error
    except Exception as error:  # of many kinds: what was read was written by somebody else
        raise InputError(f"{where}: {what} ({reason(error):.200})") from error
