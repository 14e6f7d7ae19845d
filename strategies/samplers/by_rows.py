"""Who has more train rows is drawn more often."""

from dataclasses import dataclass

import numpy as np

from nufed.strategies.roster import Roster
from nufed.strategies.samplers.sampler import Sampler
from nufed.strategies.weights import counted_rows
from nufed.tasks.streams import Purpose, stream


@dataclass(frozen=True)
class ByRows(Sampler):
    """Draw one after another without replacement, each in proportion to train rows.

    Of rows that a client alone vouches for, as many count as for `strategy.weighting=examples`.
    Who is drawn tells of these numbers, which ε of central_dp does not cover.
    """

    def sample(self, roster: Roster, round: int, size: int) -> list[int]:
        """Draw `size` participating clients, or all if there are fewer, from (seed, round)."""
        rows = counted_rows(roster)
        clients = [client for client in roster.participating if rows[client] > 0]
        if not clients:
            return []
        p = np.array([rows[client] for client in clients], np.float64)
        random = stream(Purpose.SAMPLE, roster.seed, round=round)
        chosen = random.choice(len(p), min(size, len(p)), replace=False, p=p / p.sum())
        return sorted(clients[i] for i in chosen)
