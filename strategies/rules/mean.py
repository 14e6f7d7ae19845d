"""The mean of a round's updates, in the memory of one."""

from dataclasses import dataclass

from nufed.client_app.mean import StreamingMean
from nufed.strategies.rules.rule import Rule


@dataclass(frozen=True)
class Mean(Rule):
    """The weighted mean; a node that hosts many clients may send theirs."""

    def begin(self) -> StreamingMean:
        """Return what the updates of one round are added to."""
        return StreamingMean()

    def require(self, *, weighting: str, privacy: str, clients: int | None) -> None:
        """Go with any weighting and privacy, and any number of clients."""
