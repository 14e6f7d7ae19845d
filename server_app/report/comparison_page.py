"""The page, and the table on a terminal, that compare runs."""

import math
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
from rich.table import Table as TerminalTable

from nufed.server_app.report.comparison import Comparison, Group, compare
from nufed.server_app.report.figures import (
    Drawing,
    Figure,
    band,
    metric_axis,
    reference,
    style,
    styled,
    whole_rounds,
)
from nufed.server_app.report.page import Section, Table, render, write
from nufed.server_app.report.record import COSTS
from nufed.server_app.report.statistics import Array, Interval, interval
from nufed.server_app.report.words import directed, direction, number, size, steps
from nufed.tasks.possible import Limits

COMPARISON = "comparison.html"
NEVER = "not reached"
FEW = 3  # data sets that a title names
ENDS = ("", "_worst_decile")  # what is said of clients: their mean, and that of the worst tenth


def write_comparison(
    folders: Sequence[Path], file: Path, target: float | None = None
) -> Comparison:
    """Compare runs in a page, and return the comparison.

    Parameters
    ----------
    folders
        Folders of runs.
    file
        The page.
    target
        What rounds are counted to; None is 95% of the way that the first group goes.

    Raises
    ------
    InputError
        If a run cannot be read, or the page not be written.
    """
    found = compare(folders)
    write(page(found, target), file)
    return found


def page(of: Comparison, target: float | None = None) -> str:
    """Return a comparison as a page."""
    count = sum(len(group.runs) for group in of.groups)
    with styled():
        sections = [
            *(_ends(of, kind) for kind in reversed(of.kinds)),
            *(_targets(of, kind, target) for kind in of.kinds[-1:]),
            _differences(of),
            _runs(of),
        ]
    title = f"{count} run{'s' if count > 1 else ''} side by side"
    subtitle = _seeds(of)
    if of.limits != Limits() and any(len(group.runs) > 1 for group in of.groups):
        subtitle += f", cut where {of.metric} ends"
    return render(title, _data(of), subtitle, headline(of), sections, "\n".join(of.notes))


def _data(of: Comparison) -> str:
    """Name the data, and how they are split; of many, the first few."""
    every = list(dict.fromkeys(run.data for group in of.groups for run in group.runs.values()))
    more = f" and {len(every) - FEW} more" if len(every) > FEW else ""
    return "; ".join(every[:FEW]) + more


def headline(of: Comparison) -> str:
    """Say which group was best at its last round, how sure that is, and what it cost."""
    kind, k = of.kinds[-1], of.last_k
    said = "; ".join(
        f"{group.label} {written(of.end(group, kind, k), of.metric)}" for group in of.groups
    )
    start = f"{of.metric} of {kind} clients after {steps(k)}: {said}."
    found = ((group, of.gain(group, kind, k)) for group in of.groups)
    gains = [(group, gain[0]) for group, gain in found if gain and math.isfinite(gain[0].low)]
    sure = [(group, gain) for group, gain in gains if gain.decided]
    for group, gain in sorted(sure, key=lambda each: -abs(each[1].mean))[:1]:
        verb = "above" if gain.mean > 0 else "below"
        start += (
            f" {group.label} is {number(abs(gain.mean), of.metric)} {verb} {of.groups[0].label}, "
            f"seed by seed {_bounds(gain, of.metric)}."
        )
        start += _at_what_cost(of, group)
    if gains and not sure:
        start += f" No difference to {of.groups[0].label} is decided by these seeds."
    if rising := [group.label for group in of.groups if of.still_rises(group, kind)]:
        start += f" Still rising at the last round: {', '.join(rising)}."
    if alphas := of.chosen("alpha"):
        start += (
            f" Step sizes were chosen run by run (α of {'; of '.join(alphas)}), for fine-tuning "
            "too: set or tune algorithm.alpha before you conclude."
        )
    return start[0].upper() + start[1:]


def _at_what_cost(of: Comparison, group: Group) -> str:
    """Say what a group and the first took, of rounds, bytes and gradients; nothing if alike."""
    first, ours, theirs = of.groups[0], group.first.rounds, of.groups[0].first.rounds
    if ours != theirs:
        return f" It took {ours} rounds, {first.label} {theirs}."
    alike, apart = ["rounds"], []
    for cost in COSTS:
        times = of.times(group, cost)
        if times is None:
            return ""
        if math.isclose(times, 1.0, rel_tol=0.05):
            alike.append(cost)
            continue
        more, less = (group, first) if times > 1 else (first, group)
        times = max(times, 1 / times)
        apart.append(f" {more.label} took {times:.2g} times the {cost} of {less.label}")
    as_many = f", for as many {' and '.join(alike)}."
    return f"{','.join(apart)}{as_many}" if apart else ""


