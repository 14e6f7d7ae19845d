"""Central differential privacy of clients: clipped updates, a noisy mean, and what it has cost.

The server releases, in each round, Σ_i clip(Δ_i, C) / m + N(0, (z C / m)² I), where m clients were
asked (McMahan et al. 2018; Flower's fixed clipping). The denominator is m also where replies are
missing or dropped: one client then moves the sum by at most C, whatever the others do, and a mean
over those that came would not have that bound. Hence every client counts the same.

ε holds for one client's contributions, added or removed, at the given δ, for all models of the run
together, and for nothing else: not for `train_loss`, `meta_grad_norm`, `clipped`, `failures`, nor
the personalization curves, which are exact figures of clients' data. It takes no credit for the
sampling of clients (no amplification), since who is asked follows from the run's seed, which every
client is told. So it holds for any sampler that draws a client at most once a round, uniform or
not; one that draws it twice, and would let it move the sum by 2C, is refused. Of a sampler that
says that it does amplify (`Sampler.amplifies`), ε is an upper bound, and that is told. It trusts
the server, and the noise is of floating-point numbers (Mironov 2012).

A release counts from the moment at which it may become known. So it is passed to `CentralDP.note`
before there is a noisy mean at all, which a run writes down where it outlives the process; a run
that goes on from an earlier round counts what was released after it too (`CentralDP.count`).

The noise comes from the operating system's entropy, so such a run is not reproducible.
"""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flwr.serverapp import (
    GaussianPrivacyEvent,
    NeighboringRelation,
    RdpAccountant,
    SamplingMethod,
)
from flwr.serverapp import PrivacyConfig as Accounting

from nufed.client_app.meta_gradient import Params
from nufed.conf.errors import InputError, RunStopped, reason
from nufed.conf.schema import PrivacyConfig
from nufed.strategies.flower_rules import add_noise

log = logging.getLogger("nufed")


@dataclass(frozen=True)
class Release:
    """A noisy mean that left the server, as far as its price depends on it."""

    round: int
    asked: int
    """m"""
    clients: int
    """n, of the federation."""
    noise_multiplier: float
    """z"""


def _keep_nothing(release: Release) -> None:
    """Take no note: for who has no run folder."""


