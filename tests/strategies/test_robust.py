"""Robust rules against their definitions, alone and in a federation with hostile clients."""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, Message

from nufed.client_app.algorithm import clipped, norm
from nufed.conf.errors import InputError
from nufed.simulation.flower_host import open_run
from nufed.strategies.rules.krum import Krum
from nufed.strategies.rules.median import Median
from nufed.strategies.rules.robust import Robust
from nufed.strategies.rules.rule import TooFewUpdates
from nufed.strategies.rules.trimmed_mean import TrimmedMean
from tests.strategies.helpers import Federation, assert_arrays, expected

RULES = (TrimmedMean(0.2), Median(), Krum(num_malicious=1))


@pytest.fixture(autouse=True)
def _in_a_run() -> None:
    open_run()  # Flower's messages ask for one


def aggregated(rule: Robust, updates: np.ndarray) -> np.ndarray:
    """Give the rule updates [n, 6], as arrays of two shapes; return what comes out, [6]."""
    added = rule.begin()
    for row in torch.from_numpy(updates):
        added.add({"a": row[:4].reshape(2, 2), "b": row[4:]}, 1.0)
    value = added.value(torch.float64)
    return np.concatenate([value["a"].numpy().ravel(), value["b"].numpy()])


def krum_chooses(updates: np.ndarray, f: int, count: int) -> list[int]:
    """Blanchard et al. 2017, §3 by its words: least sum of squares to the n − f − 2 nearest."""
    n = len(updates)
    scores = [
        sum(sorted(((updates[i] - updates[j]) ** 2).sum() for j in range(n) if j != i)[: n - f - 2])
        for i in range(n)
    ]
    return sorted(np.argsort(scores)[:count].tolist())


@pytest.mark.parametrize("rule", RULES)
def test_where_clients_share_nothing_there_is_nothing_to_choose(rule: Robust) -> None:
    added = rule.begin()
    for _ in range(6):
        added.add({}, 1.0)
    assert added.value(torch.float64) == {}


@pytest.mark.parametrize(("n", "fraction", "cut"), [(10, 0.2, 2), (11, 0.3, 3), (7, 0.15, 1)])
def test_the_trimmed_mean_leaves_the_extremes_of_each_coordinate_out(
    n: int, fraction: float, cut: int
) -> None:
    updates = np.random.default_rng(0).normal(size=(n, 6)) * 10
    wanted = np.sort(updates, 0)[cut : n - cut].mean(0)
    got = aggregated(TrimmedMean(fraction), updates)
    assert got == pytest.approx(wanted, abs=1e-12)
    assert np.abs(wanted - updates.mean(0)).max() > 0.1


@pytest.mark.parametrize("n", [3, 8, 9])
def test_the_median_is_that_of_each_coordinate(n: int) -> None:
    updates = np.random.default_rng(1).normal(size=(n, 6))
    assert aggregated(Median(), updates) == pytest.approx(np.median(updates, 0), abs=1e-12)


@pytest.mark.parametrize(("f", "selected"), [(2, None), (2, 1), (1, 3), (0, None), (3, None)])
def test_krum_chooses_as_it_is_defined(f: int, selected: int | None) -> None:
    """Also where the updates are large beside their distances, which float32 would lose."""
    updates = np.random.default_rng(2).normal(size=(10, 6)) + 1e4
    updates[:f] -= 3
    chosen = krum_chooses(updates, f, selected or 10 - f)
    assert set(range(f)).isdisjoint(chosen)
    got = aggregated(Krum(f, selected), updates)
    assert got == pytest.approx(updates[chosen].mean(0), abs=1e-9)


def test_krum_on_a_set_whose_choice_is_plain() -> None:
    """n − f − 2 = 3 neighbours; 0.1 has 0.1² + 0.15² + 0.2² = 0.0725, 0.3 the next with 0.0825."""
    line = [0.0, 0.1, 0.25, 0.3, 0.5, 90.0, -80.0]
    updates = np.outer(line, np.ones(6))
    got = aggregated(Krum(2, 1), updates)
    assert got == pytest.approx(np.full(6, 0.1))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("num_supernodes", [1, 5])
def test_in_a_federation_every_update_counts_by_itself(rule: Robust, num_supernodes: int) -> None:
    """The model moves by what the rule makes of the clients' updates."""
    federation = Federation(rule=rule, num_supernodes=num_supernodes)
    arrays, metrics = federation.round()
    assert metrics is not None
    assert metrics["clients"] == 6
    updates = list(federation.updates().values())
    flat = np.stack([np.concatenate([p.numpy().ravel() for p in u.values()]) for u in updates])
    wanted = {
        TrimmedMean: np.sort(flat, 0)[1:-1].mean(0),
        Median: np.median(flat, 0),
        Krum: flat[krum_chooses(flat, 1, 5)].mean(0),
    }[type(rule)]
    before = np.concatenate([a.numpy().ravel() for a in federation.arrays.values()])
    after = np.concatenate([a.numpy().ravel() for a in arrays.values()])
    assert np.abs(before - after - wanted).max() < 1e-12


@pytest.mark.parametrize("rule", RULES)
def test_too_few_updates_for_a_rule_are_named_and_change_nothing(rule: Robust) -> None:
    federation = Federation(rule=rule)
    assert federation.round(lambda i, reply: reply if i < 2 else None) == (None, None)
    failures = federation.strategy.failures
    assert len(failures) == 6
    assert [f.reason for f in failures[2:]] == ["no reply in time"] * 4
    for failure in failures[:2]:
        assert f"{type(rule).__name__} needs" in failure.reason
        assert failure.reason.endswith("2 came")
    arrays, _ = federation.round()
    assert arrays is not None


