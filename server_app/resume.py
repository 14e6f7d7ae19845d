"""Going on with a run: which configuration, from which checkpoint, with which clients."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from nufed.client_app.meta_gradient import Params
from nufed.conf.command import differing_keys
from nufed.conf.compose import find_config
from nufed.conf.convert import read_values
from nufed.conf.errors import InputError, NuFedError, reason
from nufed.conf.files import is_there
from nufed.conf.former import as_named_now
from nufed.conf.schema import Config
from nufed.conf.targets import foreign, modules_of
from nufed.conf.words import command_line, there
from nufed.server_app import checkpoint
from nufed.server_app.checkpoint import Checkpoint
from nufed.server_app.early_stopping import describe, resumed_watch
from nufed.server_app.releases import Ledger, opened
from nufed.server_app.run_folder import METRICS, SUBMITTED, whole_rows
from nufed.server_app.sound import PRIVACY, require_accounted
from nufed.server_app.tracking import Row
from nufed.strategies.privacy import CentralDP, Release
from nufed.strategies.roster import Roster
from nufed.tasks.streams import DRAWS
from nufed.tasks.task import Task
from nufed.tasks.trained import placed

DATASET = "dataset"
PATH = f"{DATASET}.path"
MAY_CHANGE = (
    *("baselines", "callbacks", "checkpoint", PATH, "device", "diagnostics", "early_stopping"),
    *("engine", "progress", "report", "resume", "rounds", "server", "tracking", "trust"),
)
"""What does not decide which model comes out of a round; of the data, where they are."""
SETS = {"optimizer": "strategy.optimizer"}
"""Groups that set a key of another."""


def resumed_config(run: Path, composed: Config, overrides: list[str]) -> Config:
    """Return the configuration of a run, with what was typed now in place of what it had.

    Parameters
    ----------
    run
        The run folder.
    composed, overrides
        What was typed, composed and as it stands.

    Raises
    ------
    InputError
        If there is no such run, or something is to change that decides what comes out of it.
    """
    name = f"resume={run}"
    found = find_config(run, name)
    values, typed = asdict(found.config), asdict(composed)
    keys = (o.key_or_group for o in OverridesParser.create().parse_overrides(overrides))
    for key in sorted(keys):  # a group before its keys
        place = SETS.get(key, key).split(".")
        now = _value(typed, place)
        if not _may_change(key):
            if now != _value(values, place):
                raise InputError(f"{key}: cannot change in a run that is resumed; {_allowed()}")
            continue
        if key.startswith("engine.") and typed["engine"]["name"] != values["engine"]["name"]:
            was = values["engine"]["name"]
            raise InputError(f"{key}: the run had engine={was}; say engine=… too")
        _put(values, key.split("."), now)
    config = read_values(values | {"resume": str(run), "trust": None})
    trusted = (*modules_of(composed.trust), *foreign(composed).values())  # these were typed now
    found._replace(config=config).require_allowed(name, trusted)
    return config


def _value(values: dict[str, Any], key: list[str]) -> Any:
    """Return what stands at a key, but for where the data are; None where nothing does."""
    found: Any = values
    for name in key:
        found = found.get(name) if isinstance(found, dict) else None
    if key == [DATASET] and isinstance(found, dict):
        return {name: value for name, value in found.items() if name != "path"}
    return found


def _put(values: dict[str, Any], key: Sequence[str], value: Any) -> None:
    """Put a value where a key leads."""
    for name in key[:-1]:
        if values.get(name) is None:  # callbacks of a run that has none
            values[name] = {}
        values = values[name]
    values[key[-1]] = value


def _may_change(key: str) -> bool:
    return key in MAY_CHANGE or key.split(".")[0] in MAY_CHANGE


def require_found(config: Config) -> None:
    """Raise an `InputError` if the data of a run that is resumed are no longer where they were."""
    path = config.dataset.get("path")
    if config.resume is None or not isinstance(path, str) or not Path(path).is_absolute():
        return  # or they are a name on a hub
    if not there(Path(path)):
        again = command_line("nufed", resume=config.resume)
        raise InputError(
            f"{PATH}={path}: is not there any more; say where it is now: {again} {PATH}=…"
        )


def read(run: Path, config: Config, task: Task, shared: Params) -> Checkpoint:
    """Read the checkpoint that a run goes on from.

    Parameters
    ----------
    run
        The run folder.
    config
        What the run is to go on with.
    task
        What the configuration makes; its model takes over what does not train.
    shared
        What the run's algorithm shares, of the initial model.

    Raises
    ------
    InputError
        If there is no usable checkpoint, it is of another run or other rows, or nothing is left to
        do.
    """
    saved = checkpoint.read(run)
    if saved.draws != DRAWS:
        raise InputError(
            f"resume={run}: an older version began it, which held out other rows and drew other "
            "batches of the same seed; begin a new run"
        )
    then = _began_with(run, saved)
    for key, (now, was) in sorted(differing_keys(config, then).items()):
        if not _may_change(key):
            raise InputError(f"{key}={now}: the run to resume has {was}; {_allowed()}")
    if (data := task.data.digest) is not None:
        _require_same_rows(saved, config, data)
    state = saved.state
    if state.round >= config.rounds:
        raise InputError(
            f"resume={run}: all {config.rounds} rounds are done; "
            f"rounds={config.rounds + state.round} would add as many"
        )
    _require_patience(run, config, saved.rows)
    shapes = ({name: p.shape for name, p in params.items()} for params in (state.params, shared))
    if next(shapes) != next(shapes):
        raise InputError(f"resume={run}: the model or the data are not what they were")
    if saved.frozen is not None:
        try:
            task.require_same_fixed(saved.buffers, saved.frozen)
        except ValueError as error:
            raise InputError(f"resume={run}: the model is not what it was: {error}") from error
    # In the order that the model has them: sums over them depend on it in the last bit.
    params = placed(state.params, shared, f"resume={run}: the model of the checkpoint")
    require_accounted(saved, config, run)
    state = state._replace(params=params)
    return replace(saved, state=state, config=asdict(config), data=data)


def _require_same_rows(saved: Checkpoint, config: Config, data: str) -> None:
    """Raise an `InputError` unless the rows have the digest of those that the run began with."""
    path = config.dataset.get("path")
    name = f"dataset={config.dataset['name']}" if path is None else f"{PATH}={path}"
    if data != saved.data:
        raise InputError(
            f"{name}: holds other rows than the run began with (digest {data[:12]}, not "
            f"{str(saved.data)[:12]}); bring those back, name where they are as {PATH}=…, or "
            "begin a new run"
        )


def _began_with(run: Path, saved: Checkpoint) -> Config:
    """Return the configuration of a checkpoint, with keys that are newer than it."""
    try:
        return read_values(as_named_now(saved.config))
    except NuFedError:
        raise
    except Exception as error:  # whatever OmegaConf makes of what may have been written to
        what = f"the configuration of the checkpoint cannot be read ({reason(error):.200})"
        raise InputError(f"resume={run}: {what}") from error


def _require_patience(run: Path, config: Config, rows: Sequence[Row]) -> None:
    """Raise an `InputError` if early stopping would end the run where it ended it before."""
    patience, watch = config.early_stopping.patience, resumed_watch(run, config, rows)
    if patience is not None and watch.waited >= patience:
        raise InputError(
            f"resume={run}: there were {describe(watch)}; "
            f"early_stopping.patience={watch.waited + patience} or null would go on"
        )


def counted(run: Path, config: Config, saved: Checkpoint) -> tuple[Checkpoint, Ledger]:
    """Return where a private run goes on, with all that it released by now, and its ledger.

    Parameters
    ----------
    run
        The run folder, which this process holds: nobody else may add to its ledger.
    saved
        Where the run begins or goes on; of its releases it may know some.

    Raises
    ------
    InputError
        If releases are missing that are known of or may have been made, or the ledger is of
        another run.
    """
    if is_there(run / SUBMITTED):
        raise InputError(
            f"{run / SUBMITTED}: says that a server went on with this run, and it alone knows what "
            "was released there; add engine=deployment, resume the server's run folder, or delete "
            "this file if no server ever had the run"
        )
    spent, n, round = CentralDP(config.privacy), saved.num_clients, saved.state.round
    spent.restore(saved.state.strategy.get(PRIVACY, {}))
    ledger = opened(run, Release(max(round, 0) + 1, n, n, spent.noise_multiplier))
    if round < 0:
        if ledger.releases:
            raise InputError(f"{ledger.file}: is of another run; name another folder")
        return saved, ledger
    why = spent.count(ledger.releases, n) or _untold(run, len(ledger.releases), spent)
    if why:
        if not is_there(ledger.file):
            why = "is not there (an older version wrote none)"
        raise InputError(
            f"{ledger.file}: {why}; without it ε would be too low: put back the file that the run "
            "wrote, or begin a new run"
        )
    strategy = saved.state.strategy | {PRIVACY: spent.state()}
    return replace(saved, state=saved.state._replace(strategy=strategy)), ledger


def _untold(run: Path, releases: int, spent: CentralDP) -> str:
    """Say which rows of metrics.jsonl tell of releases that are not counted; nothing if none do."""
    try:
        rows = whole_rows(run / METRICS)
    except (InputError, ValueError):  # after a power cut it may be anything, or be elsewhere
        return ""
    told = [row["epsilon"] for row in rows if "epsilon" in row]
    if len(told) > releases:
        return f"it has {releases} releases, and {METRICS} tells of {len(told)}"
    now = spent.spent().get("epsilon", 0.0)
    if told and max(told) > now * (1 + 1e-9):
        return f"its {releases} releases cost {now:.4g}, and {METRICS} tells of {max(told):.4g}"
    return ""


def require_same_clients(saved: Checkpoint, roster: Roster) -> None:
    """Raise an `InputError` unless the federation is the one that the run began with."""
    then, now = saved.num_clients, roster.num_clients
    if then != now:
        raise InputError(f"resume: the run began with {then} clients, there are {now} now")
    if changed := roster.set_aside ^ set(saved.new_clients):
        some = ", ".join(str(roster.ids[client]) for client in sorted(changed)[:5])
        raise InputError(f"resume: the run began with other new clients; not so with client {some}")


def _allowed() -> str:
    return f"only {', '.join(MAY_CHANGE)} can"
