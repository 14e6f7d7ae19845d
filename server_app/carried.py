"""A run that goes on with a server elsewhere: a Flower app brings its checkpoint and releases."""

import base64
import json
from pathlib import Path

from nufed.conf.errors import InputError, reason
from nufed.conf.files import is_there, read_bytes, read_text, write_whole
from nufed.conf.typed import parsed, typed
from nufed.server_app.checkpoint import FOLDER, NAME, alone, newest
from nufed.server_app.releases import RELEASES, put

CARRIED = "checkpoint.json"  # in the bundle of a Flower app
LARGEST = 6 << 20  # bytes; such a bundle has 10 MB, and base64 takes a third more


def carry(run: Path, app: Path) -> None:
    """Put a run's newest checkpoint, and its releases, into a Flower app.

    Raises
    ------
    InputError
        If there is none that can be used, or they are too large for an app.
    """
    file = newest(run)
    content = read_bytes(file)
    released = read_bytes(run / RELEASES) if is_there(run / RELEASES) else b""
    if (size := len(content) + len(released)) > LARGEST:
        raise InputError(
            f"resume={run}: its checkpoint has {size >> 20} MB, too large to be sent with "
            f"a run ({LARGEST >> 20} MB); resume it with the engine that it ran on"
        )
    carried = {"name": file.name, "content": base64.b64encode(content).decode()}
    if released:
        carried["releases"] = base64.b64encode(released).decode()
    (app / CARRIED).write_text(json.dumps(carried))


def unload(app: Path, run: Path) -> None:
    """Take what an app carries, if it does, into the run's folder here.

    Releases that are there already stay: an earlier app brought the same, and was killed where it
    was submitted, so that nobody there knows how many have come to them.
    """
    if not (app / CARRIED).exists():
        return
    try:
        carried = typed(
            parsed(read_text(app / CARRIED, largest=2 * LARGEST)), dict[str, str], CARRIED
        )
        name, content = carried["name"], base64.b64decode(carried["content"], validate=True)
        released = base64.b64decode(carried.get("releases", ""), validate=True)
    except (ValueError, KeyError) as error:
        raise InputError(f"{CARRIED}: cannot be read ({reason(error)})") from error
    if not NAME.fullmatch(name):
        return
    (run / FOLDER).mkdir(parents=True, exist_ok=True)
    with alone(run):
        if released and not is_there(run / RELEASES):
            put(run, released)
        write_whole(run / FOLDER / name, content)