def terminal_table(of: Comparison) -> TerminalTable:
    """Return the ends of all groups as a table for a terminal."""
    k, several = of.last_k, len(of.groups) > 1
    way = direction(lower_is_better=of.lower_is_better)
    made = TerminalTable(title=f"{of.metric}, {way}; {_seeds(of)}", title_justify="left")
    made.add_column("runs")
    for column in (f"k={k}", "worst tenth", *["over the first"] * several):
        made.add_column(column, justify="right", no_wrap=True)
    for group in of.groups:
        made.add_row(f"{group.label} ({len(group.runs)})")
        for kind in of.kinds:
            cells = [_stacked(of.end(group, kind, k, end), of.metric) for end in ENDS]
            gain = of.gain(group, kind, k)
            cells += [_stacked(gain[0], of.metric) if gain else "–"] * several
            made.add_row(f"  {kind}", *cells)
    return made


def _stacked(of: Interval, metric: str) -> str:
    """Return ``0.912``, and its interval below: two of these side by side fill a terminal."""
    return "\n".join(filter(None, (number(of.mean, metric), _bounds(of, metric))))


def written(of: Interval, metric: str) -> str:
    """Return ``0.912 [0.901, 0.923]``; without an interval where there is none."""
    return " ".join(filter(None, (number(of.mean, metric), _bounds(of, metric))))


def _bounds(of: Interval, metric: str) -> str:
    if not math.isfinite(of.low):
        return ""
    return f"[{number(of.low, metric)}, {number(of.high, metric)}]"


def _seeds(of: Comparison) -> str:
    """Say how many seeds the intervals are of."""
    counts = sorted({len(group.runs) for group in of.groups})
    if counts == [1]:
        return "one seed each: no interval can be given"
    text = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    alone = "; a group of one has none" if counts[0] == 1 else ""
    return f"means of {text} seeds with 95% intervals (Student's t){alone}"


def _table(of: Comparison, kind: str) -> tuple[list[str], list[list[str]]]:
    """Return head and rows: each group's end, and what sets it off from the first."""
    k, several = of.last_k, len(of.groups) > 1
    before = sorted({0, min(1, k)} - {k}, reverse=True)
    head = ["runs", f"k={k}", *["over the first"] * several, "worst tenth"]
    rows = []
    for group in of.groups:
        mean, worst = (written(of.end(group, kind, k, end), of.metric) for end in ENDS)
        gain = of.gain(group, kind, k)
        over = ["–" if gain is None else _signed(gain[0], of.metric)] * several
        earlier = [written(of.end(group, kind, each), of.metric) for each in before]
        rows.append([f"{group.label} ({len(group.runs)})", mean, *over, worst, *earlier])
    return [*head, *(f"k={each}" for each in before)], rows


def _signed(gain: Interval, metric: str) -> str:
    """Return ``+0.012 [+0.004, +0.020]``."""
    values = (gain.mean, gain.low, gain.high) if math.isfinite(gain.low) else (gain.mean,)
    mean, *bounds = (f"{'+' if value > 0 else ''}{number(value, metric)}" for value in values)
    return f"{mean} [{', '.join(bounds)}]" if bounds else mean


def _ends(of: Comparison, kind: str) -> Section:
    """Compare one kind of clients."""
    head, rows = _table(of, kind)
    caption = f"{of.metric}, {direction(lower_is_better=of.lower_is_better)}"
    table = Table(head, rows, caption)
    by_k = [
        [group.label, *(written(of.end(group, kind, k), of.metric) for k in range(of.last_k + 1))]
        for group in of.groups
    ]
    every_k = Table(["runs", *(f"k={k}" for k in range(of.last_k + 1))], by_k, caption)
    label = f"{of.metric} after every number of steps"
    return Section(
        f"{kind.capitalize()} clients",
        _who(of, kind),
        figures=[_by_step(of, kind), _by_round(of, kind)],
        tables=[table],
        folded=[(label, every_k)],
    )


def _who(of: Comparison, kind: str) -> list[str]:
    """Say that each seed measures other clients, where it does."""
    drawn = any(not isinstance(g.config.evaluation.new_clients, list) for g in of.groups)
    if kind != "new" or not drawn or all(len(group.runs) == 1 for group in of.groups):
        return []
    return ["Each seed sets other clients apart as new; evaluation.new_clients=[3,17] holds them."]


def _by_step(of: Comparison, kind: str) -> Figure:
    drawing = Drawing(f"{kind}-steps", "fine-tuning steps k", _axis(of))
    k = range(of.last_k + 1)
    for index, group in enumerate(of.groups):
        curves = [list(group.final(kind, of.metric, step).values()) for step in k]
        _line(drawing, k, np.array(curves).T, group.label, index, of.limits)
    title = f"What fine-tuning does for {kind} clients"
    alt = f"{title}: {of.metric} by k, after training, a line a group of runs."
    return _finish(drawing, of, kind, title, alt)


def _by_round(of: Comparison, kind: str) -> Figure:
    drawing = Drawing(f"{kind}-rounds", "round", f"{_axis(of)} at k = {of.last_k}")
    for index, group in enumerate(of.groups):
        rounds, curves = group.curves(kind, of.metric)
        _line(drawing, rounds, curves[:, :, of.last_k], group.label, index, of.limits)
    title = f"What training does for {kind} clients after {steps(of.last_k)}"
    alt = f"{title}: {of.metric} by round, a line a group of runs."
    return _finish(drawing, of, kind, title, alt)


