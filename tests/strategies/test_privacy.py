"""Central differential privacy: the clipping, the noise, its price, and where the budget ends."""

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Message, MessageType
from scipy.stats import norm as gaussian

from nufed.client_app.wire import to_params
from nufed.conf.compose import compose_config
from nufed.conf.errors import CannotWrite, InputError, RunStopped
from nufed.conf.schema import PrivacyConfig
from nufed.simulation.flower_host import open_run
from nufed.strategies.flower_rules import add_noise
from nufed.strategies.meta_fedavg import MetaFedAvg
from nufed.strategies.privacy import CentralDP, Release
from nufed.strategies.replies import Sent
from nufed.strategies.roster import Roster
from nufed.strategies.rules.krum import Krum
from nufed.strategies.samplers.sampler import Sampler
from tests.strategies.helpers import Federation, assert_arrays

ALMOST_NONE = 1e-12  # a noise multiplier that leaves the arithmetic to be seen


def private(**changes: Any) -> PrivacyConfig:
    options = {"clipping_norm": 0.1, "noise_multiplier": 1.0, "delta": 1e-5, "max_epsilon": None}
    return PrivacyConfig("central_dp", **(options | changes))


def federation(**changes: Any) -> Federation:
    """SGD of rate 1, so that the model moves by what is released."""
    return Federation(privacy=private(**changes))


def exact_delta(epsilon: float, multiplier: float, releases: int) -> float:
    """δ(ε) of T Gaussian mechanisms, which are one with z/√T (Balle and Wang 2018, theorem 8)."""
    mu = math.sqrt(releases) / multiplier
    return float(
        gaussian.cdf(mu / 2 - epsilon / mu)
        - math.exp(epsilon) * gaussian.cdf(-mu / 2 - epsilon / mu)
    )


@pytest.mark.parametrize("lost", [0, 2])
def test_the_release_is_the_sum_of_clipped_updates_over_all_that_were_asked(lost: int) -> None:
    """A reply that did not come counts as zero: one client moves the sum by C at most."""
    dp = federation(noise_multiplier=ALMOST_NONE)
    arrays, metrics = dp.round(lambda i, reply: None if i < lost else reply)
    updates = dp.updates()
    for failure in dp.strategy.failures:
        del updates[failure.client]
    assert len(updates) == metrics["clients"] == 6 - lost
    norms = {i: math.sqrt(sum(float((p**2).sum()) for p in u.values())) for i, u in updates.items()}
    assert metrics["clipped"] == sum(norm > 0.1 for norm in norms.values()) > 0
    wanted = {
        name: array.numpy()
        - sum(min(1, 0.1 / norms[i]) * updates[i][name].numpy() for i in updates) / 6
        for name, array in dp.arrays.items()
    }
    assert_arrays(arrays, wanted)


def test_the_noise_is_gaussian_with_standard_deviation_z_c_over_m() -> None:
    """Over 40,000 entries: mean, spread and shape within 5 standard errors."""
    open_run()
    z, c, m, n = 1.5, 0.4, 6, 40_000
    noise = add_noise({"w": torch.zeros(n, dtype=torch.float64)}, z, c, m)["w"].numpy()
    unit = noise / (z * c / m)
    assert abs(unit.mean()) < 5 / math.sqrt(n)
    assert abs(unit.var() - 1) < 5 * math.sqrt(2 / n)
    assert abs((unit**4).mean() - 3) < 5 * math.sqrt(96 / n)


def test_a_round_adds_that_noise_to_the_model() -> None:
    """650 parameters: the squared distance to the release without noise is χ² with as many."""
    quiet, loud = federation(noise_multiplier=ALMOST_NONE), federation(noise_multiplier=3.0)
    before, after = (to_params(f.round()[0]) for f in (quiet, loud))
    off = torch.cat([(after[name] - before[name]).flatten() for name in before]).numpy()
    assert len(off) == 650
    assert (off**2).sum() / (3.0 * 0.1 / 6) ** 2 == pytest.approx(650, abs=5 * math.sqrt(2 * 650))


def test_the_noise_does_not_follow_from_any_seed_and_leaves_numpys_alone() -> None:
    """The run's seed is told to every client: noise that follows from it could be subtracted."""
    open_run()
    draws = []
    for _ in range(2):
        np.random.seed(7)
        draws.append(add_noise({"w": torch.zeros(5, dtype=torch.float64)}, 1.0, 1.0, 1)["w"])
        follows = np.random.random()
    assert not torch.equal(*draws)
    np.random.seed(7)
    assert follows == np.random.random()


