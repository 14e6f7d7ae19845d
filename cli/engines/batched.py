"""engine=batched: server and all clients in this process, many clients at once."""

from pathlib import Path

from conf.convert import to_json
from conf.schema import Config
from server_app.terminal import Terminal


def launch(config: Config, folder: Path, console: Terminal) -> None:
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
        run_in_process(server_app, make_app(cohort_of), run_config)
    finally:
        for cohort in cohorts:
            cohort.close()
