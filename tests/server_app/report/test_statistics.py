"""Intervals, paired differences and rounds to a target, against hand calculation."""

import math

import numpy as np
import pytest

from nufed.server_app.report.statistics import (
    interval,
    paired,
    rounds_to,
    rounds_to_tell,
    saving,
    smooth,
    still_rises,
)
from nufed.tasks.possible import POSITIVE, SHARE


def test_the_interval_is_students() -> None:
    """For 1 … 5: mean 3, standard error √(2.5/5), t(0.975, 4) = 2.776445."""
    half = 2.776445 * math.sqrt(0.5)
    assert interval([1, 2, 3, 4, 5]) == pytest.approx((3, 3 - half, 3 + half), abs=1e-5)
    assert interval([1, 2, 3, 4, 5]).decided
    assert not interval([-1, 2, -3, 4, 5]).decided


def test_an_interval_ends_where_what_it_is_of_does() -> None:
    """Of three accuracies by hand; all 1 leave a point, and one alone has none to be cut."""
    half = 4.302653 * 0.1 / math.sqrt(3)
    cut = interval([0.8, 0.9, 1.0]).within(SHARE)
    assert cut == pytest.approx((0.9, 0.9 - half, 1.0), abs=1e-5)
    assert interval([1.0, 1.0, 1.0]).within(SHARE) == (1.0, 1.0, 1.0)
    assert interval([0.0, 1.0]).within(SHARE) == (0.5, 0.0, 1.0)
    assert interval([0.01, 0.2]).within(POSITIVE).low == 0
    assert interval([0.9]).within(SHARE) == (0.9, -math.inf, math.inf)


def test_it_holds_the_true_mean_95_times_of_100() -> None:
    draws = np.random.default_rng(0).normal(2.0, 3.0, size=(4000, 5))
    held = [low <= 2.0 <= high for _, low, high in map(interval, draws)]
    assert np.mean(held) == pytest.approx(0.95, abs=0.015)


def test_one_seed_decides_nothing() -> None:
    assert interval([0.7]) == (0.7, -math.inf, math.inf)
    assert not interval([0.7]).decided


def test_what_seeds_have_in_common_is_no_part_of_a_difference() -> None:
    """Unpaired, a spread of 100 between seeds would hide that each gained 1."""
    theirs = np.array([0.0, 100.0, 300.0])
    assert paired(theirs + 1, theirs) == pytest.approx((1, 1, 1))


def test_a_target_is_reached_when_three_evaluations_in_a_row_are_there_in_the_mean() -> None:
    curve = np.array([0.0, 0.9, 0.0, 0.3, 0.6, 0.9])
    assert smooth(curve) == pytest.approx([0, 0.45, 0.3, 0.4, 0.3, 0.6])
    rounds = [0, 10, 20, 30, 40, 50]
    assert rounds_to(rounds, curve, 0.3) == 20
    assert rounds_to(rounds, curve, 0.45) == 50  # not of two evaluations, whose mean it is
    assert rounds_to(rounds, curve, 0.5) == 50
    assert rounds_to(rounds, curve, 0.7) == math.inf


def test_one_evaluation_at_the_start_is_not_three() -> None:
    lucky = np.array([0.9, 0.0, 0.0, 0.0])
    assert rounds_to([0, 10, 20, 30], lucky, 0.5) == math.inf
    assert rounds_to([0, 10, 20, 30], lucky, 0.3) == 20
    assert rounds_to([0, 10], lucky[:2], 0.45) == 10  # there are no more
    assert rounds_to([0, 10], lucky[:2], 0.5) == math.inf


def test_what_a_run_has_from_its_start_took_no_round() -> None:
    """So nobody saved anything: there was nothing to train for."""
    curve = np.array([0.6, 0.7, 0.6, 0.9])
    assert rounds_to([0, 10, 20, 30], curve, 0.6) == 0
    assert rounds_to([0, 10, 20, 30], curve, 0.61) == 20
    assert saving([10, 0], [20, 0], 30) is None


def test_a_saving_is_seed_by_seed_and_none_where_a_run_never_got_there() -> None:
    fewer = saving([50, 20], [100, 100], 200)
    assert fewer is not None
    assert fewer.percent.mean == pytest.approx(65)
    assert fewer.text().startswith("+65 [")
    assert saving([50, math.inf], [100, 100], 200) is None
    assert saving([50, 0], [100, 0], 200) is None


def test_where_the_other_never_got_there_it_is_at_least_so_much() -> None:
    """As if it had at the end of its 200 rounds: 50% of the first seed, 75% of the second."""
    fewer = saving([50, 50], [100, math.inf], 200)
    assert fewer is not None
    assert fewer.percent.mean == pytest.approx(62.5)
    assert fewer.censored == 1
    assert fewer.text().startswith("at least +62 [")


@pytest.mark.parametrize(("scale", "needed"), [(40, 140), (50, 180)])
def test_rounds_that_would_tell_are_those_of_the_exponential_that_a_curve_is(
    scale: float, needed: int
) -> None:
    """1 − exp(−t/T), evaluated every ten of 100 rounds: how long until its rise is told no more."""

    def approach(rounds: int) -> np.ndarray:
        return 1 - np.exp(-np.arange(0, rounds + 1, 10) / scale)

    found = rounds_to_tell(range(0, 101, 10), approach(100))
    assert found is not None
    assert not still_rises(approach(needed))
    assert still_rises(approach(needed - 10))
    assert abs(found - needed) <= 10
    units = rounds_to_tell(range(0, 101, 10), 7 * approach(100) - 3)
    assert units == found, "whatever the units"


def test_of_a_curve_without_an_end_in_sight_twice_the_rounds_are_named() -> None:
    straight = np.arange(6) / 10
    assert rounds_to_tell(range(0, 51, 10), straight) == 100
    assert rounds_to_tell(range(0, 1201, 240), straight) == 2400
    slow = 1 - np.exp(-np.arange(0, 101, 10) / 400)
    assert rounds_to_tell(range(0, 101, 10), slow) == 200
    assert rounds_to_tell(range(0, 1234, 137), 1 - np.exp(-np.arange(10) / 40)) == 2500, "of 1,233"
    assert rounds_to_tell(range(0, 51, 10), np.array([0.0, 0.8, 0.9, 0.9, 0.9, 0.9])) is None
    assert rounds_to_tell([0, 10, 20], straight[:3]) is None
