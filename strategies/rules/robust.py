"""What rules share that withstand some hostile clients: each update by itself, all alike.

Such a rule needs all updates of a round at once: its memory grows with the clients of a round, and
every client replies for itself. Rules by order or by distance presume that honest updates resemble
each other; the more the clients differ, the more often an honest one is left out
(docs/robustness.md has figures).
"""

from abc import abstractmethod
from typing import ClassVar

import torch
from flwr.serverapp.strategy import FedAvg

from nufed.client_app.meta_gradient import Params
from nufed.conf.schema import require
from nufed.strategies.flower_rules import aggregate
from nufed.strategies.rules.rule import Rule, TooFewUpdates


class Robust(Rule):
    """One of Flower's rules in the place of the mean; all clients count alike."""

    sees_each: ClassVar[bool] = True

    @abstractmethod
    def flower(self, n: int) -> FedAvg:
        """Return the Flower strategy whose `aggregate_train` is the rule for n updates."""

    def begin(self) -> "FlowerRule":
        """Return what the updates of one round are added to."""
        return FlowerRule(self)

    def require(self, *, weighting: str, privacy: str, clients: int | None) -> None:
        """Raise an `InputError` also for weights, which have no meaning here."""
        allowed = f"uniform; {type(self).__name__} counts every client alike"
        require(weighting == "uniform", "strategy.weighting", weighting, allowed)
        super().require(weighting=weighting, privacy=privacy, clients=clients)


class FlowerRule:
    """Collect a round's updates, then let a Flower strategy aggregate them."""

    def __init__(self, rule: Robust) -> None:
        self.rule = rule
        self._updates: list[Params] = []

    def add(self, update: Params, weight: float) -> None:
        """Take one more client's update; it counts as much as any other."""
        self._updates.append(update)

    def value(self, dtype: torch.dtype) -> Params:
        """Return the aggregated update.

        Raises
        ------
        TooFewUpdates
            If fewer came than the rule needs.
        """
        n, rule = len(self._updates), self.rule
        if n < rule.fewest:
            name = type(rule).__name__
            raise TooFewUpdates(f"{name} needs {rule.fewest} updates ({rule.why}), {n} came")
        aggregated = aggregate(rule.flower(n), self._updates)
        return {name: tensor.to(dtype) for name, tensor in aggregated.items()}
