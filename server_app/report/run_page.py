"""The report of one run."""

from collections.abc import Sequence
from pathlib import Path

from nufed.client_app.algorithm import settings_of
from nufed.server_app.amiss import Rising, alarms, still_rising
from nufed.server_app.report.figures import styled
from nufed.server_app.report.page import render, write
from nufed.server_app.report.record import Record, read_record
from nufed.server_app.report.sections import SectionOf, sections
from nufed.server_app.report.words import clients, number, point, steps
from nufed.server_app.run_folder import REPORT


def write_report(
    folder: Path, name: str | None = None, own: Sequence[SectionOf] | None = None
) -> Path:
    """Make report.html in a run folder, and return it.

    Parameters
    ----------
    name
        What a person called the folder, for an error; None is its path.
    own
        Sections of the person's own callbacks; None where the page is made anew, without them.

    Raises
    ------
    InputError
        If it is no run folder, or a file cannot be read or written.
    """
    file = folder / REPORT
    write(report(read_record(folder, name), own), file)
    return file


def report(run: Record, own: Sequence[SectionOf] | None = None) -> str:
    """Return the report of a run as a page; see `write_report`."""
    c, a = run.config, run.config.algorithm
    amiss = alarms(run.summary or {}, c, run.probed, _rising(run))
    told = "\n".join(filter(None, (_warning(run), *amiss)))
    subtitle = (
        f"{a['name']}: {settings_of(a).replace('=', ' = ')} · seed {c.seed} · {run.folder.name}"
    )
    with styled():
        found = sections(run, own)
    return render(c.name, run.data, subtitle, headline(run), found, told)


def headline(run: Record) -> str:
    """Say whether the run is trained, and in a sentence how good personal models are in the end."""
    if not run.groups:
        return "No round of this run has been evaluated."
    rising = _rising(run)
    k, metric = run.last[run.groups[0]]["k"][-1], run.metric
    said = list[str]()
    for group in reversed(run.groups):  # the new ones first: the method is for them
        curves = run.last[group]
        worst = point(curves, metric, "_worst_decile", -1)
        who = clients(run.last[group]["clients"], group)
        verb = ("is" if run.last[group]["clients"] == 1 else "are") if not said else ""
        end = point(curves, metric, "", -1)
        at = f"a {metric} of {end}" if run.lower_is_better else f"{end} {metric}"
        before = f", from {point(curves, metric, '', 0)} before" if k else ""
        said.append(f"{who} {verb} at {at} (worst tenth {worst}){before}".replace("  ", " "))
    start = f"After {steps(k)}" if k else "Without fine-tuning"
    rows = "" if run.config.evaluation.split == "test" else " on validation rows"
    first = f"{rising}. " if rising else _of_which_round(run)
    pays = "" if run.beside is None else f" {run.beside.pays()}"
    return f"{first}{start}, {'; '.join(said)}{rows}.{pays}{_of_training(run)}"


def _rising(run: Record) -> Rising | None:
    return still_rising(run.rows, run.summary or {}, lower_is_better=run.lower_is_better)


def _of_which_round(run: Record) -> str:
    """Say of which model figures are, where it is not that of a run's end."""
    if run.config.rounds == 0 or (run.summary is not None and not run.stopped):
        return ""
    if run.last["round"] == 0:
        return "This is of the untrained model. "
    return f"This is of round {run.last['round']} of {run.config.rounds}. "


def _of_training(run: Record) -> str:
    """Say where as many steps lead from the untrained model; empty where it was not measured."""
    group = run.groups[-1]
    rounds, curves = run.curves(group, run.metric)
    before, after = curves[0, -1], curves[-1, -1]
    if len(rounds) < 2 or rounds[0] != 0:
        return ""
    helped = (after < before) if run.lower_is_better else (after > before)
    unhelped = "" if helped else ": training has not helped them"
    return (
        f" From the untrained model, the same steps take {group} clients to "
        f"{number(before, run.metric)}{unhelped}."
    )


def _warning(run: Record) -> str:
    """Say what keeps this from being the report of a whole run; empty if nothing does."""
    if run.stopped:
        return f"This run stopped early: {run.stopped}"
    if run.summary is None:
        return (
            f"This run has not come to its end: it goes on, or was killed. What follows is of its "
            f"first {run.rounds} of {run.config.rounds} rounds."
        )
    return ""
