"""Every participating client alike."""

from collections.abc import Sequence
from dataclasses import dataclass

from nufed.strategies.roster import Roster
from nufed.strategies.samplers.sampler import Sampler
from nufed.tasks.streams import Purpose, stream


@dataclass(frozen=True)
class Uniform(Sampler):
    """Draw uniformly, without replacement."""

    def sample(self, roster: Roster, round: int, size: int) -> list[int]:
        """Draw `size` participating clients, or all if there are fewer, from (seed, round)."""
        return drawn(roster.participating, roster.seed, round, size)


def drawn(clients: Sequence[int], seed: int, round: int, size: int) -> list[int]:
    """Draw `size` of some clients, or all if there are fewer, in order."""
    random = stream(Purpose.SAMPLE, seed, round=round)
    chosen = random.choice(len(clients), min(size, len(clients)), replace=False)
    return sorted(clients[i] for i in chosen)
