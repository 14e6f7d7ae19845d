"""What a sampler is: it draws a round's clients."""

from abc import ABC, abstractmethod
from typing import ClassVar

from nufed.strategies.roster import Roster


class Sampler(ABC):
    """Who trains in a round: a frozen dataclass, whose fields are its YAML keys."""

    amplifies: ClassVar[bool] = False
    """Whether that a client may not be drawn makes its part in the models more private.

    It does not where the draw follows from the run's seed, which every client is told.
    """

    def require(self, roster: Roster) -> None:  # noqa: B027  (most have nothing to look at)
        """Raise an `InputError` for what does not fit the federation's clients, who may be away."""

    @abstractmethod
    def sample(self, roster: Roster, round: int, size: int) -> list[int]:
        """Return at most `size` of the participating clients, each once, in order.

        The same in a round that is repeated, or comes again in a resumed run: it follows from the
        roster, with its seed, and the round.
        """
