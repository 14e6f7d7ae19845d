"""Which runs differ by their seed alone, and what sets the others apart."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from nufed.conf.command import leaves
from nufed.conf.schema import AUTO
from nufed.conf.text import printable
from nufed.server_app.report.record import Record
from nufed.server_app.report.words import shown

# What does not decide what comes out of a run; and its seed, of which groups are made.
IGNORED = (
    *("baselines", "callbacks", "checkpoint", "device", "diagnostics", "name", "progress"),
    *("report", "resume", "seed", "tracking"),
)
FOLLOWS = "the run's"

Traits = Mapping[str, Any]


def grouped(runs: Sequence[Record]) -> list[tuple[Traits, list[Record]]]:
    """Put runs together that differ by their seed alone; in the order in which they are given.

    The seeds of other things (the partition, the data) may follow the run's, or be the same for
    all; step sizes that were probed may differ with the seed.

    Returns
    -------
    list of (traits, runs)
        Key -> value of what sets a group apart from others, and its runs.
    """
    all_follow = {key for key in _seeds(runs[0]) if all(map(_follows, runs, [key] * len(runs)))}
    alike = dict[str, list[Record]]()
    for run in runs:
        alike.setdefault(repr(_traits(run)), []).append(run)
    found = dict[str, tuple[Traits, list[Record]]]()
    for some in alike.values():
        for run in some:
            seeds = {key: _seed(run, key, some, key in all_follow) for key in _seeds(run)}
            traits = _traits(run) | seeds
            found.setdefault(repr(traits), (traits, []))[1].append(run)
    return list(found.values())


def differing(groups: Sequence[Traits]) -> dict[str, list[str]]:
    """Return the keys in which groups differ, each with the value of every group."""
    keys = dict.fromkeys(key for each in groups for key in each)
    values = {key: [shown(each.get(key)) for each in groups] for key in keys}
    return {key: found for key, found in values.items() if len(set(found)) > 1}


def labels(keys: Mapping[str, Sequence[str]], n: int) -> list[str]:
    """Return a name for each of n groups: as few of the differing keys as tell them apart."""
    chosen = list[str]()

    def apart(some: Sequence[str]) -> int:
        return len({tuple(keys[key][i] for key in some) for i in range(n)})

    while apart(chosen) < n and len(chosen) < len(keys):
        left = [key for key in keys if key not in chosen]
        chosen.append(max(left, key=lambda key: apart([*chosen, key])))
    return [" ".join(_said(key, keys[key][i]) for key in chosen) or "all runs" for i in range(n)]


def _said(key: str, value: str) -> str:
    """Return ``algorithm=nufed`` for algorithm.name, and the class alone of a path to it."""
    if key.endswith("._target_"):
        return f"{key.removesuffix('._target_')}={value.rpartition('.')[2]}"
    return printable(f"{key.removesuffix('.name')}={value}")


def _traits(run: Record) -> dict[str, Any]:
    """Return what sets a run apart, but for seeds."""
    traits = {
        key: value
        for key, value in leaves(asdict(run.config))
        if key.split(".")[0] not in IGNORED and not key.endswith(".seed")
    }
    return traits | {f"algorithm.{key}": AUTO for key in run.probed}


def _seeds(run: Record) -> dict[str, Any]:
    """Return the seeds of other things than the run."""
    return {key: value for key, value in leaves(asdict(run.config)) if key.endswith(".seed")}


def _follows(run: Record, key: str) -> bool:
    return bool(_seeds(run).get(key) == run.config.seed)


def _seed(run: Record, key: str, alike: Sequence[Record], follows: bool) -> Any:
    """Return a seed of something else, as a trait among runs that are alike in all else."""
    value = _seeds(run)[key]
    same = all(_seeds(other).get(key) == value for other in alike)
    return FOLLOWS if follows or (not same and _follows(run, key)) else value
