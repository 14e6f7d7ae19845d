"""What rules share that withstand some hostile clients: each update by itself, all alike.

Such a rule needs all updates of a round at once: its memory grows with the clients of a round, and
every client replies for itself. Rules by order or by distance presume that honest updates resemble
each other; the more the clients differ, the more often an honest one is left out
(docs/robustness.md has figures).
"""

from collections.abc import Callable
from typing import Any

import torch
from flwr.serverapp.strategy import FedAvg

from nufed.client_app.meta_gradient import Params
from nufed.conf.errors import InputError
from nufed.conf.schema import PrivacyConfig, require
from nufed.strategies.flower_rules import aggregate
from nufed.strategies.meta_fedavg import MetaFedAvg
from nufed.strategies.rule import TooFewUpdates


class Robust(MetaFedAvg):
    """MetaFedAvg with one of Flower's rules in the place of the mean.

    Parameters
    ----------
    rule
        ``rule(n)`` -> the Flower strategy whose `aggregate_train` is the rule for n updates.
    fewest
        Updates in a round without which it protects from nobody.
    why
        What `fewest` follows from, for the error message.
    weighting, privacy
        ``uniform`` and None; another weighting has no meaning here, and the noise of
        `privacy=central_dp` is made for the mean.
    """

    one_reply_each = True

    def __init__(
        self,
        *args: Any,
        rule: Callable[[int], FedAvg],
        fewest: int,
        why: str,
        clients_per_round: int,
        fraction: float | None = None,
        weighting: str = "uniform",
        privacy: PrivacyConfig | None = None,
        **kwargs: Any,
    ) -> None:
        name = type(self).__name__
        require(
            weighting == "uniform",
            "strategy.weighting",
            weighting,
            f"uniform; {name} counts every client alike",
        )
        if privacy is not None and privacy.name != "none":
            raise InputError(
                f"privacy={privacy.name}: its noise is made for a mean, not for {name}; "
                "take strategy=meta_fedavg"
            )
        if fraction is None and clients_per_round < fewest:
            raise InputError(
                f"clients_per_round={clients_per_round}: {name} needs at least {fewest} ({why})"
            )
        super().__init__(*args, clients_per_round=clients_per_round, fraction=fraction, **kwargs)
        self.aggregator = lambda: FlowerRule(name, rule, fewest, why)


class FlowerRule:
    """Collect a round's updates, then let a Flower strategy aggregate them."""

    def __init__(self, name: str, rule: Callable[[int], FedAvg], fewest: int, why: str) -> None:
        self.name, self.rule, self.fewest, self.why = name, rule, fewest, why
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
        n = len(self._updates)
        if n < self.fewest:
            raise TooFewUpdates(f"{self.name} needs {self.fewest} updates ({self.why}), {n} came")
        aggregated = aggregate(self.rule(n), self._updates)
        return {name: tensor.to(dtype) for name, tensor in aggregated.items()}
