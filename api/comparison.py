"""`nufed.compare`: runs side by side, those that differ by their seed alone together."""

import os
from collections.abc import Sequence

from nufed.api.page import Page
from nufed.api.tables import Table, ends
from nufed.conf.errors import InputError
from nufed.conf.text import printable
from nufed.conf.words import path_of
from nufed.server_app.report.comparison import Comparison as Compared
from nufed.server_app.report.comparison import compare as compared
from nufed.server_app.report.comparison import run_folders
from nufed.server_app.report.comparison_page import headline, page, terminal_table
from nufed.server_app.report.record import as_written
from nufed.server_app.terminal import Terminal

THESE = "these runs"


class Comparison:
    """Runs side by side; the others are compared with the first.

    Attributes
    ----------
    notes : list of str
        What was left out, or stands here otherwise than one may think.
    """

    def __init__(self, found: Compared, target: float | None) -> None:
        self._found, self._target = found, target
        self.notes = found.notes

    @property
    def table(self) -> Table:
        """A row for each group of runs and kind of clients, at the last k that all of them took.

        The metric, its mean over seeds with `low` and `high` (95%; NaN of a single seed), the mean
        of the worst tenth, and `over_first`, the difference to the first group seed by seed.
        """
        with as_written(THESE):
            return ends(self._found)

    @property
    def report(self) -> Page:
        """The page of `nufed-report`, which a notebook shows."""
        with as_written(THESE):
            return Page(page(self._found, self._target), "runs side by side")

    def __repr__(self) -> str:
        console = Terminal(quiet=False, force_terminal=False)
        with console.capture() as printed:
            console.print(terminal_table(self._found))
        return f"{printed.get()}{printable(headline(self._found))}"


def compare(runs: Sequence[str | os.PathLike[str]], *, target: float | None = None) -> Comparison:
    """Compare runs, as `nufed-report` does.

    Parameters
    ----------
    runs
        Runs, their folders, or those of sweeps; the others are compared with the first.
    target
        What rounds are counted to in the report; None: 95% of the way that the first goes.

    Raises
    ------
    InputError
        If one cannot be read, or they have nothing in common that was measured.
    """
    if isinstance(runs, str | os.PathLike):
        runs = [runs]
    names = [os.fspath(run) for run in runs]
    if not names:
        raise InputError("compare: no run was given; give a list of runs or folders")
    found = [run for name in names for run in run_folders(path_of(name).absolute(), name)]
    with as_written(THESE):
        return Comparison(compared(list(dict.fromkeys(found))), target)
