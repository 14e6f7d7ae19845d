"""``python -m benchmarks``: measure all workloads, or those named, and write down what came out."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import torch
from rich.console import Console

from benchmarks import machine, report, results_file
from benchmarks.fresh_plans import fresh_plans
from benchmarks.outcome import Row
from benchmarks.results_file import Results
from benchmarks.workload import Effort, Workload

RESULTS, DOCUMENT = Path("benchmarks/results"), Path("docs/benchmarks.md")
WIDTH = 150  # of a table that goes into a file


def main(arguments: Sequence[str], workloads: Sequence[Workload], root: Path = machine.ROOT) -> int:
    """Do what the command line says; return the exit status.

    Parameters
    ----------
    arguments
        Without the program's name.
    workloads
        What there is to choose from.
    root
        The folder that `RESULTS` and `DOCUMENT` are written under.
    """
    given = _parse(arguments)
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    if given.list:
        for workload in workloads:
            lacking = f" (needs {workload.needs})" if workload.needs else ""
            console.print(f"{workload.name:14}{workload.title}{lacking}", soft_wrap=True)
        return 0
    by_name = {workload.name: workload for workload in workloads}
    for name in given.names:
        if name not in by_name:
            print(f"benchmarks: {name}: must be one of {', '.join(by_name)}", file=sys.stderr)
            return 2
        if needs := by_name[name].needs:
            print(f"benchmarks: {name}: needs {needs}", file=sys.stderr)
            return 2
    # In the order of the table: what leaves traces in this process comes last.
    chosen = [w for w in workloads if w.name in given.names or not (given.names or w.needs)]

    def keep(name: str, row: Row) -> Path:
        results = Results(machine.name(), machine.facts(), {name: row})
        path = results_file.keep(root / RESULTS, results)
        text = report.markdown(results_file.read_all(root / RESULTS), workloads)
        (root / DOCUMENT).parent.mkdir(parents=True, exist_ok=True)
        (root / DOCUMENT).write_text(text)
        return path.relative_to(root)

    rows = _measure_all(chosen, given.quick, console, keep)
    console.print(report.table(rows))
    for line in report.verdict(rows):
        console.print(line, soft_wrap=True)
    return 0 if len(rows) == len(chosen) else 1


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help="workloads; all, if none is named")
    parser.add_argument("--list", action="store_true", help="show the workloads, measure nothing")
    parser.add_argument("--quick", action="store_true", help="two repeats at most")
    return parser.parse_args(arguments)


def _measure_all(
    chosen: Sequence[Workload], quick: bool, console: Console, keep: Callable[[str, Row], Path]
) -> dict[str, Row]:
    """Measure one workload after another; each is kept before the next begins."""
    # Neither contender may round where the other does not.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    rows: dict[str, Row] = {}
    started = time.perf_counter()
    for number, workload in enumerate(chosen, 1):
        try:
            rows[workload.name] = _measure(workload, quick, console, f"{number}/{len(chosen)}")
        except Exception as error:  # one row's failure must not cost the others
            console.print(f"{workload.name}: failed, {type(error).__name__}: {error}", style="red")
            continue
        path = keep(workload.name, rows[workload.name])
        elapsed = time.perf_counter() - started
        console.print(
            f"{workload.name}: {rows[workload.name].elapsed_s:.0f} s, {elapsed:.0f} s in all; "
            f"written to {path}",
            soft_wrap=True,
        )
    return rows


def _measure(workload: Workload, quick: bool, console: Console, position: str) -> Row:
    """Measure one workload, saying what is being done."""
    started = time.perf_counter()
    with fresh_plans(), console.status(workload.name) as status:

        def say(what: str) -> None:
            elapsed = time.perf_counter() - started
            status.update(f"{position} {workload.name}: {what} ({elapsed:.0f} s)")

        effort = Effort(quick, say)
        repeats = effort.repeats(workload.repeats)
        lines = workload.measure(effort, repeats)
    return Row(
        title=workload.title,
        lines=lines,
        repeats=repeats,
        threads=workload.threads,
        elapsed_s=round(time.perf_counter() - started, 1),
        date=date.today().isoformat(),
        torch=torch.__version__,
        commit=machine.commit(),
    )


if __name__ == "__main__":
    with Console().status("starting"):
        from benchmarks.workloads import WORKLOADS
    try:
        sys.exit(main(sys.argv[1:], WORKLOADS))
    except KeyboardInterrupt:
        sys.exit(130)
