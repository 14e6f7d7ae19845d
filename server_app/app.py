"""The ServerApp: sets a run up from its configuration, and carries it to its end."""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from hydra.errors import InstantiationException

from nufed.client_app.algorithm import algorithm_of
from nufed.client_app.messages import Fixed
from nufed.client_app.work import task_for
from nufed.conf.compose import from_run_config
from nufed.conf.errors import (
    CallbackFailed,
    CannotWrite,
    Diverged,
    InputError,
    NuFedError,
    RunStopped,
    TooFewReplies,
    WorkersLost,
    reason,
)
from nufed.conf.making import make
from nufed.conf.schema import Config, require
from nufed.conf.targets import modules_here
from nufed.conf.versions import HOME
from nufed.server_app import resume
from nufed.server_app.amiss import of_clients
from nufed.server_app.baselines.afar import reported
from nufed.server_app.baselines.measure import beside
from nufed.server_app.callbacks import Own, own_callbacks, require_none_failed
from nufed.server_app.carried import unload
from nufed.server_app.checkpoint import Checkpoint, Checkpoints, alone, saved_rounds
from nufed.server_app.diagnostics import diagnose
from nufed.server_app.early_stopping import EarlyStopping
from nufed.server_app.facts import facts, peak_rss_mb
from nufed.server_app.log_stream import log_streams
from nufed.server_app.model_file import ModelFile
from nufed.server_app.parts import parts
from nufed.server_app.probe import measured
from nufed.server_app.progress import ProgressBar
from nufed.server_app.report.callback import Report
from nufed.server_app.rounds import rounds
from nufed.server_app.run_dir import run_dir
from nufed.server_app.run_folder import RunFolder, require_free
from nufed.server_app.steps import probed_steps, remedy, with_steps
from nufed.server_app.terminal import Terminal
from nufed.server_app.trackers import trackers
from nufed.server_app.tracking import Callback, Row, RunInfo, State, evaluated, pass_on
from nufed.strategies.curves import GROUPS
from nufed.strategies.meta_fedavg import MetaFedAvg
from nufed.strategies.roster import Roster, per_round
from nufed.strategies.weights import most_rows
from nufed.tasks.labels import of_rare
from nufed.tasks.measures import lower_is_better
from nufed.tasks.task import Task

PASSING = TooFewReplies, WorkersLost, CannotWrite, CallbackFailed
"""What keeps a run from going on for now."""
MEASURED = (*GROUPS, "undefined")  # of the last evaluation

