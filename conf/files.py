"""Files that others may have made: opened where they are regular ones, replaced whole.

What lies in a folder is not always what its name says: a link leads elsewhere, a FIFO makes its
reader wait for ever, a device has effects.
"""

import itertools
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from nufed.conf.errors import InputError, reason

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a symbolic link",
}


def regular(path: Path, *, links: bool = False) -> BinaryIO:
    """Open a regular file to read from; never wait, and never follow what is not asked for.

    Parameters
    ----------
    links
        Whether it may be a symbolic link to one, as what a person named may; in a run folder none
        is.

    Raises
    ------
    InputError
        If it is not there, anything else than a regular file, or cannot be opened.
    """
    try:
        # Looked at before it is opened, which has effects on a device, and once more after it.
        _require_regular(path, (path.stat() if links else path.lstat()).st_mode)
        # Of a FIFO that took its place meanwhile, O_NONBLOCK does not wait for a writer.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if links else os.O_NOFOLLOW)
        file = os.fdopen(os.open(path, flags), "rb")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:  # a null byte in its name
        raise InputError(f"{path}: cannot be read ({error})") from error
    try:
        _require_regular(path, os.fstat(file.fileno()).st_mode)
    except InputError:
        file.close()
        raise
    return file


def is_there(path: Path, *, links: bool = False) -> bool:
    """Tell whether a regular file is there; `links` as of `regular`.

    Raises
    ------
    InputError
        If something else is, or it cannot be looked at.
    """
    try:
        mode = (path.stat() if links else path.lstat()).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({reason(error)})") from error
    _require_regular(path, mode)
    return True


def read_bytes(path: Path, *, links: bool = False, largest: int | None = None) -> bytes:
    """Return the content of a regular file; arguments and errors as of `regular`.

    Parameters
    ----------
    largest
        Bytes that it has at most; what is larger is refused before it is read.
    """
    with regular(path, links=links) as file:
        size = os.fstat(file.fileno()).st_size
        if largest is not None and size > largest:
            raise InputError(f"{path}: has {size:,} bytes, which is too large; at most {largest:,}")
        try:
            return file.read()
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def read_text(path: Path, *, links: bool = False, largest: int | None = None) -> str:
    """Return the text of a regular file in UTF-8; arguments and errors as of `read_bytes`."""
    try:
        return read_bytes(path, links=links, largest=largest).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read (it is no text in UTF-8)") from error


def require_no_links(folders: Iterable[Path]) -> None:
    """Raise an `InputError` if one of the folders holds a symbolic link, or is one, or no folder.

    Folders that are not there hold none.
    """
    for folder in folders:
        try:
            with os.scandir(folder) as entries:
                links = sorted(entry.name for entry in entries if entry.is_symlink())
        except FileNotFoundError:
            continue
        except OSError as error:
            raise InputError(f"{folder}: cannot be read ({error.strerror})") from error
        if links:
            raise InputError(
                f"{folder / links[0]}: is a symbolic link, which a run folder has none of; "
                "remove it, or put the file itself there"
            )


def new_folder(folder: Path) -> Path:
    """Make a new folder, with a number behind its name where there is one of that name.

    Of two runs that start in the same second only one makes it; the other has the next.

    Raises
    ------
    OSError
        If it cannot be made.
    """
    for number in itertools.count(1):
        mine = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        mine.parent.mkdir(parents=True, exist_ok=True)
        # Another run that never began may have taken the empty parent away just now.
        with suppress(FileExistsError, FileNotFoundError):
            mine.mkdir()
            return mine
    raise AssertionError("numbers do not end")


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a draft to write to, which takes the place of `path` at the end; else is removed.

    Neither the draft nor the file is written through a link.

    Raises
    ------
    OSError
        If it cannot be written; `path` is as it was then.
    """
    draft = path.with_name(f".{path.name}")
    draft.unlink(missing_ok=True)  # of a process that was killed; or a link that lies in wait
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(draft, flags, 0o666), "wb") as file:
            yield file
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def write_whole(path: Path, content: bytes | bytearray) -> None:
    """Write a file that is whole or, if the process ends meanwhile, as it was; see `replacing`."""
    with replacing(path) as file:
        file.write(content)


def _require_regular(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = KINDS.get(stat.S_IFMT(mode), "something else")
        raise InputError(f"{path}: is {kind}, not a regular file; put the file itself there")
