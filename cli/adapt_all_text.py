"""What `nufed-adapt clients=all` says of the models that it made."""

import math
from collections.abc import Iterator
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from nufed.cli.adapt_all import TABLE, Outcome, Served
from nufed.cli.adapt_text import number
from nufed.client_app.fine_tuner import FineTuner
from nufed.conf.text import count, printable
from nufed.server_app.report.statistics import interval
from nufed.strategies.curves import GROUPS

SHOWN = 12  # clients in the table; of more, those with the least and the most gain
LONGEST = 24  # characters of an id
FAILED = 5  # clients that are named on the terminal


def heading(tuner: FineTuner, clients: int, data: str) -> list[str]:
    """Return a line about the rows, and one about the steps."""
    how = tuner.how
    steps = f"k of 0 … {how.steps} for each" if tuner.chosen else count(how.steps, "step")
    batch = f"{how.batch} rows each" if how.batch is not None else "all rows each"
    return [
        f"{data}: {count(clients, 'client')}",
        f"{tuner.run}: {steps}, α={how.alpha:g}, {batch}",
    ]


def table(outcome: Outcome) -> Table:
    """Return the clients, the least gain first; of many, those at either end."""
    served = sorted(outcome.served, key=lambda each: (_known(each.gain), -each.steps))
    groups = {each.group for each in served} != {""}
    head = ["client", *(["group"] if groups else [])]
    figures = ["rows", "k", "at k=0", "at k", f"at ν={outcome.usual}", "gain"]
    title = f"{outcome.metric} on the rows held out"
    shown = Table(
        title=title,
        title_justify="left",
        title_style="",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for name in head:
        shown.add_column(name)
    for name in figures:
        shown.add_column(name, justify="right", no_wrap=True)
    few = len(served) <= SHOWN
    for each in served if few else served[: SHOWN // 2]:
        shown.add_row(*_cells(each, groups))
    if not few:
        shown.add_row(f"… {len(served) - SHOWN} more")
        for each in served[-SHOWN // 2 :]:
            shown.add_row(*_cells(each, groups))
    return shown


def report(outcome: Outcome, place: Path) -> list[str]:
    """Return what came of it, for each group of clients; who was left out; and where it is."""
    groups = ([each for each in outcome.served if each.group == group] for group in ("", *GROUPS))
    told = [sentence(outcome, members) for members in groups if members]
    named = outcome.failed[:FAILED]
    failed = [*_unchosen(outcome)]
    failed += [f"left out: client {each}: {_why(each, why)}" for each, why in named]
    if (more := len(outcome.failed) - FAILED) > 0:
        failed += [f"left out: {count(more, 'more client')}, named in {TABLE}"]
    models = count(len(outcome.served), "client")
    return [*told, *failed, f"personal models: {place} ({models}; figures in {TABLE})"]


def _unchosen(outcome: Outcome) -> Iterator[str]:
    """Name the clients with one row, of whom nothing is chosen."""
    of = [printable(str(each.id)) for each in outcome.served if not each.chosen]
    if outcome.chosen and of:
        who = f"client{'s' * (len(of) > 1)} {', '.join(of[:FAILED])}{', …' * (len(of) > FAILED)}"
        yield f"left at k=0: {who}: with 1 train row there is none to choose by"


def sentence(outcome: Outcome, served: list[Served]) -> str:
    """Say for how many clients of a group their models are better, and by how much."""
    of, left = f"{served[0].group} client".strip(), ""
    if outcome.chosen:
        stay = sum(each.chosen and each.steps == 0 for each in served)
        doubtful = sum(each.doubtful for each in served)
        left = f"; {stay} {'is' if stay == 1 else 'are'} better left at k=0"
        left += f" ({doubtful} of them in doubt)" if doubtful else ""
    measured = [each for each in served if each.gain is not None and math.isfinite(each.gain)]
    if not measured:
        return f"{count(len(served), of)}: no rows are held out to measure models on{left}."
    gains = [each.gain or 0.0 for each in measured]
    better, worse = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
    told = f"Personal models are better for {better} of {count(len(gains), of)}"
    told += f" and worse for {worse}{left}. Mean gain in {outcome.metric}: {_mean(gains)}"
    if not outcome.chosen:
        return told + ("; steps=auto chooses each one's steps." if worse else ".")
    usual = [_gain(outcome, each) for each in measured]
    known = [gain for gain in usual if gain is not None and math.isfinite(gain)]
    return told + (f"; of ν={outcome.usual} for all, {_mean(known)}." if known else ".")


def _gain(outcome: Outcome, each: Served) -> float | None:
    """Return a client's gain by the run's ν."""
    if each.before is None or each.usual is None:
        return None
    rise = each.usual - each.before
    return -rise if outcome.lower_is_better else rise


def _mean(gains: list[float]) -> str:
    """Return the mean over clients, with its 95% interval where there are several."""
    found = interval(gains)
    return found.text(3) if len(gains) > 1 else f"{found.mean:+.3f}"


def _cells(each: Served, grouped: bool) -> list[str]:
    name = printable(str(each.id))
    name = name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
    figures = [_figure(value) for value in (each.before, each.after, each.usual)]
    error = "" if each.error is None else f" ± {each.error:.3f}"
    gain = "" if each.gain is None else f"{each.gain:+.3f}{error}"
    group = [each.group] if grouped else []
    return [name, *group, str(each.rows), str(each.steps), *figures, gain]


def _figure(value: float | None) -> str:
    return "" if value is None else number(value)


def _known(gain: float | None) -> float:
    return -math.inf if gain is None or math.isnan(gain) else gain


def _why(client: object, why: str) -> str:
    return why.removeprefix(f"client {client}: ")