@pytest.mark.parametrize(("multiplier", "rounds"), [(1.0, 1), (2.0, 3), (20.0, 3)])
def test_epsilon_is_that_of_renyi_accounting(multiplier: float, rounds: int) -> None:
    """Between the exact ε of Gaussian mechanisms and the plain bound by Rényi divergence."""
    dp = federation(noise_multiplier=multiplier)
    rows = [dp.round()[1] for _ in range(rounds)]
    assert all(row["delta"] == 1e-5 for row in rows)
    epsilons = [row["epsilon"] for row in rows]
    assert epsilons == sorted(set(epsilons))
    rho = rounds / (2 * multiplier**2)  # Mironov 2017: ε ≤ ρ + 2 √(ρ ln 1/δ), at the best order
    assert epsilons[-1] <= rho + 2 * math.sqrt(rho * math.log(1e5))
    assert exact_delta(epsilons[-1], multiplier, rounds) <= 1e-5
    assert exact_delta(epsilons[-1] * 0.8, multiplier, rounds) > 1e-5


def test_epsilon_in_numbers() -> None:
    """min over a of aρ + ln(1 − 1/a) − ln(δ a)/(a − 1), ρ = T/2z² (Canonne et al. 2020)."""
    dp = federation(noise_multiplier=2.0)
    rows = [dp.round()[1] for _ in range(4)]
    rho = 4 / (2 * 2.0**2)
    orders = np.linspace(1.01, 200, 200_000)
    curve = orders * rho + np.log1p(-1 / orders) - np.log(1e-5 * orders) / (orders - 1)
    assert rows[-1]["epsilon"] == pytest.approx(curve.min(), rel=5e-3)
    assert rows[-1]["epsilon"] >= curve.min() - 1e-9


SAMPLERS: dict[str, Callable[[list[int]], list[int]]] = {
    "the same in every round": lambda clients: clients[:6],
    "one alone": lambda clients: clients[:1],
    "all": lambda clients: clients,
}


class Own(Sampler):
    """A sampler of one's own."""

    def __init__(self, by: Callable[[list[int]], list[int]]) -> None:
        self.by = by

    def sample(self, roster: Roster, round: int, size: int) -> list[int]:
        return self.by(roster.participating)


class Amplifying(Own):
    """One that says that ε is smaller for it."""

    amplifies = True


def sampled(by: Callable[[list[int]], list[int]], **options: Any) -> Federation:
    """Return a federation whose clients a sampler of one's own draws, not uniformly."""
    return Federation(sampler=Own(by), **options)


@pytest.mark.parametrize("name", SAMPLERS)
def test_no_sampler_makes_epsilon_smaller(name: str) -> None:
    """It is that of a client that is asked in every round, whoever is; no amplification."""
    dp = sampled(SAMPLERS[name], privacy=private(noise_multiplier=2.0))
    rows = [dp.round()[1] for _ in range(4)]
    rho = 4 / (2 * 2.0**2)
    orders = np.linspace(1.01, 200, 200_000)
    curve = orders * rho + np.log1p(-1 / orders) - np.log(1e-5 * orders) / (orders - 1)
    assert rows[-1]["epsilon"] == pytest.approx(curve.min(), rel=5e-3)
    assert rows[-1]["epsilon"] >= curve.min() - 1e-9


def test_what_a_sampler_says_to_amplify_is_told_and_not_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    by = SAMPLERS["the same in every round"]
    epsilon = sampled(by, privacy=private()).round()[1]["epsilon"]
    assert caplog.messages == []
    amplified = Federation(sampler=Amplifying(by), privacy=private())
    (line,) = caplog.messages
    assert line.startswith("privacy=central_dp: the sampler amplifies privacy, for which ε takes")
    assert amplified.round()[1]["epsilon"] == epsilon
    caplog.clear()
    Federation(sampler=Amplifying(by))
    assert caplog.messages == []


@pytest.mark.parametrize("options", [{}, {"privacy": private()}])
def test_a_sampler_that_draws_a_client_twice_is_refused(options: dict[str, Any]) -> None:
    """It would move the sum by twice the clipping norm; nobody is asked, nothing is spent."""
    dp = sampled(lambda clients: [*clients[:2], clients[0]], **options)
    twice = dp.roster.participating[0]
    with pytest.raises(RunStopped, match=rf"^client {twice} was drawn 2 times for a") as caught:
        dp.round()
    assert "\n" not in str(caught.value)


class Bypassing(MetaFedAvg):
    """A strategy of one's own that asks in its own way, one client by two messages."""

    def configure_train(self, *given: Any) -> Any:
        messages = list(super().configure_train(*given))
        again = Message(messages[0].content, messages[0].metadata.dst_node_id, MessageType.TRAIN)
        self._trained.append(Sent(again, self._trained[0].clients))
        return [*messages, again]