def test_a_rule_alone_says_how_many_it_needs() -> None:
    with pytest.raises(TooFewUpdates, match=r"Krum needs 7 updates \(2f \+ 3 .*\), 6 came"):
        aggregated(Krum(2), np.zeros((6, 6)))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TrimmedMean(0.5), "rule.trimmed_fraction=0.5: must be above 0"),
        (lambda: TrimmedMean("x"), "rule.trimmed_fraction=x: must be above 0"),  # type: ignore[arg-type]
        (lambda: Krum(-1), "rule.num_malicious=-1: must be 0 or more"),
        (lambda: Krum(1, 0), "rule.num_selected=0: must be at least"),
    ],
)
def test_keys_of_a_rule_that_cannot_be_are_named_in_one_line(
    make: Callable[[], Robust], words: str
) -> None:
    with pytest.raises(InputError) as caught:
        make()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rule": TrimmedMean(0.1)}, "clients_per_round=6: TrimmedMean needs at least 10 (rule.tr"),
        ({"rule": Krum(2)}, "clients_per_round=6: Krum needs at least 7 (2f + 3 with rule.num_ma"),
        (
            {"rule": Median(), "weighting": "examples"},
            "strategy.weighting=examples: must be uniform; Median",
        ),
        ({"clip_norm": 0}, "strategy.clip_norm=0: must be above 0, such as 10, or null"),
        ({"max_norm": "big"}, "strategy.max_norm=big: must be above 0"),
        ({"max_norm": float("nan")}, "strategy.max_norm=nan: must be above 0"),
    ],
)
def test_what_does_not_go_together_is_named_in_one_line(
    options: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError) as caught:
        Federation(**options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def scaled(reply: Message, factor: float) -> Message:
    """The same reply, its update multiplied."""
    arrays = {name: array.numpy() * factor for name, array in reply.content["arrays"].items()}
    reply.content["arrays"] = ArrayRecord({n: torch.from_numpy(a) for n, a in arrays.items()})
    return reply


@pytest.mark.parametrize("num_supernodes", [1, 12])
def test_longer_updates_are_clipped_client_by_client(num_supernodes: int) -> None:
    federation = Federation(num_supernodes=num_supernodes, clip_norm=1e9)
    _, metrics = federation.round()
    assert metrics["clipped"] == 0
    updates = federation.updates()
    norms = {i: np.sqrt(sum(float((p**2).sum()) for p in u.values())) for i, u in updates.items()}
    bound = float(np.median(list(norms.values())))
    federation = Federation(num_supernodes=num_supernodes, clip_norm=bound)
    arrays, metrics = federation.round()
    assert metrics["clipped"] == sum(norm > bound for norm in norms.values()) == 3
    wanted = {
        name: array.numpy()
        - sum(min(1, bound / norms[i]) * updates[i][name].numpy() for i in updates) / 6
        for name, array in federation.arrays.items()
    }
    assert_arrays(arrays, wanted)


@pytest.mark.parametrize("size", [1e-20, 1.0, 1e30])
def test_a_clipped_update_has_the_norm_exactly_and_its_direction(size: float) -> None:
    update = {
        "a": torch.tensor([[3.0, 0.0]], dtype=torch.float64),
        "b": torch.tensor([-4.0]).double(),
    }
    large = {name: p * size for name, p in update.items()}
    short = clipped(large, norm(large), 0.5 * size)
    assert torch.cat([short["a"].ravel(), short["b"]]).numpy() == pytest.approx(
        np.array([0.3, 0.0, -0.4]) * size, rel=1e-14
    )


@pytest.mark.parametrize("factor", [1e6, 1e30, 1e200])
def test_an_absurd_update_is_dropped_and_named(factor: float) -> None:
    """Finite, but no honest client's: the model is the mean of the others."""
    federation = Federation()
    arrays, _ = federation.round(lambda i, r: scaled(r, factor) if i == 2 else r)
    (failure,) = federation.strategy.failures
    assert "above strategy.max_norm=1000" in failure.reason
    good = dict.fromkeys(set(federation.updates()) - {failure.client}, 1.0)
    assert_arrays(arrays, expected(federation, good))


def test_without_a_limit_a_finite_update_is_taken_as_it_is() -> None:
    federation = Federation(max_norm=None)
    arrays, _ = federation.round(lambda i, r: scaled(r, 1e30) if i == 2 else r)
    assert federation.strategy.failures == []
    assert max(np.abs(array.numpy()).max() for array in arrays.values()) > 1e20


@pytest.mark.parametrize("rule", [Median(), TrimmedMean(0.3)])
def test_two_liars_of_seven_cannot_leave_the_range_of_the_honest(rule: Robust) -> None:
    """Whichever two they are; a mean would follow them."""
    honest = np.random.default_rng(3).normal(size=(7, 6))
    for liars in combinations(range(7), 2):
        updates, rest = honest.copy(), np.delete(honest, liars, 0)
        updates[list(liars)] *= -1e3
        got = aggregated(rule, updates)
        assert (got >= rest.min(0)).all()
        assert (got <= rest.max(0)).all()
