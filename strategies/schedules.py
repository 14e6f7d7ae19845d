"""Schedules: what a float key of the algorithm is multiplied with, round by round.

A schedule is a function of the round alone, which is from 1 on, so that a run that is resumed has
the same values.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from nufed.client_app.algorithm import Algorithm
from nufed.conf.errors import InputError, NuFedError, RunStopped, reason
from nufed.conf.schema import positive, require

Schedule = Callable[[int], float]
"""Round -> factor."""


@dataclass(frozen=True)
class Decay:
    """Exponential decay: rate^(round − 1)."""

    rate: float

    def __post_init__(self) -> None:
        require(_part(self.rate), "rate", self.rate, "above 0 and below 1, such as 0.99")

    def __call__(self, round: int) -> float:
        """Return the factor of a round."""
        return self.rate ** (round - 1)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine, from 1 in round 1 down to `floor` after `rounds`, where it stays."""

    rounds: int
    floor: float

    def __post_init__(self) -> None:
        require(_count(self.rounds), "rounds", self.rounds, "at least 1")
        require(_part(self.floor), "floor", self.floor, "above 0 and below 1")

    def __call__(self, round: int) -> float:
        """Return the factor of a round."""
        done = min(round - 1, self.rounds) / self.rounds
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * done)) / 2


@dataclass(frozen=True)
class Step:
    """Fall by `factor` at once, every so many rounds."""

    every: int
    factor: float

    def __post_init__(self) -> None:
        require(_count(self.every), "every", self.every, "at least 1")
        require(_part(self.factor), "factor", self.factor, "above 0 and below 1")

    def __call__(self, round: int) -> float:
        """Return the factor of a round."""
        return float(self.factor ** ((round - 1) // self.every))


@dataclass(frozen=True)
class WarmUp:
    """Rise linearly from 1/rounds in round 1 to 1 in round `rounds`, and stay."""

    rounds: int

    def __post_init__(self) -> None:
        require(_count(self.rounds), "rounds", self.rounds, "at least 1")

    def __call__(self, round: int) -> float:
        """Return the factor of a round."""
        return min(1.0, round / self.rounds)


def require_schedulable(schedule: Mapping[str, Schedule], algorithm: Algorithm) -> None:
    """Raise an `InputError` unless local steps read every key, a float, and its schedule works."""
    known = {each.name for each in fields(algorithm)}
    floats = [name for name in algorithm.numbers if name not in algorithm.unread_in_training]
    for key, factor in schedule.items():
        if key not in floats:
            what = f"no algorithm.{key}"
            if key in known:
                idle = key in algorithm.unread_in_training
                what = f"algorithm.{key} is {'not read in training' if idle else 'no float'}"
            raise InputError(f"schedule.{key}: {what}; choose among {', '.join(floats)}")
        found = _called(factor, 1, f"schedule.{key}", InputError)
        allowed = "a function of the round whose factor is a number above 0"
        require(_above_0(found), f"schedule.{key}(1)", found, allowed)


def scheduled(
    schedule: Mapping[str, Schedule], algorithm: Algorithm, round: int
) -> dict[str, float]:
    """Return the value that each scheduled key of the algorithm has in a round.

    Raises
    ------
    RunStopped
        If a schedule fails, or makes a value of it that is not above 0 and finite.
    """
    found = dict[str, float]()
    for key, factor in schedule.items():
        where = f"round {round}: schedule.{key}"
        by = _called(factor, round, where, RunStopped)
        if not _above_0(by) or not positive(value := float(by * getattr(algorithm, key))):
            raise RunStopped(f"{where}: its factor is {by!r:.40}; algorithm.{key} must be above 0")
        found[key] = value
    return found


def _called(factor: Schedule, round: int, where: str, error: type[NuFedError]) -> Any:
    try:
        return factor(round)
    except Exception as cause:  # whatever the user's code raises
        raise error(f"{where}: {reason(cause):.200}") from cause


def _above_0(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and positive(value)


def _part(value: object) -> bool:
    return _above_0(value) and float(str(value)) < 1


def _count(value: object) -> bool:
    return type(value) is int and value >= 1
