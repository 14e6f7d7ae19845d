"""The ServerApp: sets a run up from its configuration, and carries it to its end."""

import logging
import re
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from rich.console import Console

from conf.compose import from_run_config
from conf.errors import InputError, RunStopped, reason
from conf.schema import Config
from server_app.progress import ProgressBar
from server_app.rounds import rounds
from server_app.run_folder import RunFolder
from server_app.tracking import Callback, RunInfo
from strategies.curves import GROUPS
from strategies.meta_fedavg import MetaFedAvg
from strategies.roster import Roster
from tasks.task import build

JOIN_TIMEOUT_S = 120.0

PACKAGES = ("nufed", "flwr", "torch", "numpy")

log = logging.getLogger("nufed")
app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train, evaluate, and leave a run folder behind."""
    config = from_run_config(context.run_config)
    initial = build(config).initial_params()
    roster = Roster(config.seed, config.evaluation.new_clients)
    strategy = make_strategy(config, roster)
    folder = _run_dir(config, context.run_config)
    roster.wait(grid, JOIN_TIMEOUT_S)
    for note in notes(config, roster.rows):
        log.warning(note)

    callbacks: list[Callback] = [RunFolder(folder), ProgressBar(Console(), folder)]
    parameters = sum(p.numel() for p in initial.values())
    info = RunInfo(config, parameters, len(roster.participating), len(roster.new))
    for callback in callbacks:
        callback.on_start(info)
    started, summary, kept = time.perf_counter(), _facts(info), "no round was completed"
    try:
        for row, params in rounds(grid, strategy, initial, config):
            if "evaluation_failures" in row:  # it was evaluated: older curves are not the end's
                summary = {key: summary[key] for key in summary if key not in GROUPS}
            summary |= {"rounds": row["round"]} | {g: row[g] for g in GROUPS if g in row}
            kept = f"the model of round {row['round']} is in {folder}"
            for callback in callbacks:
                callback.on_round(row, params)
    except RunStopped as error:
        summary["stopped"] = f"{error}; {kept}"
        raise RunStopped(summary["stopped"]) from error
    except KeyboardInterrupt:
        summary["stopped"] = f"interrupted; {kept}"
        raise KeyboardInterrupt(summary["stopped"]) from None
    except Exception as error:
        summary["stopped"] = f"{type(error).__name__}: {error}; {kept}"
        raise
    finally:
        summary |= {"wall_s": time.perf_counter() - started, "peak_rss_mb": _peak_rss_mb()}
        for callback in callbacks:
            callback.on_end(summary)


def notes(config: Config, rows: Mapping[int, int]) -> list[str]:
    """Return what a person should know of the clients, given their train rows; a line each."""
    batch = config.algorithm.batch
    sizes = (batch.support, batch.query, batch.hessian, config.evaluation.batch)
    largest = max(size or 0 for size in sizes)
    small = [client for client in rows if rows[client] < largest]
    if not small:
        return []
    return [
        f"{len(small)} of {len(rows)} clients have fewer train rows than a batch of {largest} "
        f"(client {small[0]}: {rows[small[0]]}); their batches are drawn with replacement"
    ]


def make_strategy(config: Config, roster: Roster) -> MetaFedAvg:
    """Make the strategy that the configuration names."""
    try:
        make = instantiate(config.strategy, _partial_=True)
        strategy: MetaFedAvg = make(
            config.algorithm,
            config.evaluation,
            roster,
            seed=config.seed,
            clients_per_round=config.clients_per_round,
            fraction=config.fraction,
            privacy=config.privacy,
        )
        return strategy
    except (InstantiationException, TypeError) as error:
        cause = error.__cause__ or error  # Hydra's own words say only that the call failed
        raise InputError(f"strategy={config.strategy.get('_target_')}: {reason(cause)}") from error


def _run_dir(config: Config, run_config: Mapping[str, Any]) -> Path:
    """Return the run folder: where `nufed` wants it, else runs/<name>/<time> where we are."""
    given = str(run_config.get("run-dir") or "")
    now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    return Path(given) if given else Path.cwd() / "runs" / config.name / now


def _facts(info: RunInfo) -> dict[str, Any]:
    """Return what a summary says whatever happens in the rounds."""
    return {
        "rounds": 0,
        "clients": {"participating": info.participating, "new": info.new},
        "parameters": info.parameters,
        "seed": info.config.seed,
        "versions": {
            "python": sys.version.split()[0],
            **{name: _version(name) for name in PACKAGES},
        },
        "git_commit": _git_commit(),
    }


def _version(package: str) -> str | None:
    """Return a package's version; None for NuFed itself where only its Flower bundle is there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """Return the commit that this code is of; None outside a checkout of it."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _peak_rss_mb() -> float:
    """Return the most memory that this process ever held."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count what the process that started this one held
        (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())
        return int(peak) / (1 << 10)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)
