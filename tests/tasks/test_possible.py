"""Between what metrics are: no interval says that an accuracy may be above 1."""

from typing import Any

import pytest
import torch
import torchmetrics

from nufed.conf.schema import TaskConfig
from nufed.tasks.possible import CORRELATION, KNOWN, POSITIVE, SHARE, Limits, limits


@pytest.mark.parametrize(
    ("entry", "wanted"),
    [
        ("torchmetrics.classification.MulticlassAccuracy", SHARE),
        ({"_target_": "torchmetrics.functional.classification.multiclass_f1_score"}, SHARE),
        ("torchmetrics.MatthewsCorrCoef", CORRELATION),
        ("torchmetrics.R2Score", Limits(high=1)),
        ("torch.nn.functional.l1_loss", POSITIVE),
        ("torch.nn.SmoothL1Loss", POSITIVE),
        ("torch.nn.functional.gaussian_nll_loss", Limits()),
        ("mine.Accuracy", Limits()),
        (None, Limits()),
    ],
)
def test_limits_are_known_by_name(entry: Any, wanted: Limits) -> None:
    assert limits(TaskConfig(metrics={"mine": entry}), "mine") == wanted


def test_what_is_reported_unasked_has_limits() -> None:
    plain = TaskConfig()
    assert [limits(plain, name) for name in ("accuracy", "mae", "loss")] == [
        *(SHARE, POSITIVE, POSITIVE)
    ]
    own = TaskConfig(loss="mine.loss", metrics={"accuracy": "mine.percent"})
    assert limits(own, "loss") == limits(own, "accuracy") == Limits(), "a name says nothing"
    assert SHARE.of_differences == CORRELATION
    assert POSITIVE.of_differences == Limits()


def test_names_are_of_what_there_is() -> None:
    there = {
        name.replace("_", "").lower()
        for module in (torch.nn, torch.nn.functional, torchmetrics, torchmetrics.classification)
        for name in [*dir(module), *dir(torchmetrics.regression)]
    }
    assert KNOWN.keys() - there == set()
