"""Clients that are there when a file says so.

    round,client
    1,amy
    1,bob
    3,amy

or, as JSON, ``[[1, "amy"], [1, "bob"], [3, "amy"]]``. The first round is 1; in round 2 nobody is
there, and after round 3, the last of which it tells, it begins again.
"""

import csv
import io
import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nufed.conf.errors import InputError, reason
from nufed.conf.files import read_text
from nufed.conf.schema import require
from nufed.conf.text import printable
from nufed.conf.typed import MOST, parsed
from nufed.conf.words import path_of
from nufed.strategies.roster import Roster
from nufed.strategies.samplers.sampler import Sampler
from nufed.strategies.samplers.uniform import drawn
from nufed.tasks.ids import WHOLE

LARGEST = 8 << 20
"""Bytes of a trace: some 800,000 lines."""
HEADER = ["round", "client"]
KINDS = (".csv", ".json")
SHOWN = 40  # characters of what cannot be used

Entry = tuple[str, Any, Any]
"""Where it stands, the round, and the client's id."""


@dataclass(frozen=True)
class Trace(Sampler):
    """Draw uniformly among those that are there."""

    path: str
    """A .csv or .json file of (round, client id)."""
    _there: dict[int, set[int]] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Round -> clients, once it was read."""

    def __post_init__(self) -> None:
        valid = isinstance(self.path, str) and self.path.lower().endswith(KINDS)
        require(valid, "sampler.path", self.path, f"a file of {' or '.join(KINDS)}")

    def require(self, roster: Roster) -> None:
        """Read the file.

        Raises
        ------
        InputError
            If it cannot be read, an entry is none, or its client does not exist.
        """
        found = defaultdict[int, set[int]](set)
        for where, round, client in _entries(path_of(self.path)):
            if type(round) is not int or not 1 <= round < MOST:
                raise self._unusable(where, f"{_short(round)} is no round, which is from 1 on")
            number = roster.ids.number(client) if type(client) in (int, str) else None
            if number is None:
                few = roster.ids.few
                raise self._unusable(where, f"client {_short(client)} is not among {few}")
            found[round].add(number)
        if not found:
            raise InputError(f"sampler.path={self.path}: has no entry; say who is there when")
        self._there.clear()
        self._there.update(found)

    def sample(self, roster: Roster, round: int, size: int) -> list[int]:
        """Draw `size` of those that are there, or all if there are fewer, from (seed, round)."""
        if not self._there:
            self.require(roster)
        there = self._there.get((round - 1) % max(self._there) + 1, set())
        clients = [client for client in roster.participating if client in there]
        return drawn(clients, roster.seed, round, size)

    def _unusable(self, where: str, why: str) -> InputError:
        return InputError(f"sampler.path={self.path}: {where}: {why}")


def _entries(path: Path) -> Iterator[Entry]:
    """Yield what a file says, not yet looked at.

    Raises
    ------
    InputError
        If it cannot be read, or an entry is no pair.
    """
    try:
        text = read_text(path, links=True, largest=LARGEST).removeprefix("\ufeff")
    except InputError as error:  # which begins with the path
        raise InputError(f"sampler.path={error}") from error
    try:
        yield from _of_json(text) if path.suffix.lower() == ".json" else _of_csv(text)
    except (ValueError, csv.Error) as error:
        raise InputError(f"sampler.path={path}: {reason(error):.200}") from error


def _of_csv(text: str) -> Iterator[Entry]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    for cells in reader:
        where, said = f"line {reader.line_num}", [cell.strip() for cell in cells]
        if (said == HEADER and reader.line_num == 1) or not any(said):
            continue
        if len(said) != 2:
            raise ValueError(f"{where}: has {len(said)} columns, not round,client")
        yield where, int(said[0]) if WHOLE.fullmatch(said[0]) else said[0], said[1]


def _of_json(text: str) -> Iterator[Entry]:
    said = parsed(text)
    if not isinstance(said, list):
        raise ValueError("is no list of [round, client]")
    for number, each in zip(itertools.count(1), said, strict=False):
        if not isinstance(each, list) or len(each) != 2:
            raise ValueError(f"entry {number}: is no [round, client]")
        yield f"entry {number}", each[0], each[1]


def _short(value: object) -> str:
    return printable(str(value))[:SHOWN]
