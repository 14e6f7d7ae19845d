"""Run the experiments and write docs/results.md with its figures.

python -m benchmarks.experiments            all of them; what was run already is not run again
python -m benchmarks.experiments matrix     some sections; the others stay as they are
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.experiments.document import PAGES, dated, document
from benchmarks.experiments.methods import SETTINGS
from benchmarks.experiments.pages import cost, steps
from benchmarks.experiments.plan import Job, jobs
from benchmarks.experiments.runs import Outcome, run_all
from benchmarks.experiments.tuning import tuning

DOCUMENT, FIGURES = Path("docs/results.md"), Path("docs/results")


def main(arguments: Sequence[str]) -> int:
    """Tune, run, and write down."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.experiments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = {page.name: page for page in PAGES}
    parser.add_argument("pages", nargs="*", help=" ".join(names))
    parser.add_argument("--processes", type=int, default=machine.facts()["cores"])
    parser.add_argument("--folder", type=Path, default=Path("runs/experiments"))
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.pages if name not in names]:
        parser.error(f"{unknown[0]}: no such section; choose from {', '.join(names)}")
    pages = tuple(names[name] for name in given.pages or names)

    outcomes: dict[Job, Outcome] = {}

    def run(wanted: list[Job], what: str) -> None:
        new = [job for job in wanted if job not in outcomes]
        outcomes.update(run_all(new, given.folder, given.processes, what))

    for setting in SETTINGS:
        if any(setting in page.settings for page in pages):
            run(jobs(tuning(setting)), f"tuning {setting}")
    for page in pages:
        for stage in page.stages:
            while new := [job for job in stage(outcomes) if job not in outcomes]:
                run(new, page.name)
        made = page.section(outcomes, machine.ROOT / FIGURES)
        print(made)
        path = machine.ROOT / DOCUMENT
        kept = page in (cost, steps)  # records have dates of their own
        anew = {page.title: made if kept else dated(made)}
        path.write_text(document(path.read_text(), anew, cost.records()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
