"""The sections of a run's report, one a file, in the order of the page.

A section is a function of what the run left; None where it has nothing to say. A callback of a
person's own has further ones in its attribute `report_sections`, which stand before the
configuration.
"""

from collections.abc import Callable, Sequence

from nufed.server_app.report.page import Section
from nufed.server_app.report.record import Record
from nufed.server_app.report.sections.again import again
from nufed.server_app.report.sections.algorithm import algorithm
from nufed.server_app.report.sections.configuration import configuration
from nufed.server_app.report.sections.failures import failures
from nufed.server_app.report.sections.pays import pays
from nufed.server_app.report.sections.personal import personal
from nufed.server_app.report.sections.served import served
from nufed.server_app.report.sections.theory import theory
from nufed.server_app.report.sections.training import training

SectionOf = Callable[[Record], Section | None]
OF_THE_RUN: tuple[SectionOf, ...] = personal, pays, served, training, algorithm, failures, theory
OF_ITS_CONFIGURATION: tuple[SectionOf, ...] = configuration, again


def sections(run: Record, own: Sequence[SectionOf] | None) -> list[Section]:
    """Return the sections of a report.

    Parameters
    ----------
    own
        Those of the person's own callbacks; None where the page is made anew, without them.
    """
    parts = [*OF_THE_RUN, *([_not_asked] if own is None else own), *OF_ITS_CONFIGURATION]
    found = (part(run) for part in parts)
    return [section for section in found if section is not None]


def _not_asked(run: Record) -> Section | None:
    """Say that callbacks, which nothing but the run calls, are not asked."""
    if not run.config.callbacks:
        return None
    names = ", ".join(f"callbacks.{name}" for name in run.config.callbacks)
    text = f"Sections of {names} are made as the run ends; this page was made anew, without them."
    return Section("Callbacks", [text])