log = logging.getLogger("nufed")
app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train, evaluate, and leave a run folder behind."""
    config = from_run_config(context.run_config, modules_here(context.node_config))
    with run_dir(config, context) as folder:
        _main(grid, context, config, folder)


def _main(grid: Grid, context: Context, config: Config, folder: Path) -> None:
    """Set a run up, and carry it to its end."""
    streams = log_streams(context.run_config, config, folder)  # now: they take warnings along
    resume.require_found(config)
    algorithm = algorithm_of(config.algorithm)
    task = task_for(algorithm, config)
    if config.diagnostics.every is not None:
        algorithm.whole()  # or it has none, and says so
    if line := task.data.gaps:  # now: a model of many outputs may be long in coming
        log.warning("dataset=%s: %s", config.dataset["name"], line)
    shared = algorithm.shared(task.initial_params())
    # Before anything is written. Whoever follows the run from afar has them there.
    tracked = [] if streams else trackers(config, folder)
    own = [] if streams else own_callbacks(config, folder)
    saved = None
    if config.resume:
        unload(HOME, folder)
        saved = resume.read(folder, config, task, shared)
    said = config.dataset.get("max_rows")
    roster = Roster(config.seed, config.evaluation.new_clients, task.data.partition, said)
    strategy = make_strategy(config, roster)
    strategy.fixed = Fixed.of(task)
    stopping = config.early_stopping
    known = ("train_loss", *task.objective.names)
    require(stopping.metric in known, "early_stopping.metric", stopping.metric, " | ".join(known))
    roster.wait(grid, config.server.join_timeout)
    asked = config
    config = with_steps(asked, partial(measured, grid, roster, asked, task, shared))
    m = per_round(config.clients_per_round, config.fraction, len(roster.participating))
    algorithm = algorithm_of(config.algorithm)
    strategy.algorithm = algorithm.of_federation(m, len(roster.participating))
    strategy.remembered.checkpoints = partial(saved_rounds, folder)
    for note in notes(config, task, roster.rows):
        log.warning(note)
    if saved is None:
        require_free(folder)
        first = State(-1, shared, {})
        saved = Checkpoint(
            first,
            (),
            asdict(config),
            roster.num_clients,
            sorted(roster.set_aside),
            wall_s=0.0,
            data=task.data.digest,
            buffers=task.buffers,
            frozen=task.frozen,
        )
    resume.require_same_clients(saved, roster)
    with alone(folder):
        ledger = None
        if strategy.privacy is not None:  # now that nobody else adds to its releases
            saved, ledger = resume.counted(folder, config, saved)
            strategy.privacy.note = ledger.add
        # In this order: what the end is told by, what is safe, what is read from it, what may wait
        # for a network.
        here = context.run_config.get("report", True)  # else who submitted the run makes it
        callbacks: list[Callback] = [
            *own,
            ModelFile(folder),
            Checkpoints(folder, config.checkpoint.every, saved, ledger),
            EarlyStopping(stopping, folder),
            RunFolder(folder),
            *([Report(folder, own, config.report)] if here else []),
            ProgressBar(Terminal(), folder),
            *tracked,
            *streams,
        ]
        _run(grid, strategy, config, task, folder, saved, callbacks, probed_steps(asked, config))


def _run(
    grid: Grid,
    strategy: MetaFedAvg,
    config: Config,
    task: Task,
    folder: Path,
    start: Checkpoint,
    callbacks: list[Callback],
    probed: Row,
) -> None:
    """Carry a run from where it stands to its end, or to where it has to stop.

    `probed` is said in the row of round 0: config.yaml has those step sizes as any others.
    """
    roster = strategy.roster
    participating, new = len(roster.participating), len(roster.new)
    info = RunInfo(config, task.size, participating, new, start.rows, task)
    for callback in callbacks:
        callback.on_start(info)
    summary, kept = facts(info), "; no round was completed"
    if start.rows:
        kept += f" since it went on after round {start.state.round}"
    for row in start.rows:
        summary |= _lasting(row) | _untrained(row)
    good = start.state.params
    try:
        diagnosis = partial(diagnose, grid, roster, config, task)
        for row, state in rounds(grid, strategy, config, start.state, diagnosis):
            if probed and row["round"] == 0:
                row["probed"] = probed
            if evaluated(row):  # older curves are not the end's
                summary = {key: summary[key] for key in summary if key not in MEASURED}
            summary |= {"rounds": row["round"]} | _lasting(row) | _untrained(row)
            kept, good = "", state.params
            pass_on(row, state, callbacks)
            require_none_failed(callbacks)
            if who := [callback for callback in callbacks if callback.stop]:
                if row["round"] < config.rounds:
                    summary["stopped_early"] = f"{who[0]} asked for it"
                break
    except BaseException as error:
        lasting = isinstance(error, RunStopped) and not isinstance(error, PASSING)
        what = _what_stopped(error)
        if isinstance(error, Diverged):
            found = measured(grid, roster, config, task, good)
            what += f"; {remedy(config, found, error.blamed)}"
        summary |= {"stopped": f"{what}{kept}", "resumable": not lasting}
        _end(summary, task, strategy, callbacks)
        if isinstance(error, RunStopped | KeyboardInterrupt):
            raise type(error)(summary["stopped"]) from error
        raise
    if strategy.measured is not None:
        stateful = strategy.algorithm.stateful
        summary |= of_clients(task, strategy.measured, stateful=stateful)
    summary |= _without_federation(grid, config, task, strategy)
    _end(summary, task, strategy, callbacks)
    if "stopped" in summary:
        failed = any(isinstance(each, Own) and each.failed for each in callbacks)
        raise (CallbackFailed if failed else CannotWrite)(summary["stopped"])
    require_none_failed(callbacks)  # in its section of the report


def _without_federation(
    grid: Grid, config: Config, task: Task, strategy: MetaFedAvg
) -> dict[str, Any]:
    """Return what clients have without the run; it is no part of it, and cannot make it fail."""
    if config.baselines == "none" or strategy.measured is None:
        return {}
    try:
        by_clients = partial(reported, grid, strategy.roster, config)
        found = beside(config, task, strategy.measured, by_clients)
    except (KeyboardInterrupt, SystemExit):  # a signal; Flower's handler exits
        log.warning("baselines=%s: interrupted; the run is whole", config.baselines)
        return {}
    except Exception as error:  # of a model that a stack, or Adam, does something else to
        log.warning(
            "baselines=%s: could not be trained (%s: %s); the run is whole; baselines=none does "
            "without them",
            *(config.baselines, type(error).__name__, reason(error)),
        )
        return {}
    return {"baselines": found} if found is not None else {}


def _end(
    summary: dict[str, Any], task: Task, strategy: MetaFedAvg, callbacks: list[Callback]
) -> None:
    """Call the hooks of a run's end."""
    summary["peak_rss_mb"] = peak_rss_mb()
    if strategy.privacy is not None:  # of a round, too, that was cut off after its release
        summary |= strategy.privacy.spent()
    if strategy.measured is not None:
        measured, part = strategy.measured, task.data.partition
        if task.data.rows_here:
            measured = measured.counted(lambda client: len(part.test_rows(client)))
        measured = measured.by_id(strategy.roster.ids)
        for callback in callbacks:
            callback.on_clients(measured)
    for callback in callbacks:
        callback.on_end(summary)