def _axis(of: Comparison) -> str:
    return directed(of.metric, lower_is_better=of.lower_is_better)


def _line(
    drawing: Drawing, x: Sequence[int], curves: Array, label: str, index: int, limits: Limits
) -> None:
    """Draw the mean of curves [seeds, points] with its interval."""
    points = [interval(column).within(limits) for column in curves.T]
    mean, low, high = (np.array(each, np.float64) for each in zip(*points, strict=True))
    band(drawing.axes, x, low, high, index)
    drawing.axes.plot(x, mean, label=label, **style(index, len(mean)))


def _finish(drawing: Drawing, of: Comparison, kind: str, title: str, alt: str) -> Figure:
    """Finish a figure of the metric, with a line of what needs no model."""
    if (found := of.constant(kind)) is not None:
        name, value = found
        reference(drawing.axes, value, name, ":")
        alt += f" {name}: {number(value, of.metric)}."
    whole_rounds(drawing.axes)
    values = np.concatenate([np.asarray(line.get_ydata()) for line in drawing.axes.lines])
    metric_axis(drawing.axes, values, of.limits, lower_is_better=of.lower_is_better)
    return drawing.finish(title, alt, direction(lower_is_better=of.lower_is_better))


def _targets(of: Comparison, kind: str, given: float | None) -> Section:
    """Compare how many rounds it takes to be good."""
    target = of.target(kind) if given is None else given
    if target is None:
        text = (
            f"{of.groups[0].label} gains nothing by training, so it sets no target; name one, as "
            "in nufed-report … target=0.9."
        )
        return Section("Rounds to a target", [text])
    costs = COSTS if any(run.costs for group in of.groups for run in group.runs.values()) else ()
    rows = []
    for group in of.groups:
        reached = of.rounds_to(group, kind, target)
        there = [rounds for rounds in reached.values() if math.isfinite(rounds)]
        longest = Limits(0, max(run.rounds for run in group.runs.values()))
        mean = "–" if len(there) < len(reached) else _whole(interval(there).within(longest))
        each = ", ".join(NEVER if math.isinf(r) else f"{r:.0f}" for r in reached.values())
        spent = [_spent(of.costs_to(group, reached, cost).values(), cost) for cost in costs]
        rows.append([group.label, mean, *spent, f"{len(there)} of {len(reached)}", each])
    side = "at most" if of.lower_is_better else "at least"
    why = "" if given is not None else ", which is 95% of the way that the first group goes"
    text = (
        f"Rounds until {kind} clients have {side} {number(target, of.metric)} {of.metric} after "
        f"{steps(of.last_k)}{why}; the mean of three evaluations has to be there (0: each of the "
        "first three is)."
    )
    if costs:
        text += (
            " Gradients are those taken so far per participating client, bytes those that clients "
            "sent and received."
        )
    head = ("runs", "rounds", *costs, "seeds there", "each seed")
    caption = "What it took; ↓ less is better"
    return Section("Rounds to a target", [text], tables=[Table(head, rows, caption)])


def _spent(values: Collection[float | None], cost: str) -> str:
    """Return the mean of what seeds spent; a dash where one never got there or does not tell."""
    found = [value for value in values if value is not None and math.isfinite(value)]
    if not found or len(found) < len(values):
        return "–"
    mean = interval(found).within(Limits(0))
    say = size if cost == "bytes" else "{:,.6g}".format
    if not math.isfinite(mean.low):
        return say(mean.mean)
    return f"{say(mean.mean)} [{say(mean.low)}, {say(mean.high)}]"


def _whole(of: Interval) -> str:
    if not math.isfinite(of.low):
        return f"{of.mean:.0f}"
    return f"{of.mean:.0f} [{of.low:.0f}, {of.high:.0f}]"


def _differences(of: Comparison) -> Section:
    """List the keys that set groups apart."""
    chosen = {f"algorithm.{k} (chosen)": of.chosen(k) for k in ("alpha", "beta")}
    if not of.differing:
        return Section("What differs", ["Nothing but the seed."])
    rows = [[key, *values] for key, values in (of.differing | chosen).items() if values]
    head = ["key", *(group.label for group in of.groups)]
    return Section("What differs", tables=[Table(head, rows, words=len(head))])


def _runs(of: Comparison) -> Section:
    """List every run."""
    rows = [row for group in of.groups for row in _of_group(of, group)]
    head = ["folder", "runs", "seed", "rounds", *(f"{k}, k={of.last_k}" for k in of.kinds)]
    caption = f"{of.metric}, {direction(lower_is_better=of.lower_is_better)}"
    return Section("Every run", tables=[Table(head, rows, caption, words=2)])


def _of_group(of: Comparison, group: Group) -> Iterable[list[str]]:
    for seed, run in group.runs.items():
        ends = (number(run.final(kind, of.metric)[of.last_k], of.metric) for kind in of.kinds)
        name = f"{run.folder.parent.name}/{run.folder.name}"
        yield [name, group.label, str(seed), f"{run.rounds} of {run.config.rounds}", *ends]
