"""Run every method on four data sets and write docs/comparison.md.

python -m benchmarks.comparison             all of them; what was run already is not run again
python -m benchmarks.comparison taste       a data set
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.comparison.document import document
from benchmarks.comparison.entries import SETTINGS, entries
from benchmarks.contest import play, record
from benchmarks.experiments.plan import Job
from benchmarks.experiments.runs import Outcome, run_all

DOCUMENT = Path("docs/comparison.md")


def main(arguments: Sequence[str]) -> int:
    """Tune, run, keep, and write down."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.comparison",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", nargs="*", help=" ".join(SETTINGS))
    parser.add_argument("--processes", type=int, default=machine.facts()["cores"])
    parser.add_argument("--folder", type=Path, default=Path("runs/comparison"))
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.data if name not in SETTINGS]:
        parser.error(f"{unknown[0]}: not compared on; choose from {', '.join(SETTINGS)}")
    for name in given.data or SETTINGS:
        compared, outcomes = entries(name), dict[Job, Outcome]()
        for stage in play.stages(compared):
            while new := [job for job in stage(outcomes) if job not in outcomes]:
                outcomes |= run_all(new, given.folder, given.processes, name)
        record.keep_all(compared, outcomes)
    text = document(records())
    (machine.ROOT / DOCUMENT).write_text(text)
    print(text)
    return 0


def records() -> list[record.Record]:
    """Return what is kept of the data sets, as far as they have been run."""
    return record.read_all([entry for name in SETTINGS for entry in entries(name)[:1]])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
