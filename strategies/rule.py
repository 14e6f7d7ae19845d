"""What a rule of aggregation is: updates go in one by one, one comes out."""

from typing import Protocol

import torch

from nufed.client_app.meta_gradient import Params


class TooFewUpdates(ValueError):
    """A rule cannot do with so few updates; the text says how many it needs."""


class Rule(Protocol):
    """How a round's updates become one."""

    def add(self, update: Params, weight: float) -> None:
        """Take one more client's update."""

    def value(self, dtype: torch.dtype) -> Params:
        """Return the aggregated update, or raise `TooFewUpdates`."""
