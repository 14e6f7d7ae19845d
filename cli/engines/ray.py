"""engine=ray: Flower's own simulation engine, through a SuperLink on loopback."""

import json
import logging
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from nufed.cli.bundle import lay_out
from nufed.client_app.algorithm import algorithm_of
from nufed.client_app.work import task_for
from nufed.conf.compose import CONFIG, find_config
from nufed.conf.convert import to_json
from nufed.conf.errors import RunStopped
from nufed.conf.schema import Config, require
from nufed.conf.targets import foreign
from nufed.server_app.app import make_strategy, notes
from nufed.server_app.callbacks import own_callbacks
from nufed.server_app.cut_short import cut_short
from nufed.server_app.progress import ProgressBar
from nufed.server_app.resume import require_found
from nufed.server_app.run_folder import METRICS, SUMMARY
from nufed.server_app.terminal import Terminal
from nufed.server_app.trackers import trackers
from nufed.server_app.tracking import RunInfo, State, pass_on
from nufed.simulation.ray_engine import run_on_ray
from nufed.strategies.roster import Roster, choose_new_clients

LOG = "flower.log"
log = logging.getLogger("nufed")


def launch(config: Config, folder: Path, console: Terminal) -> None:
    """Submit the app to Flower's simulation engine and follow its run folder `folder`."""
    require_found(config)
    algorithm = algorithm_of(config.algorithm)
    with console.status("preparing the data"):
        task = task_for(
            algorithm, config
        )  # here, so that no worker has to, and mistakes show before Ray starts
    n = task.data.num_clients
    nodes = config.engine["num_supernodes"] or n
    cpus, gpus = config.engine["client_cpus"], config.engine["client_gpus"]
    whole = f"1 to {n}, the number of clients, or null"
    require(type(nodes) is int and 1 <= nodes <= n, "engine.num_supernodes", nodes, whole)
    require(type(cpus) is int and cpus >= 1, "engine.client_cpus", cpus, "a whole number from 1 on")
    require(type(gpus) in (int, float) and gpus >= 0, "engine.client_gpus", gpus, "0 or more")
    for make in (trackers, own_callbacks):
        make(config, folder)  # a package that is missing shows here, not in Flower's log
    roster = Roster(config.seed, config.evaluation.new_clients, task.data.partition)
    make_strategy(config, roster)
    new = choose_new_clients(task.data.partition.ids, config.evaluation.new_clients, config.seed)
    for note in notes(config, task, dict(enumerate(task.data.partition.train.tolist()))):
        log.warning(note)
    console.say(f"Flower's simulation engine: {nodes} SuperNodes; its log: {folder / LOG}")
    place = folder.resolve()
    run = RunInfo(config, task.size, n - len(new), len(new), task=task)
    progress = Follower(folder, ProgressBar(console, folder), run)
    try:
        with tempfile.TemporaryDirectory() as app_dir:
            run_on_ray(
                lay_out(Path(app_dir)),
                {"config": to_json(config), "run-dir": place.name},
                num_supernodes=nodes,
                client_cpus=cpus,
                client_gpus=gpus,
                log_file=folder / LOG,
                poll=progress.poll,
                trust=list(foreign(config).values()),
                runs=place.parent,
            )
    except RuntimeError as error:
        said = progress.summary().get("stopped") or cut_short(folder, run, str(error))
        raise RunStopped(said) from error
    finally:
        progress.close()


class Follower:
    """Show the rows of a run folder as they are written."""

    def __init__(self, folder: Path, bar: ProgressBar, run: RunInfo) -> None:
        self._folder, self._file, self._summary = folder, folder / METRICS, folder / SUMMARY
        self._bar, self._run = bar, run
        self._read = -1  # bytes shown; −1 before the file is there

    def poll(self) -> None:
        """Show what came since."""
        if not self._file.exists() or not (self._folder / CONFIG).exists():
            return
        if self._read < 0:
            chosen = find_config(self._folder, str(self._folder)).config.algorithm  # its step sizes
            config = replace(self._run.config, algorithm=chosen)
            self._bar.on_start(replace(self._run, config=config))
            self._read = 0
        with self._file.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    break  # half a row; the rest comes later
                self._read += len(line)
                row = json.loads(line)
                pass_on(row, State(row["round"], {}, {}), [self._bar])

    def close(self) -> None:
        """Show the last rows and the end."""
        self.poll()
        self._bar.on_end(self.summary() or {"stopped": "before its first round"})

    def summary(self) -> dict[str, Any]:
        """Return the run's summary; empty before there is one."""
        return json.loads(self._summary.read_text()) if self._summary.exists() else {}
