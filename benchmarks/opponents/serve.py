"""``python -m benchmarks.opponents.serve OPPONENT``: carry out its rounds, as they are asked for.

A line of JSON answers each line read. The first line read is the folder of a `Work`; its answer
says how the opponent goes about it, and in what version. Every other line asks for a round; its
answer is the CPU seconds that it took.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO


def main(name: str) -> None:
    """Serve until there is nothing more to read."""
    # JAX takes as many threads as it may use cores, whatever flags and variables say.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    os.environ |= {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    answers, sys.stdout = sys.stdout, sys.stderr  # what an engine prints is no answer
    opponent = importlib.import_module(f"benchmarks.opponents.{name}")
    work = importlib.import_module("benchmarks.opponents.work").Work
    run, about = opponent.prepare(work.read(Path(sys.stdin.readline().strip())))
    said = f"{opponent.NEEDS} {version(opponent.NEEDS)}"
    _answer(answers, {"about": f"{said}: {about}" if about else said})
    for _ in sys.stdin:
        _answer(answers, {"cpu_s": cpu_s(run)})


def cpu_s(run: Callable[[], None]) -> float:
    """Return the CPU seconds of this process, of all its threads, that something takes."""
    started = time.process_time()
    run()
    return time.process_time() - started


def _answer(answers: TextIO, content: dict[str, Any]) -> None:
    print(json.dumps(content), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
