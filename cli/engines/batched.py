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
        from nufed.simulation.batched import Batched
        from nufed.simulation.grid import run_in_process
        from nufed.tasks.task import Task

    executors: list[Batched] = []

    def executor_of(config: Config, task: Task) -> Batched:
        executors.append(Batched(config, task))
        return executors[-1]

    run_config = {"config": to_json(config), "run-dir": str(folder)}
    try:
        run_in_process(server_app, make_app(executor_of), run_config)
    finally:
        for executor in executors:
            executor.close()
