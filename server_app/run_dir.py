"""Where a run leaves its folder: where `nufed` wants it, or among the runs that a server keeps."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from flwr.app import Context

from nufed.conf.errors import InputError
from nufed.conf.files import new_folder
from nufed.conf.schema import Config
from nufed.conf.targets import typed_here
from nufed.conf.text import printable
from nufed.conf.words import path_of

RUNS = "NUFED_RUNS"
"""Names the folder that a server keeps its runs in."""


@contextmanager
def run_dir(config: Config, context: Context) -> Iterator[Path]:
    """Yield the run folder: where `nufed` wants it, else a new <name>/<time>.

    What was typed on another machine leads into $NUFED_RUNS, whatever it says; where that is not
    set, into superlink-runs/ or, for a new one, runs/ where we are.
    """
    given = str(context.run_config.get("run-dir") or "")
    named = given or config.resume
    if named and typed_here(context.node_config):
        yield Path(named)
        return
    usual = "superlink-runs" if named else "runs"
    base = path_of(os.environ.get(RUNS) or usual).absolute()
    if named:
        yield _within(base, named, "run-dir" if given else "resume")
        return
    now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    wanted = _within(base, config.name, "name") / now
    try:
        folder = new_folder(wanted)
    except OSError as error:
        raise InputError(f"{wanted}: cannot be made ({error.strerror})") from error
    try:
        yield folder
    finally:
        with suppress(OSError):  # it holds a run, or else that never began
            folder.rmdir()


def _within(base: Path, given: str, key: str) -> Path:
    """Return the folder of a name, as long as it is below `base`.

    Raises
    ------
    InputError
        If it leads elsewhere.
    """
    if (folder := below(base, given)) is None:
        raise InputError(
            f"{key}={printable(given):.100}: leads out of where this server keeps its runs "
            f"(${RUNS}); give the name of a folder in there"
        )
    return folder


def below(base: Path, given: str) -> Path | None:
    """Return the folder of a name, as others may have written it; None if it is not below `base`.

    Neither by ``..`` nor by a link does it lead elsewhere.
    """
    folder = base / given
    try:
        inside = folder.resolve().is_relative_to(base.resolve()) and ".." not in folder.parts
    except (OSError, RuntimeError, ValueError):  # a loop of links, a null byte
        inside = False
    return folder if inside and folder != base else None