def _lasting(row: Row) -> dict[str, Any]:
    """Return what a round's row says of the run as a whole."""
    return {key: row[key] for key in (*MEASURED, "epsilon", "delta") if key in row}


def _untrained(row: Row) -> dict[str, Any]:
    """Return the curves of round 0, without which nobody sees what training did."""
    curves = {group: row[group] for group in GROUPS if group in row}
    return {"untrained": curves} if row["round"] == 0 and curves else {}


def _what_stopped(error: BaseException) -> str:
    """Say what ended a run before its last round."""
    if isinstance(error, RunStopped):
        return str(error)
    if isinstance(error, KeyboardInterrupt | SystemExit):  # a signal; Flower's handler exits
        return "interrupted"
    return f"{type(error).__name__}: {error}"


def notes(config: Config, task: Task, rows: Mapping[int, int]) -> list[str]:
    """Return what a person should know of the clients, given their train rows; a line each."""
    part = task.data.partition
    found = part.not_kept(config.partition.name)
    if config.diagnostics.every is not None and not task.data.rows_here:
        found.append(
            f"diagnostics.every={config.diagnostics.every}: ‖∇F‖² alone; with dataset="
            f"{config.dataset['name']} the rows that L, ρ, … are measured on are with the clients"
        )
    if task.data.table is not None and not task.classification:
        from nufed.tasks.table_words import in_units  # it takes a fifth of a second

        found.extend(filter(None, [in_units(task.data.table)]))
    if task.objective.rare and (line := of_rare(task.data.y)):
        found.append(f"{line}; balanced accuracy stands beside it")
    drawn = algorithm_of(config.algorithm).draws().values()
    largest = max(size or 0 for size in (config.evaluation.batch, *(each.rows for each in drawn)))
    small = [client for client in rows if rows[client] < largest]
    if config.strategy.get("weighting") == "examples" and not task.data.rows_here and len(rows) > 1:
        most = most_rows(rows.values(), config.dataset.get("max_rows"))
        counted = {client: min(rows[client], most) for client in rows}
        heaviest = max(counted, key=lambda client: counted[client])
        if (share := counted[heaviest] / sum(counted.values())) > 1 / 2:
            found.append(
                f"client {part.ids[heaviest]} says that it has {rows[heaviest]} train rows, and "
                f"has {share:.0%} of the weight; strategy.weighting=uniform does without what "
                "clients say"
            )
    if small:
        found.append(
            f"{len(small)} of {len(rows)} clients have fewer train rows than a batch of {largest} "
            f"(client {part.ids[small[0]]}: {rows[small[0]]}); their batches are drawn with "
            "replacement"
        )
    return found


def make_strategy(config: Config, roster: Roster) -> MetaFedAvg:
    """Make the strategy that the configuration names."""
    try:
        strategy: MetaFedAvg = make(
            config.strategy,
            algorithm_of(config.algorithm),
            config.evaluation,
            roster,
            seed=config.seed,
            clients_per_round=config.clients_per_round,
            fraction=config.fraction,
            min_replies=config.server.min_replies,
            privacy=config.privacy,
            lower_is_better=lower_is_better(config.task),
            **parts(config),
        )
        return strategy
    except (InstantiationException, TypeError) as error:
        cause = error.__cause__ or error  # Hydra's own words say only that the call failed
        if isinstance(cause, NuFedError):
            raise cause from error
        raise InputError(f"strategy={config.strategy.get('_target_')}: {reason(cause)}") from error
