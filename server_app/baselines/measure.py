"""The baselines of a run: each a function of the clients that it measured, in a file of its own.

Those of `LOCAL` see a client's own train rows, those of `POOLED` all clients' at once, where these
are in one place, which is what federation is there to avoid: they say what that costs. Nothing of a
model is chosen by a test row; which of `LOCAL` personal models are compared with is, and speaks for
it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from nufed.client_app.baselines.clients import Array, Clients, compared_metric
from nufed.client_app.baselines.local import (
    LOCAL,
    Baseline,
    longest,
    wanted,
)
from nufed.conf.schema import Config
from nufed.server_app.baselines.pooled import pooled
from nufed.server_app.baselines.pooled_boosting import pooled_boosting
from nufed.server_app.baselines.stacked import stacked
from nufed.server_app.baselines.verdict import Against, Beside
from nufed.server_app.report.statistics import interval
from nufed.strategies.curves import GROUPS, Evaluation
from nufed.strategies.roster import some
from nufed.tasks.measures import lower_is_better
from nufed.tasks.possible import UNKNOWN, Limits, limits
from nufed.tasks.streams import Purpose
from nufed.tasks.task import Task

MOST = 100
"""Clients of a group; of more, as many are drawn."""

PURPOSE = dict(zip(GROUPS, (Purpose.BASELINES, Purpose.BASELINES_NEW), strict=True))

POOLED: tuple[Baseline, ...] = pooled, pooled_boosting

ByClients = Callable[[list[int]], dict[str, Array]]


def beside(
    config: Config, task: Task, measured: Evaluation, by_clients: ByClients
) -> dict[str, Any] | None:
    """Train and score what the configuration's `baselines` names; None where nothing can be.

    Parameters
    ----------
    measured
        The run's last evaluation, clients by number.
    by_clients
        Asks clients of such numbers, where their rows are with them: baseline -> [clients].
    """
    if config.baselines == "none":
        return None
    chosen = {group: _some(config, measured, group) for group in GROUPS if group in measured.groups}
    numbers = [client for some in chosen.values() for client, _ in some]
    found = _here(config, task, numbers) if task.data.rows_here else by_clients(numbers)
    return asdict(_compared(config, task, measured, chosen, found)) if found else None


def _here(config: Config, task: Task, clients: list[int]) -> dict[str, Array]:
    """Train and score them in this process."""
    of = Clients(config, task, clients, longest(config), stacked)
    scores = {each.__name__: each(of) for each in (*LOCAL, *POOLED) if wanted(each, config)}
    return {name: each[of.metric] for name, each in scores.items() if each is not None}


def _some(config: Config, measured: Evaluation, group: str) -> list[tuple[int, int]]:
    """Return the clients of a group to compare, and where they stand among its members."""
    members = measured.groups[group].clients
    drawn = some(list(range(len(members))), MOST, config.seed, PURPOSE[group])
    return [(int(members[place]), place) for place in sorted(drawn)]


def _compared(
    config: Config,
    task: Task,
    measured: Evaluation,
    chosen: dict[str, list[tuple[int, int]]],
    scores: dict[str, Array],
) -> Beside:
    metric = compared_metric(task)
    lower = metric in lower_is_better(config.task)
    sign = -1.0 if lower else 1.0
    personal = {
        group: _ends(measured.groups[group].curves, metric, [place for _, place in some], -sign)
        for group, some in chosen.items()
    }
    ours = np.concatenate([*personal.values()])
    alone = {each.__name__ for each in LOCAL} & scores.keys()
    best = max(sorted(alone), key=lambda name: _mean(sign * scores[name], -np.inf))
    owner = np.repeat([*personal], [len(each) for each in personal.values()])
    of = {"personal": ours} | scores
    means = {
        name: {group: _json(_mean(values[owner == group])) for group in personal}
        for name, values in of.items()
    }
    most = limits(config.task, metric).of_differences
    everyone = {group: len(measured.groups[group].clients) for group in personal}
    against = {
        group: _against(sign * (ours - scores[best])[owner == group], most, everyone[group])
        for group in personal
    }
    k = next(iter(measured.groups.values())).curves[metric].shape[1] - 1
    there = {group: each for group, each in against.items() if each is not None}
    steps = longest(config)
    return Beside(metric, lower, task.classification, k, steps, best, means, there)


def _ends(curves: Mapping[str, Array], metric: str, some: Sequence[int], worse: float) -> Array:
    """Return what personal models of some clients have; ±∞, what is worse, of those that diverged.

    NaN remains where a metric does not exist for a client, though its loss is finite.
    """
    ends, loss = (curves[name][some, -1] for name in (metric, "loss"))
    return np.where(np.isfinite(loss), ends, worse * np.inf)


def _against(gains: Array, most: Limits = UNKNOWN, everyone: int = 0) -> Against | None:
    known = gains[~np.isnan(gains)]
    if not len(known):
        return None
    gain, low, high = map(_json, interval(known[np.isfinite(known)]).within(most))
    better, worse, diverged = (
        int(each.sum()) for each in (known > 0, known < 0, np.isneginf(known))
    )
    drawn_from = everyone if everyone > len(gains) else None
    return Against(better, worse, len(known), gain, low, high, diverged, drawn_from)


def _mean(values: Array, nobody: float = np.nan) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else nobody


def _json(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
