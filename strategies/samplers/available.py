"""Clients that are there at times: each by a draw of its own in every round."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nufed.conf.errors import InputError
from nufed.conf.schema import require
from nufed.strategies.roster import Roster
from nufed.strategies.samplers.sampler import Sampler
from nufed.strategies.samplers.uniform import drawn
from nufed.tasks.ids import Id
from nufed.tasks.streams import Purpose, stream


@dataclass(frozen=True)
class Available(Sampler):
    """Draw uniformly among those that are there, each with probability p."""

    p: float | Mapping[Id, float]
    """Of every client; or of some by their ids, and the others are there in every round."""

    def __post_init__(self) -> None:
        if not isinstance(self.p, Mapping):
            allowed = "above 0 and at most 1, or {client id: probability, …}"
            require(_probable(self.p) and self.p > 0, "sampler.p", self.p, allowed)
            return
        for client, p in self.p.items():
            require(_probable(p), f"sampler.p: that of client {client}", p, "from 0 to 1")

    def require(self, roster: Roster) -> None:
        """Raise an `InputError` if a client that is listed does not exist."""
        self._probabilities(roster)

    def sample(self, roster: Roster, round: int, size: int) -> list[int]:
        """Draw `size` of those that are there, or all if there are fewer, from (seed, round)."""
        # One draw for each client that exists: who else is connected changes nothing.
        draws = stream(Purpose.AVAILABLE, roster.seed, round=round).random(roster.num_clients)
        there = draws < self._probabilities(roster)
        clients = [client for client in roster.participating if there[client]]
        return drawn(clients, roster.seed, round, size)

    def _probabilities(self, roster: Roster) -> NDArray[np.float64]:
        """Return each client's probability, [n]."""
        if not isinstance(self.p, Mapping):
            return np.full(roster.num_clients, self.p, np.float64)
        found, ids = np.ones(roster.num_clients), roster.ids
        for client, p in self.p.items():
            number = ids.number(client)
            if number is None:
                hint = ids.hint(client)
                raise InputError(f"sampler.p: client {client} is not among {ids.few}{hint}")
            found[number] = p
        return found


def _probable(p: object) -> bool:
    return type(p) in (int, float) and 0 <= float(str(p)) <= 1
