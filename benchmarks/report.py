"""The table, on the terminal and in docs/benchmarks.md."""

from collections.abc import Iterable, Sequence

from rich.table import Column, Table

from benchmarks.outcome import QUANTITIES, Line, Row, Target
from benchmarks.results_file import Results
from benchmarks.workload import Workload

COLUMNS = ("wall_s", "speedup", "cpu_s", "peak_mb", "gemm_share")
"""Figures with a column of their own; others stand beside the target."""
TARGET = "target"
HEADINGS = ("contender", *(QUANTITIES[c].label for c in COLUMNS), TARGET, "reached", "met")
YES, NO, NOT_MEASURED = "yes", "no", "not measured"

INTRODUCTION = """\
# Benchmarks

Written by `python -m benchmarks`; nothing here is typed by hand.

Seconds are medians over repeats in which the contenders take turns (A, B, A, B, …). A ratio is how
many times as quick a contender is as the first of its rows: the median of the repeats' own ratios.
CPU seconds are those of all threads and processes that did the work. *CPU s to NuFed's* is how many
times as many a contender takes as *NuFed, as it chooses*: the batched engine without any flag, in a
run of 5,000 rounds (it compiles local steps where the rest of a run pays for that). Peak memory is
that of the tensors made meanwhile in a round of two local steps, counted where torch makes them;
compiled programs and other processes make them elsewhere. The GEMM rate is the part of the
machine's measured rate of float32 matrix products that was reached, from the operations that the
model's matrix products and convolutions need. One thread, unless a row says otherwise.

The plain loop is [benchmarks/plain_loop.py](../benchmarks/plain_loop.py): what a practitioner
writes in PyTorch, made as quick as we could. *One by one* is NuFed's own loop over clients, without
the batched engine. Flower's Ray engine runs whole rounds of the same work, with its server and
messages, on all cores.

The other opponents are in [benchmarks/opponents](../benchmarks/opponents), each a process of one
thread. JAX does the same work, and goes through the clients in the quickest of several ways that a
trial tells; a test holds its numbers to ours. pfl-research and BlazeFL have no meta-gradient: what
they do is FedAvg with as many gradients of as many rows, whose batches lie ready before the clock
starts, and so they have no Hessian products to compute either. `make bench` installs them apart
from NuFed; a cell says so where one was not to be had.
"""


def table(rows: dict[str, Row]) -> Table:
    """Return the table for the terminal."""
    shown = Table("workload", *(Column(heading, no_wrap=heading == TARGET) for heading in HEADINGS))
    for name, row in rows.items():
        for i, line in enumerate(row.lines):
            *most, met = cells(line)
            met = met.replace(NO, f"[red]{NO}[/red]").replace(YES, f"[green]{YES}[/green]")
            shown.add_row(f"[bold]{name}[/bold]" if i == 0 else "", *most, met)
        shown.add_section()
    return shown


def markdown(machines: Iterable[Results], workloads: Sequence[Workload]) -> str:
    """Return docs/benchmarks.md: every machine's rows, in the order of `workloads`."""
    return "\n".join([INTRODUCTION, *(_machine(results, workloads) for results in machines)])


def verdict(rows: dict[str, Row]) -> list[str]:
    """Count the targets that are met, and name those that are not; a line each."""
    met, missed = 0, list[str]()
    for name, row in rows.items():
        for line in row.lines:
            for target in line.targets:
                met += line.met(target)
                if not line.met(target):
                    missed.append(f"{name}, {line.contender}: {target}, {_reached(line, target)}")
    return [f"{met} of {met + len(missed)} targets met.", *(f"Not met: {text}." for text in missed)]


def cells(line: Line, newline: str = "\n") -> list[str]:
    """Return a line's cells, one for each of `HEADINGS`."""
    columns = [QUANTITIES[c].write(line.figures[c]) if c in line.figures else "–" for c in COLUMNS]
    if not line.figures:  # what was not measured says why
        columns[0] = line.note
    beside = [(str(t), _reached(line, t), YES if line.met(t) else NO) for t in line.targets]
    aimed_at = {target.quantity for target in line.targets}
    beside += [
        (QUANTITIES[quantity].label, QUANTITIES[quantity].write(value), "")
        for quantity, value in line.figures.items()
        if quantity not in {*COLUMNS, *aimed_at, "relative_time"}  # that is the ratio's inverse
    ]
    target, reached, met = (newline.join(entry[i] for entry in beside) for i in range(3))
    return [line.contender, *columns, target, reached, met]


def measured(rows: Iterable[Row]) -> str:
    """Say when rows were measured, and at what commits."""
    of = list(rows)
    days = sorted({row.date for row in of})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    commits = sorted({row.commit for row in of if row.commit is not None})
    one = len(commits) == 1
    return f"measured {when} at commit{'' if one else 's'} {', '.join(commits) or 'unknown'}"


def _reached(line: Line, target: Target) -> str:
    value = line.figures.get(target.quantity)
    return NOT_MEASURED if value is None else QUANTITIES[target.quantity].write(value)


def _machine(results: Results, workloads: Sequence[Workload]) -> str:
    """Return a machine's section."""
    rows = {w.name: results.rows[w.name] for w in workloads if w.name in results.rows}
    facts = ", ".join(f"{key}: {value}" for key, value in results.facts.items() if value)
    about = f"{facts}; {measured(rows.values())}."
    lines = [f"## {results.machine}", "", about, "", *_markdown_table(rows), ""]
    lines += [f"- {line}" for line in verdict(rows)]
    lines += [
        f"- Not measured here: `{w.name}`, {w.title}." for w in workloads if w.name not in rows
    ]
    lines += ["", "The workloads:", ""]
    for name, row in rows.items():
        threads = "" if row.threads is None else f"threads a process: {row.threads}, "
        how = f"{row.repeats} repeats, {threads}{row.date}, torch {row.torch}, commit {row.commit}"
        lines.append(f"- `{name}`: {row.title} ({how}).")
        lines += [
            f"  {line.contender}: {line.note}." for line in row.lines if line.note and line.figures
        ]
    return "\n".join([*lines, ""])


def _markdown_table(rows: dict[str, Row]) -> list[str]:
    lines = [_cells_in_line(["workload", *HEADINGS]), _cells_in_line(["---"] * (len(HEADINGS) + 1))]
    for name, row in rows.items():
        for i, line in enumerate(row.lines):
            lines.append(_cells_in_line([f"`{name}`" if i == 0 else "", *cells(line, "<br>")]))
    return lines


def _cells_in_line(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"
