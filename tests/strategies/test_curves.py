"""Statistics over clients, by hand."""

import numpy as np
import pytest

from strategies.curves import summarize


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