def test_who_asks_a_client_twice_past_the_sampler_is_refused_before_anything_is_released() -> None:
    dp = Federation(kind=Bypassing, privacy=private())
    with pytest.raises(RunStopped, match=r"was drawn 2 times for a round"):
        dp.round()
    assert dp.strategy.privacy is not None
    assert dp.strategy.privacy.state().get("num_releases", 0) == 0


def test_a_release_that_cannot_be_noted_is_not_made() -> None:
    """Its note comes first, with all that its price depends on; without it nothing has changed."""
    dp, told = federation(noise_multiplier=2.0), list[Release]()
    assert dp.strategy.privacy is not None
    dp.strategy.privacy.note = told.append
    first = dp.round()[1]["epsilon"]
    assert told == [Release(round=1, asked=6, clients=12, noise_multiplier=2.0)]

    def full(release: Release) -> None:
        raise CannotWrite("the disk is full")

    dp.strategy.privacy.note = full
    with pytest.raises(CannotWrite, match=r"^the disk is full$"):
        dp.round()
    assert dp.strategy.privacy.spent()["epsilon"] == first
    with_too_few = federation()
    assert with_too_few.strategy.privacy is not None
    with_too_few.strategy.privacy.note = told.append
    assert with_too_few.round(lambda i, reply: None) == (None, None)
    assert (len(told), with_too_few.strategy.privacy.spent()) == (1, {}), "none, nothing to repeat"


def test_the_budget_ends_the_run_before_it_is_exceeded() -> None:
    """And the clients are not even heard."""
    open_run()
    spent = []
    free = federation(noise_multiplier=2.0)
    for _ in range(3):
        spent.append(free.round()[1]["epsilon"])
    budget = (spent[1] + spent[2]) / 2
    dp = federation(noise_multiplier=2.0, max_epsilon=budget)
    assert [dp.round()[1]["epsilon"] for _ in range(2)] == spent[:2]
    heard: list[int] = []
    with pytest.raises(RunStopped) as caught:
        dp.round(lambda i, reply: heard.append(i) or reply)
    assert heard == []
    assert (
        f"privacy.max_epsilon={budget:g}, of which {spent[1]:.4g} is spent at delta=1e-05"
        in str(caught.value)
    )
    assert "\n" not in str(caught.value)


def test_the_releases_so_far_survive_a_restart_as_json() -> None:
    before, after, whole = (federation(noise_multiplier=2.0) for _ in range(3))
    assert before.strategy.state_dict()["privacy"] == {}
    before.round()
    initial = to_params(after.arrays)
    after.strategy.load_state_dict(initial, json.loads(json.dumps(before.strategy.state_dict())))
    whole.round()
    assert after.round()[1]["epsilon"] == whole.round()[1]["epsilon"]
    other = federation(noise_multiplier=2.0, delta=1e-6)
    with pytest.raises(InputError, match=r"privacy: .*earlier releases do not fit"):
        other.strategy.load_state_dict(initial, before.strategy.state_dict())


def test_a_round_without_privacy_has_no_epsilon() -> None:
    plain = Federation(privacy=PrivacyConfig("none"))
    assert "epsilon" not in plain.round()[1]
    assert plain.strategy.state_dict().keys() == {"cost"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weighting": "examples"}, "strategy.weighting=examples: privacy=central_dp"),
        ({"clip_norm": 2.0}, "strategy.clip_norm=2: privacy.clipping_norm=0.1 clips"),
        (
            {"rule": Krum(num_malicious=1)},
            "privacy=central_dp: its noise is made for a mean, not for Krum; take rule=mean",
        ),
    ],
)
def test_what_does_not_go_with_privacy_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        Federation(privacy=private(), **options)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["privacy.delta=0.1"], "privacy.delta=0.1: must be null, or add privacy=central_dp"),
        (["privacy=central_dp", "privacy.delta=1"], "privacy.delta=1.0: must be between 0 and 1"),
        (
            ["privacy=central_dp", "privacy.noise_multiplier=0"],
            "privacy.noise_multiplier=0.0: must",
        ),
        (
            ["privacy=central_dp", "privacy.clipping_norm=null"],
            "privacy.clipping_norm=None: must be",
        ),
        (
            ["privacy=central_dp", "privacy.max_epsilon=-1"],
            "privacy.max_epsilon=-1.0: must be above",
        ),
    ],
)
def test_keys_that_cannot_be_are_named_in_one_line(overrides: list[str], words: str) -> None:
    with pytest.raises(InputError) as caught:
        compose_config(overrides)
    assert words in str(caught.value)


def test_the_mechanism_clips_what_the_configuration_says() -> None:
    """Its own defaults are those of privacy=central_dp."""
    config = compose_config(["privacy=central_dp"]).privacy
    dp = CentralDP(config)
    assert (dp.clipping_norm, dp.noise_multiplier, dp.delta, dp.max_epsilon) == (1, 1, 1e-5, None)
