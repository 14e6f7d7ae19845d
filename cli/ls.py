"""`nufed ls`: the runs of a SuperLink, and the folders here that follow them."""

import argparse
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nufed.cli.attach import ENGINE, WAY
from nufed.cli.command import carry_out, words_parser
from nufed.conf.errors import InputError, nearest
from nufed.conf.words import for_hydra

if TYPE_CHECKING:
    from rich.table import Table

    from nufed.cli.superlink import Listed

COMMAND = "nufed ls"
UNCUT = 10_000  # characters of a line that goes to a file or to another program
EPILOG = """\
keys:
  engine.superlink=PLACE          host:port, or a name in Flower's config.toml
  engine.root_certificates=FILE   with host:port: the CA's certificate, for TLS
  engine.insecure=true            plain text to another machine

example:
  nufed ls engine.superlink=127.0.0.1:8000
"""

log = logging.getLogger("nufed")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    carry_out(_parser(), lambda given: _list(read(given.words)), arguments)


def read(words: Sequence[str]) -> list[str]:
    """Return the overrides that were typed; an `InputError` for what is none of this command."""
    for word in words:
        key = word.partition("=")[0]
        if key not in WAY and word != ENGINE:
            raise InputError(f"{key}: no such key; {nearest(key, WAY)}")
    return for_hydra(word for word in words if word != ENGINE)


def _list(words: Sequence[str]) -> None:
    # Imported here, so that --help and a mistyped key answer at once.
    from nufed.cli.submitted import followed
    from nufed.cli.superlink import connect
    from nufed.cli.watching import composed
    from nufed.server_app.terminal import Terminal

    console = Terminal()
    with tempfile.TemporaryDirectory(prefix="nufed-") as scratch:
        superlink = connect(composed(words).engine, Path(scratch))
        with console.status(f"asking {superlink.name}"):
            runs = superlink.runs()
    if not runs:
        console.say(f"{superlink.name} has no runs")
        return
    wide = console if console.is_terminal else Terminal(width=UNCUT)
    wide.print(table(runs, followed()))


def table(runs: Sequence["Listed"], here: dict[str, Path]) -> "Table":
    """Return runs as a table, with what the folders know that follow them here, by run."""
    from rich.table import Table

    from nufed.server_app.report.words import duration

    found = Table()
    for column in ("run", "name", "state", "begun", "for", "rounds", "folder here"):
        found.add_column(column, overflow="fold")
    for run in runs:
        folder = here.get(run.run_id)
        name, rounds = _known(folder) if folder else (run.app, "")
        begun = f"{run.began.astimezone():%Y-%m-%d %H:%M:%S}" if run.began else ""
        lasted = duration(round(run.elapsed)) if run.began else ""
        found.add_row(run.run_id, name, state(run.status), begun, lasted, rounds, str(folder or ""))
    return found


def state(status: str) -> str:
    """Return Flower's status as a word: of one that is over, how it ended."""
    end = status.removeprefix("finished:")
    return "finished" if end == "completed" else end


def _known(folder: Path) -> tuple[str, str]:
    """Return the name of a run, and its rounds so far of all, as its folder has them."""
    from nufed.conf.compose import find_config
    from nufed.conf.files import is_there
    from nufed.server_app.run_folder import METRICS, load, whole_rows

    try:
        config = find_config(folder, str(folder)).config
        rows = load(folder / METRICS, whole_rows) if is_there(folder / METRICS) else []
    except InputError as error:
        log.warning("%s", error)
        return "", ""
    return config.name, f"{rows[-1]['round'] if rows else 0}/{config.rounds}"


def _parser() -> argparse.ArgumentParser:
    return words_parser(
        COMMAND,
        "engine.superlink=PLACE [key=value …]",
        WAY,
        "List the runs of a SuperLink, the newest first, with the folders below runs/ "
        "that follow them.",
        EPILOG,
    )


if __name__ == "__main__":
    main()
