"""The parts of a strategy that the configuration names: its rule, its sampler, its schedules."""

from collections.abc import Mapping
from typing import Any

from hydra.errors import InstantiationException

from nufed.conf.errors import InputError, NuFedError, reason
from nufed.conf.making import make, prepared
from nufed.conf.schema import Config
from nufed.strategies.rules.rule import Rule
from nufed.strategies.samplers.sampler import Sampler


def parts(config: Config) -> dict[str, Any]:
    """Return what a strategy is made of beside its own keys, as its arguments.

    Raises
    ------
    InputError
        If a part cannot be made, or is none.
    """
    rule, sampler = _made("rule", config.rule), _made("sampler", config.sampler)
    for key, part, kind in (("rule", rule, Rule), ("sampler", sampler, Sampler)):
        if not isinstance(part, kind):
            raise InputError(
                f"{key}={getattr(config, key).get('_target_')}: makes a {type(part).__name__}, "
                f"which is no subclass of {kind.__module__}.{kind.__name__}"
            )
    schedule = {key: _schedule(f"schedule.{key}", of) for key, of in config.schedule.items()}
    return {"rule": rule, "sampler": sampler, "schedule": schedule}


def _schedule(key: str, config: Any) -> Any:
    """Return a schedule."""
    if not isinstance(config, Mapping):
        raise InputError(f"{key}={config}: must name a schedule, as {{_target_: …}}")
    if not callable(made := _made(key, config, f"{key}.")):
        raise InputError(f"{key}={config.get('_target_')}: makes no function of the round")
    return made


def _made(key: str, config: Mapping[str, Any], says: str = "") -> Any:
    """Return what a configuration names, with its arguments; errors as of `parts`.

    Parameters
    ----------
    says
        What goes before its own words about an argument.
    """
    try:
        return prepared(config) if config.get("_partial_") else make(config)
    except InstantiationException as error:
        cause = error.__cause__ or error  # Hydra's own words say only that the call failed
        if isinstance(cause, NuFedError):
            raise InputError(f"{says}{cause}") from error
        raise InputError(f"{key}={config.get('_target_')}: {reason(cause)}") from error
