"""Metrics that an evaluation's reply may have, and that a SuperNode may not make up."""

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from flwr.app import Message

from nufed.client_app.messages import EvaluateReport, MalformedMessage
from nufed.client_app.wire import encode
from nufed.strategies.replies import read_curves


def reply(*metrics: str) -> Message:
    """Return a reply of client 3 with these metrics, which are 0, 1, … after each of two steps."""
    values = [float(i) for i in range(len(metrics)) for _ in range(2)]
    report = EvaluateReport([3], list(metrics), values, [], [], [])
    return cast("Message", SimpleNamespace(content=encode(report)))  # all that is looked at


def test_metrics_of_a_run_are_read() -> None:
    many = [f"m{i}" for i in range(998)]
    report, curves = read_curves(reply("loss", "a" * 100, *many), [3], 2)
    assert len(report.metrics) == 1000
    assert np.array_equal(curves[3]["a" * 100], [1, 1])


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        (["k"], "metric k: the name is taken"),
        (["clients"], "metric clients: the name is taken"),
        (["rows"], "metric rows: the name is taken"),
        (["loss_std"], "metric loss_std: the name is taken"),
        (["x_worst_decile"], "metric x_worst_decile: the name is taken"),
        (["x_bottom"], "metric x_bottom: the name is taken"),
        (["x_undefined"], "metric x_undefined: the name is taken"),
        (["a" * 101], "metric a{20}… has 101 characters; at most 100"),
        (["a" * 10**7], "metric a{20}… has 10000000 characters; at most 100"),
        ([f"m{i}" for i in range(1000)], "1001 metrics; at most 1000"),
    ],
    ids=lambda given: given[0][:20] if isinstance(given, list) else "",
)
def test_metrics_that_no_run_has_are_refused(metrics: list[str], words: str) -> None:
    with pytest.raises(MalformedMessage, match=words) as caught:
        read_curves(reply("loss", *metrics), [3], 2)
    assert len(str(caught.value)) < 200
