"""engine=batched: server and all clients in this process, many clients at once."""

from pathlib import Path

from nufed.conf.convert import to_json
from nufed.conf.schema import Config
from nufed.server_app.terminal import Terminal


def launch(config: Config, folder: Path, console: Terminal) -> None:
    """Run in this process, leaving the run folder `folder`."""
    with console.status("starting"):
        from nufed.client_app.app import make_app
        from nufed.server_app.app import app as server_app
        from nufed.simulation.executor import Batched
        from nufed.simulation.grid import run_in_process
        from nufed.tasks.task import Task

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
