"""Going on with a run: which configuration, from which checkpoint, with which clients."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from client_app.meta_gradient import Params
from conf.command import differing_keys
from conf.compose import of_run
from conf.errors import InputError
from conf.schema import Config, read_config, to_config
from server_app import checkpoint
from server_app.checkpoint import Checkpoint
from server_app.early_stopping import describe, resumed_watch
from server_app.tracking import Row
from strategies.roster import Roster

MAY_CHANGE = (
    *("checkpoint", "device", "diagnostics", "early_stopping", "engine", "resume", "rounds"),
    *("server", "tracking"),
)
"""What does not decide which model comes out of a round."""


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
    config = OmegaConf.structured(of_run(run, f"resume={run}"))
    assert isinstance(config, DictConfig)
    typed = OmegaConf.structured(composed)
    keys = (o.key_or_group for o in OverridesParser.create().parse_overrides(overrides))
    for key in sorted(keys):  # a group before its keys
        if key.split(".")[0] not in MAY_CHANGE:
            raise InputError(f"{key}: cannot change in a run that is resumed; {_allowed()}")
        if key.startswith("engine.") and typed.engine["name"] != config.engine["name"]:
            raise InputError(f"{key}: the run had engine={config.engine['name']}; say engine=… too")
        OmegaConf.update(config, key, OmegaConf.select(typed, key), merge=False)
    config.resume = str(run)
    return to_config(config)


def read(run: Path, config: Config, initial: Params) -> Checkpoint:
    """Read the checkpoint that a run goes on from.

    Parameters
    ----------
    run
        The run folder.
    config
        What the run is to go on with.
    initial
        The model that the configuration makes; for its types and shapes.

    Raises
    ------
    InputError
        If there is no usable checkpoint, it is of another run, or nothing is left to do.
    """
    saved = checkpoint.read(run)
    then = read_config(json.dumps(saved.config))  # with keys that are newer than it
    for key, (now, was) in sorted(differing_keys(config, then).items()):
        if key.split(".")[0] not in MAY_CHANGE:
            raise InputError(f"{key}={now}: the run to resume has {was}; {_allowed()}")
    state = saved.state
    if state.round >= config.rounds:
        raise InputError(
            f"resume={run}: all {config.rounds} rounds are done; "
            f"rounds={config.rounds + state.round} would add as many"
        )
    _require_patience(run, config, saved.rows)
    shapes = ({name: p.shape for name, p in params.items()} for params in (state.params, initial))
    if next(shapes) != next(shapes):
        raise InputError(f"resume={run}: the model or the data are not what they were")
    # In the order that the model has them: sums over them depend on it in the last bit.
    params = {name: state.params[name].to(p.dtype) for name, p in initial.items()}
    return replace(saved, state=state._replace(params=params), config=asdict(config))


def _require_patience(run: Path, config: Config, rows: Sequence[Row]) -> None:
    """Raise an `InputError` if early stopping would end the run where it ended it before."""
    patience, watch = config.early_stopping.patience, resumed_watch(run, config, rows)
    if patience is not None and watch.waited >= patience:
        raise InputError(
            f"resume={run}: there were {describe(watch)}; "
            f"early_stopping.patience={watch.waited + patience} or null would go on"
        )


def require_same_clients(saved: Checkpoint, roster: Roster) -> None:
    """Raise an `InputError` unless the federation is the one that the run began with."""
    then, now = saved.num_clients, roster.num_clients
    if then != now or saved.new_clients != sorted(roster.set_aside):
        raise InputError(f"resume: the run began with {then} clients, there are {now} now")


def _allowed() -> str:
    return f"only {', '.join(MAY_CHANGE)} can"
