"""Train under attack and write docs/robustness.md.

python -m benchmarks.attack     takes about twenty minutes; what was run already is not run again,
                                until runs/attack.jsonl is removed
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.attack.cases import DATASETS, PARTITIONS, SEEDS, Outcomes, cases, run_all
from benchmarks.attack.page import document

DOCUMENT = Path("docs/robustness.md")


def main(arguments: Sequence[str]) -> int:
    """Run all cases, print each as it ends, and write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.attack",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--datasets", nargs="+", default=list(DATASETS))
    parser.add_argument("--partitions", nargs="+", default=list(PARTITIONS))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--outcomes", type=Path, default=Path("runs/attack.jsonl"))
    given = parser.parse_args(arguments)
    every = cases(given.datasets, given.partitions, SEEDS)
    outcomes: Outcomes = {}
    for case, accuracy in run_all(every, given.outcomes, given.processes):
        outcomes[case] = accuracy
        print(f"{len(outcomes)}/{len(every)}", *case, f"{accuracy:.3f}", flush=True)
    text = document({case: outcomes[case] for case in every})
    print(text)
    (machine.ROOT / DOCUMENT).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
