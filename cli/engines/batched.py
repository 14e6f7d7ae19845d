"""engine=batched: server and all clients in this process, many clients at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from conf.schema import Config, to_json


def launch(config: Config, folder: Path, console: Console) -> None:
    """Run in this process, leaving the run folder `folder`."""
    with console.status("starting"):
        from client_app.app import make_app
        from server_app.app import app as server_app
        from simulation.executor import Batched
        from simulation.grid import run_in_process
        from tasks.task import Task

    cohorts: list[Batched] = []

    def cohort_of(config: Config, task: Task) -> Batched:
        cohorts.append(Batched(config, task))
        return cohorts[-1]

    run_config = {"config": to_json(config), "run-dir": str(folder)}
    try:
        with _insistent_interrupts():
            run_in_process(server_app, make_app(cohort_of), run_config)
    finally:
        for cohort in cohorts:
            cohort.close()


@contextmanager
def _insistent_interrupts() -> Iterator[None]:
    """Interrupt again, 10 s after Ctrl-C, a run that did not notice it.

    Python drops a KeyboardInterrupt that arrives while it clears up an object.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return

    def interrupt(*_: Any) -> None:
        signal.setitimer(signal.ITIMER_REAL, 10.0)
        raise KeyboardInterrupt

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGALRM)
    }
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        for number, handler in before.items():
            signal.signal(number, handler)
