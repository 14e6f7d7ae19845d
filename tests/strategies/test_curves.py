"""Statistics over clients, by hand."""

import numpy as np
import pytest

from strategies.curves import rises, summarize


def test_summary_of_eleven_clients() -> None:
    """The worst tenth of 11 clients are 2: the lowest accuracies, the highest losses."""
    accuracy = np.array([[a / 10, 1 - a / 10] for a in range(11)])
    summary = summarize({"accuracy": accuracy, "loss": 2 * accuracy})
    assert summary["accuracy"] == pytest.approx([0.5, 0.5])
    assert summary["accuracy_std"] == pytest.approx([np.sqrt(0.1)] * 2)
    assert summary["accuracy_worst_decile"] == pytest.approx([0.05, 0.05])
    assert summary["accuracy_bottom"] == pytest.approx([0.0, 0.0])
    assert summary["loss_worst_decile"] == pytest.approx([1.9, 1.9])
    assert summary["loss_bottom"] == pytest.approx([2.0, 2.0])


@pytest.mark.parametrize(
    ("curve", "lower", "expected"),
    [
        ([0.2, 0.4, 0.6, 0.8], False, True),
        ([0.2, 0.7, 0.8, 0.8], False, False),
        ([0.2, 0.5, 0.7, 0.8], False, True),  # 0.1, half of 0.2
        ([0.80, 0.80, 0.80, 0.81], False, False),  # may be noise
        ([0.8, 0.6, 0.4, 0.2], False, False),
        ([0.8, 0.6, 0.4, 0.2], True, True),
        ([0.2, float("nan"), 0.6], False, False),
        ([0.2, 0.8], False, False),
    ],
)
def test_a_curve_that_still_rises(curve: list[float], lower: bool, expected: bool) -> None:
    assert rises(curve, lower_is_better=lower) is expected


def test_what_is_not_finite_is_the_worst() -> None:
    values = np.array([[0.5], [np.nan], [0.9]])
    for lower in (set(), {"f1"}):
        assert np.isnan(summarize({"f1": values}, lower)["f1_bottom"]).all()
