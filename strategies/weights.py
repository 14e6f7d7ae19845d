"""What clients' updates weigh: alike, or by their train rows as far as these are believed."""

import logging
from collections.abc import Collection
from statistics import median_low

from nufed.strategies.roster import Roster

TIMES = 3
"""Times the median: what a client claims beyond that does not count."""
NAMED = 3

log = logging.getLogger("nufed")


def most_rows(claimed: Collection[int], said: int | None) -> int:
    """Return how many train rows of a client count, given what all claim.

    Parameters
    ----------
    claimed
        Of each client, at least one.
    said
        What the submitter says is the most that a client has; None: three times the lower median,
        which no minority decides.
    """
    return TIMES * median_low(claimed) if said is None else said


def counted_rows(roster: Roster) -> dict[int, int]:
    """Return how many train rows of each client present count, as far as these are believed."""
    claimed = roster.claimed
    most = most_rows(claimed.values(), roster.most_rows) if claimed else 0
    return {i: min(rows, most) if i in claimed else rows for i, rows in roster.rows.items()}


class Weights:
    """The weights of clients in a round's mean.

    Parameters
    ----------
    weighting
        ``uniform`` or ``examples``.
    roster
        Who is who, and of how many train rows there is only a SuperNode's word.
    """

    def __init__(self, weighting: str, roster: Roster) -> None:
        self.weighting, self.roster = weighting, roster
        self.most: int | None = None
        """Train rows of a client that count in this round; None: all."""
        self._named = set[int]()

    def begin(self) -> None:
        """Settle what counts in a round; name clients that claim more, each once a run."""
        claimed = self.roster.claimed if self.weighting == "examples" else {}
        self.most = most_rows(claimed.values(), self.roster.most_rows) if claimed else None
        beyond = {i for i in claimed if self.most is not None and claimed[i] > self.most}
        if new := sorted(beyond - self._named):
            self._named.update(new)
            self._name(new)

    def of(self, client: int) -> float:
        """Return a client's weight; from the roster, so that a reply cannot claim another."""
        if self.weighting != "examples":
            return 1.0
        rows = self.roster.rows[client]
        return rows if self.most is None else min(rows, self.most)

    def _name(self, clients: list[int]) -> None:
        rows, ids = self.roster.rows, self.roster.ids
        some = [f"client {ids[i]} ({rows[i]})" for i in clients[:NAMED]]
        if more := len(clients[NAMED:]):
            some.append(f"{more} more")
        why = f"{TIMES} times the median" if self.roster.most_rows is None else "dataset.max_rows"
        log.warning(
            "strategy.weighting=examples: more train rows than the %d that count (%s) are claimed "
            "by %s; if they have them, say dataset.max_rows=%d",
            *(self.most, why, ", ".join(some), max(rows[i] for i in clients)),
        )
