"""The files of a personal model: itself, and what it is exported as."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from nufed.client_app.export import export
from nufed.client_app.personal import Personal
from nufed.conf.errors import InputError


def draft(personal: Personal, files: Sequence[Path]) -> list[float]:
    """Write the model, then its exports; return by how much the outputs of each of these are off.

    Raises
    ------
    OSError
        If they cannot be written.
    InputError
        If an export is not the same model.
    """
    model, *exports = files
    personal.save(model)
    return [export(personal, each) for each in exports]


def write(personal: Personal, files: Sequence[Path]) -> list[str]:
    """Write all of the files, or none; return what to say of them.

    Raises
    ------
    InputError
        If they cannot be written, or an export is not the same model.
    """
    file, *exports = files
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".nufed-", dir=file.parent) as drafts:
            off = draft(personal, [Path(drafts) / each.name for each in files])
            for each in files:
                (Path(drafts) / each.name).rename(each)
    except OSError as error:
        raise InputError(
            f"{file.parent}: cannot be written ({error.strerror}); name another folder as out=…"
        ) from error
    said = [
        f"exported: {each}; its outputs differ by {by:.1g} at most"
        for each, by in zip(exports, off, strict=True)
    ]
    return [f"personal model: {file}", *said]
