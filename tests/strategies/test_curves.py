"""Statistics over clients, by hand."""

import numpy as np
import pytest

from nufed.strategies.curves import exists, missing, rises, say_undefined, summarize


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


def test_who_has_no_such_metric_is_left_out_and_who_diverged_is_not() -> None:
    """Of three clients, the last has no AUROC at k = 0; at k = 1 nobody, and the first diverged."""
    nan = np.nan
    auroc = np.array([[0.5, nan], [0.9, nan], [nan, nan]])
    loss = np.array([[1.0, nan], [2.0, 3.0], [4.0, 5.0]])
    found = summarize({"auroc": auroc, "loss": loss})
    assert found["auroc"] == pytest.approx([0.7, nan], nan_ok=True)
    assert found["auroc_std"] == pytest.approx([0.2, nan], nan_ok=True)
    assert found["auroc_worst_decile"] == pytest.approx([0.5, nan], nan_ok=True)
    assert found["auroc_bottom"] == pytest.approx([0.5, nan], nan_ok=True)
    assert found["auroc_undefined"] == [1, 2]
    assert found["loss"] == pytest.approx([7 / 3, nan], nan_ok=True)
    assert "loss_undefined" not in found
    assert np.isnan(found["loss_bottom"][1])
    auroc[0, 1] = 0.4  # a metric of a model that diverged counts, and so does one that is NaN
    assert summarize({"auroc": auroc, "loss": loss})["auroc"][1] == 0.4
    all_there = summarize({"auroc": np.nan_to_num(auroc), "loss": np.ones((3, 2))})
    assert "auroc_undefined" not in all_there


def test_what_does_not_exist_is_counted_and_said() -> None:
    curves = {"clients": 40, "auroc": [0.5, None], "auroc_undefined": [3, 40], "loss": [1, 2]}
    assert [missing(curves, "auroc", k) for k in (0, 1)] == [3, 40]
    assert [exists(curves, "auroc", k) for k in (0, 1)] == [True, False]
    assert exists(curves, "loss")
    row = {"participating": curves, "new": curves | {"clients": 9, "auroc_undefined": [2, 2]}}
    assert say_undefined(row | {"undefined": {"auroc": ["no row of class 1"]}}) == [
        "auroc is undefined for 40 of 40 participating and 2 of 9 new clients (no row of class 1); "
        "its figures are of the others"
    ]
    assert say_undefined({"new": {"clients": 2, "loss": [1.0]}}) == []
