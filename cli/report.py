"""`nufed-report`: the report of a run, or several runs and seeds side by side."""

import argparse
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from nufed.cli.command import Parser, carry_out
from nufed.conf.errors import InputError, nearest
from nufed.conf.words import apart, path_of

COMMAND = "nufed-report"
KEYS = "out", "target"
EXAMPLES = """\
examples:
  nufed-report runs/digits-nufed/2026-01-01_12-00-00   its report.html, made anew
  nufed-report runs/digits-sweep/2026-01-01_12-00-00   a sweep's runs: comparison.html there
  nufed-report runs/a runs/b runs/c out=abc.html       runs side by side with the first of them
  nufed-report runs/a runs/b target=0.9                counts the rounds to an accuracy of 0.9
"""


class Given(NamedTuple):
    """What was typed."""

    runs: list[Path]
    single: bool
    """Whether one run was named, and itself."""
    out: Path
    """The page that compares them."""
    target: float | None


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    carry_out(_parser(), lambda given: _report_of(read(given.what)), arguments)


def read(words: Sequence[str]) -> Given:
    """Return what is meant by the words that were typed.

    Raises
    ------
    InputError
        If a word cannot be used.
    """
    from nufed.server_app.report.comparison import run_folders
    from nufed.server_app.report.comparison_page import COMPARISON

    names, options = apart(words)
    found = dict(option.split("=", 1) for option in options)
    if unknown := [key for key in found if key not in KEYS]:
        given = f"{unknown[0]}={found[unknown[0]]}"
        raise InputError(f"{given}: no such folder or option; {nearest(unknown[0], KEYS)}")
    if not names:
        raise InputError("no run was named; say nufed-report runs/…")
    folders = [path_of(name).absolute() for name in names]
    runs = list(dict.fromkeys(run for some in map(run_folders, folders, names) for run in some))
    single = len(runs) == 1 and not options
    place = folders[0] if len(folders) == 1 else Path.cwd()
    out = path_of(found["out"]).absolute() if "out" in found else place / COMPARISON
    return Given(runs, single, out, _target(found.get("target")))


def _report_of(given: Given) -> None:
    """Make a report of files that somebody may have written to."""
    from nufed.server_app.report.record import as_written

    with as_written(given.runs[0] if given.single else "these runs"):
        _report(given)


def _report(given: Given) -> None:
    # Imported here, so that --help and a mistyped folder answer at once.
    from nufed.server_app.terminal import Terminal

    console = Terminal()
    if given.single:
        from nufed.server_app.report.run_page import write_report

        file = write_report(given.runs[0])
        console.say(f"report: {file}")
        return
    from nufed.server_app.report.comparison_page import terminal_table, write_comparison

    found = write_comparison(given.runs, given.out, given.target)
    console.print(terminal_table(found))
    for note in found.notes:
        console.say(note)
    console.say(f"comparison: {given.out}")


def _target(text: str | None) -> float | None:
    if text is None:
        return None
    with suppress(ValueError):
        if math.isfinite(value := float(text)):
            return value
    raise InputError(f"target={text}: must be a number, such as 0.9")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=COMMAND,
        keys=KEYS,
        description="Make the report of a run, or compare runs: those that differ by their seed "
        "alone are put together, with 95% intervals.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "what", nargs="+", help="folders of runs or sweeps; out=FILE and target=NUMBER besides"
    )
    return parser


if __name__ == "__main__":
    main()