class CentralDP:
    """Add the noise of each round's release, and account for it by Rényi differential privacy.

    Parameters
    ----------
    config
        C = `clipping_norm`, z = `noise_multiplier`, δ = `delta`, and `max_epsilon`.
    amplifies
        Whether the sampler says that it makes ε smaller; no credit is taken for it.
    """

    def __init__(self, config: PrivacyConfig, amplifies: bool = False) -> None:
        if amplifies:
            log.warning(
                "privacy=%s: the sampler amplifies privacy, for which ε takes no credit: it is an "
                "upper bound",
                config.name,
            )
        given = config.clipping_norm, config.noise_multiplier, config.delta
        self.clipping_norm, self.noise_multiplier, self.delta = map(float, filter(None, given))
        self.max_epsilon = config.max_epsilon
        self.note: Callable[[Release], None] = _keep_nothing
        """Called with each release before it is made; what raises here keeps it from being made."""
        self._accountant: Any = None

    def require_budget(self, round: int, asked: int, clients: int) -> None:
        """Raise unless a release to `asked` of `clients` clients stays within `max_epsilon`.

        Raises
        ------
        RunStopped
            If it would not.
        """
        if self._accountant is None:
            self._accountant = self._new_accountant(clients)
        if self.max_epsilon is None:
            return
        if self._accountant.would_exceed(self._event(asked), self.max_epsilon):
            spent = self.spent().get("epsilon", 0.0)
            raise RunStopped(
                f"round {round}: one more release would exceed privacy.max_epsilon="
                f"{self.max_epsilon:g}, of which {spent:.4g} is spent at delta={self.delta:g}; "
                "raise it or privacy.noise_multiplier, or set fewer rounds"
            )

    def release(self, round: int, mean: Params, usable: int, asked: int) -> Params:
        """Return the noisy mean over all `asked` clients, once it is noted and accounted for.

        Parameters
        ----------
        round
            Of which it is.
        mean
            The mean of the clipped updates of the `usable` clients that gave one.
        usable, asked
            How many clients gave an update, and m.
        """
        clients = self._accountant.config.population_size
        self.note(Release(round, asked, clients, self.noise_multiplier))
        self._accountant.compose(self._event(asked))
        fixed = {name: tensor * (usable / asked) for name, tensor in mean.items()}
        return add_noise(fixed, self.noise_multiplier, self.clipping_norm, asked)

    def spent(self) -> dict[str, float]:
        """Return ε and δ of all releases so far, as a row of metrics.jsonl has them; {} of none."""
        if self._accountant is None or self._accountant.num_releases == 0:
            return {}
        return {"epsilon": self._accountant.get_epsilon(self.delta), "delta": self.delta}

    def state(self) -> dict[str, Any]:
        """Return the releases so far, as JSON has them; empty before the first."""
        return {} if self._accountant is None else dict(self._accountant.state_dict())

    def restore(self, state: dict[str, Any]) -> None:
        """Take over the releases of an earlier part of the run.

        Raises
        ------
        InputError
            If they were accounted for at another δ, or the state cannot be read.
        """
        if not state:
            return
        try:
            accountant = self._new_accountant(state["config"]["population_size"])
            accountant.load_state_dict(state)
        except Exception as error:  # whatever Flower makes of what may have been written to
            raise InputError(
                f"privacy: its earlier releases do not fit: {reason(error)}"
            ) from error
        self._accountant = accountant

    def count(self, releases: Sequence[Release], clients: int) -> str:
        """Count also what was released after the state that was restored; else say why not.

        Parameters
        ----------
        releases
            All that were noted since the run began; those of the state are the first of them.
        clients
            Of the federation.
        """
        for each in releases:
            if (each.noise_multiplier, each.clients) != (self.noise_multiplier, clients):
                return f"that of round {each.round} is not of this run's noise and clients"
            if not 0 < each.asked <= clients:
                return f"in round {each.round}, {each.asked} of {clients} clients were asked"
        if self._accountant is None:
            self._accountant = self._new_accountant(clients)
        known = self._accountant.num_releases
        if len(releases) < known:
            return f"it has {len(releases)} releases, and the checkpoint {known}"
        sizes = [
            each["event"]["sample_size"]
            for each in self._accountant.state_dict()["compositions"]
            for _ in range(each["count"])
        ]
        if sizes != [each.asked for each in releases[:known]]:
            return f"its first {known} releases are not those of the checkpoint"
        for each in releases[known:]:
            self._accountant.compose(self._event(each.asked))
        return ""

    def differs(self, releases: int, epsilon: float | None, clients: int) -> str:
        """Say how the releases so far are not those of a run that told of them; else nothing.

        Parameters
        ----------
        releases, epsilon
            How many it tells of, of which there may be more, and what all had cost by the last.
        clients
            Of the federation.
        """
        account = self._accountant
        if account is None:
            return "" if releases == 0 else f"there were {releases}, and it has none"
        if account.num_releases < releases:
            return f"there were {releases}, and it has {account.num_releases}"
        if account.config.population_size != clients:
            return f"they are of {account.config.population_size} clients, not {clients}"
        events = [each["event"] for each in account.state_dict()["compositions"]]
        if any(event["noise_multiplier"] != self.noise_multiplier for event in events):
            return "their noise is not that of privacy.noise_multiplier"
        spent = self.spent().get("epsilon")
        if spent is not None and (epsilon is None or not math.isclose(spent, epsilon)):
            return f"they cost {spent:.4g}, and the last row says {epsilon}"
        return ""

    def _new_accountant(self, clients: int) -> RdpAccountant:
        accounting = Accounting(
            target_delta=self.delta,
            population_size=clients,
            neighboring_relation=NeighboringRelation.ADD_OR_REMOVE_ONE,
            sampling_method=SamplingMethod.NO_AMPLIFICATION,
        )
        try:
            return RdpAccountant(accounting)
        except ImportError as error:
            raise InputError(f"privacy=central_dp: {reason(error)}") from error

    def _event(self, asked: int) -> GaussianPrivacyEvent:
        population = self._accountant.config.population_size
        return GaussianPrivacyEvent(self.noise_multiplier, asked, population)
