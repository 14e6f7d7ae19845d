"""What a rule of aggregation is: updates go in one by one, one comes out."""

from abc import ABC, abstractmethod
from typing import ClassVar, Protocol

import torch

from nufed.client_app.meta_gradient import Params
from nufed.conf.errors import InputError


class TooFewUpdates(ValueError):
    """A rule cannot do with so few updates; the text says how many it needs."""


class Aggregate(Protocol):
    """What a round's updates are added to."""

    def add(self, update: Params, weight: float) -> None:
        """Take one more client's update."""

    def value(self, dtype: torch.dtype) -> Params:
        """Return the aggregated update, or raise `TooFewUpdates`."""


class Rule(ABC):
    """How a round's updates become one: a frozen dataclass, whose fields are its YAML keys."""

    sees_each: ClassVar[bool] = False
    """Whether it must see each client's update by itself, also where one node hosts many."""

    @property
    def fewest(self) -> int:
        """Updates that it needs in a round."""
        return 1

    @property
    def why(self) -> str:
        """What `fewest` follows from, for a line that says so."""
        return ""

    @abstractmethod
    def begin(self) -> Aggregate:
        """Return what the updates of one round are added to."""

    def require(self, *, weighting: str, privacy: str, clients: int | None) -> None:
        """Raise an `InputError` for what does not go with this rule.

        Parameters
        ----------
        weighting, privacy
            What `strategy.weighting` and `privacy` are.
        clients
            `clients_per_round`; None where a fraction takes its place.
        """
        name = type(self).__name__
        if privacy != "none":
            raise InputError(
                f"privacy={privacy}: its noise is made for a mean, not for {name}; take rule=mean"
            )
        if clients is not None and clients < self.fewest:
            raise InputError(
                f"clients_per_round={clients}: {name} needs at least {self.fewest} ({self.why})"
            )
