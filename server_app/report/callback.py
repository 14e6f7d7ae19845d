"""The report of a run, made when it ends."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nufed.conf.errors import reason
from nufed.conf.words import command_line
from nufed.server_app.callbacks import Own
from nufed.server_app.run_folder import REPORT, RESCUED
from nufed.server_app.tracking import Callback, RunInfo

log = logging.getLogger("nufed")


class Report(Callback):
    """Make report.html out of what `RunFolder`, which comes before, has written.

    Parameters
    ----------
    folder
        The run folder.
    own
        The person's own callbacks, which may have sections for it.
    wanted
        Whether one is made; one of before the run went on is removed in any case.
    """

    def __init__(self, folder: Path, own: Sequence[Own] = (), wanted: bool = True) -> None:
        self.folder, self.own, self.wanted = folder, own, wanted

    def on_start(self, run: RunInfo) -> None:
        """Remove the report of a run that goes on: it would be taken for that of its end."""
        (self.folder / REPORT).unlink(missing_ok=True)

    def on_end(self, summary: dict[str, Any]) -> None:
        """Make the report; a run is not lost over one that cannot be made, but told of it."""
        if RESCUED in summary or not self.wanted:
            return  # of the first, the folder could not be written
        try:
            from nufed.server_app.report.run_page import write_report  # matplotlib takes a second

            write_report(self.folder, own=[part for each in self.own for part in each.sections()])
        except Exception as error:
            log.warning(
                "%s: cannot be made (%s: %s); %s tries again",
                self.folder / REPORT,
                type(error).__name__,
                reason(error),
                command_line("nufed-report", [str(self.folder)]),
            )
