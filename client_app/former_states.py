"""States as older versions kept them: a file for a client and a round.

<folder>/<client>/<round>.safetensors
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load

from nufed.client_app.meta_gradient import Params
from nufed.conf.errors import InputError
from nufed.conf.files import read_bytes

CLIENT, ROUND = re.compile(r"([0-9]{1,18})"), re.compile(r"([0-9]{1,15})\.safetensors")


def states(folder: Path, largest: int) -> Iterator[tuple[int, int, Params]]:
    """Yield client, round and state of files that are whole, those of a client by round.

    Parameters
    ----------
    largest
        Bytes of a file; what is larger is none of them.
    """
    for client in _numbers(folder, CLIENT):
        for round in _numbers(folder / str(client), ROUND):
            with suppress(SafetensorError, InputError):
                content = read_bytes(_file(folder, client, round), largest=largest)
                yield client, round, load(content)


def remove(folder: Path) -> None:
    """Remove these files, and the clients' folders."""
    for client in _numbers(folder, CLIENT):
        with suppress(OSError):  # what cannot be removed is taken over once more
            for round in _numbers(folder / str(client), ROUND):
                _file(folder, client, round).unlink()
            (folder / str(client)).rmdir()


def _file(folder: Path, client: int, round: int) -> Path:
    return folder / str(client) / f"{round}.safetensors"


def _numbers(folder: Path, name: re.Pattern[str]) -> list[int]:
    """Return the numbers that entries of a folder have for a name, in order."""
    try:
        found = [name.fullmatch(entry) for entry in os.listdir(folder)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(int(each[1]) for each in found if each)
