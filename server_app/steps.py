"""Step sizes that nobody set: `algorithm.alpha=auto` and `algorithm.beta=auto` become numbers."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from nufed.client_app.algorithm import AUTOMATIC, algorithm_of
from nufed.client_app.curvature import Curvature
from nufed.conf.errors import InputError
from nufed.conf.schema import AUTO, USUAL, Config
from nufed.strategies.usual import TIMES
from nufed.theory.steps import Steps, suggested_steps

log = logging.getLogger("nufed")


def with_steps(config: Config, measure: Callable[[], Curvature]) -> Config:
    """Return the configuration with numbers for α and β.

    Parameters
    ----------
    measure
        Returns the curvature of the clients' losses at the initial model; called if it is needed.

    Raises
    ------
    InputError
        If the loss has no finite curvature, or no client could tell.
    """
    wanted = [key for key in AUTOMATIC if config.algorithm.get(key) == AUTO]
    if not wanted:
        return config
    found = measure()
    if not found.known:
        what = "the loss has no curvature"
        if found.unknown:
            what = f"no client could tell how curved its loss is ({found.unknown})"
        raise InputError(f"algorithm.{wanted[0]}={AUTO}: {what}; give a number")
    algorithm = algorithm_of(config.algorithm)
    steps = suggested_steps(found, algorithm.inner_steps, algorithm.flattened)
    chosen = {key: getattr(steps, key) for key in wanted}
    log.info(
        "the clients' losses have curvature from %.2g to %.2g: %s",
        -found.negative,
        found.largest,
        ", ".join(f"{key} = {size:g}" for key, size in chosen.items())
        + (
            f"; updates above {TIMES} times the usual norm are clipped"
            if config.strategy.get("clip_norm") == USUAL
            else ""
        ),
    )
    return replace(config, algorithm=config.algorithm | chosen)


def probed_steps(asked: Config, config: Config) -> dict[str, float]:
    """Return the step sizes that were auto and what `with_steps` made of them."""
    return {key: config.algorithm[key] for key in AUTOMATIC if asked.algorithm.get(key) == AUTO}


def remedy(config: Config, found: Curvature, blamed: Sequence[str]) -> str:
    """Say which step size is probably too large, and what to set instead.

    Parameters
    ----------
    found
        The curvature at the last model whose loss is finite: it says how large steps may be.
    blamed
        ``alpha``, ``beta``, or both: what to blame where curvature finds neither too large.
    """
    a = algorithm_of(config.algorithm)
    nu = a.inner_steps
    now, safe = Steps(a.alpha, a.beta), Steps(a.alpha / 10, a.beta / 10)
    if found.known:
        safe = suggested_steps(found, nu, a.flattened)
        used = ("alpha", "beta") if nu else ("beta",)
        above = [key for key in used if getattr(now, key) > 2 * getattr(safe, key)]
        blamed = above or blamed
    too_large = " or ".join(f"algorithm.{key}={getattr(now, key):g}" for key in blamed)
    sizes = {key: min(getattr(safe, key), getattr(now, key) / 3) for key in blamed}
    instead = " or ".join(f"algorithm.{key}={size:.2g}" for key, size in sizes.items())
    of_nu = found.known and "alpha" in blamed and a.alpha <= safe.beta  # else ν is not to blame
    fewer = int(nu * safe.alpha / a.alpha) if of_nu else 0
    or_nu = f", or algorithm.nu={fewer} with this alpha" if 0 < fewer < nu else ""
    return f"{too_large} is probably too large, try {instead}{or_nu}"
