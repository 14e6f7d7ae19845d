"""The attack that docs/robustness.md is about, in short: half as many rounds, one seed."""

import pytest

from benchmarks.attack import (
    MEAN,
    POINTS,
    RULES,
    SETTING,
    Case,
    Outcome,
    loss_of_accuracy,
    run,
    table,
)

SHORT = (*SETTING, "rounds=30")


@pytest.fixture(scope="module")
def outcomes() -> dict[Case, Outcome]:
    """Plain averaging without and with two hostile clients of ten; the rules with them."""
    clean = Case("digits", "iid", MEAN, False, 0)
    attacked = [clean._replace(strategy=name, attacked=True) for name in (MEAN, *RULES)]
    return {case: run(case, SHORT) for case in (clean, *attacked)}


@pytest.mark.parametrize("rule", RULES)
def test_new_clients_of_a_robust_rule_lose_three_points_at_most(
    outcomes: dict[Case, Outcome], rule: str
) -> None:
    (case,) = [case for case in outcomes if case.strategy == rule]
    assert outcomes[case].accuracy > 0.75  # a class in ten by chance
    assert loss_of_accuracy(outcomes, case) <= POINTS


def test_plain_averaging_is_lost(outcomes: dict[Case, Outcome]) -> None:
    clean, attacked = (outcome for case, outcome in outcomes.items() if case.strategy == MEAN)
    assert attacked.accuracy < 0.5 < clean.accuracy
    assert attacked.loss > 10 * clean.loss


def test_the_table_says_mean_spread_and_who_held() -> None:
    """Two seeds: 0.90 and 0.80 clean, one and four points lost."""
    ends = {(MEAN, False): (0.9, 0.8), (MEAN, True): (0.1, 0.3)}
    ends |= {("krum", False): (0.9, 0.7), ("krum", True): (0.89, 0.76)}
    of = {
        Case("digits", "iid", strategy, attacked, seed): Outcome(accuracy, 2.0)
        for (strategy, attacked), both in ends.items()
        for seed, accuracy in enumerate(both)
    }
    row = table(of).splitlines()[-1]
    assert row == (
        "| digits, iid | krum | 0.800 ± 0.100 | 0.825 ± 0.065 | 2 | 2.5 ± 1.5 "
        "| yes (1 of 2 seeds) |"
    )
