"""Batches that a client draws: the query's rows are not the support's by more than chance."""

import pytest
import torch

from nufed.conformance import check
from nufed.conformance.drawing import CALLS, FALSE_ALARM
from tests.conformance.test_steps import failed


def independent(x, y):
    support, query = (torch.randperm(len(x))[:20] for _ in range(2))
    return (x[support], y[support]), (x[query], y[query])


def apart(x, y):
    order = torch.randperm(len(x))
    support, query = order[:60].split(20), order[60:80]
    return [(x[rows], y[rows]) for rows in support], (x[query], y[query])


def with_repetition(x, y):
    support, query = torch.randint(len(x), (2, 20))
    return (x[support], y[support]), (x[query], y[query])


def the_same(x, y):
    support, _ = independent(x, y)
    return support, support


def halves_shared(x, y):
    """Half of the query rows are support rows."""
    order = torch.randperm(len(x))
    return (x[order[:20]], y[order[:20]]), (x[order[10:30]], y[order[10:30]])


def shots(x, y):
    """Five rows of each class for support, five others for the query."""
    by_class = [torch.where(y == c)[0] for c in y.unique()]
    drawn = [rows[torch.randperm(len(rows))[:10]] for rows in by_class]
    support, query = (torch.cat([rows[of] for rows in drawn]) for of in (slice(5), slice(5, 10)))
    return (x[support], y[support]), (x[query], y[query])


def scaled(x, y):
    return independent(x / 255, y)


def scaled_the_same(x, y):
    return the_same(x / 255, y)


@pytest.mark.parametrize("draw", [independent, with_repetition, apart, shots, scaled])
def test_what_is_right_passes_whatever_the_seed(draw) -> None:
    for seed in range(15):
        report = check(draw=draw, seed=seed)
        assert report.passed, str(report)
    shared = report.findings[0].figure
    assert shared == 0 if draw in (apart, shots) else abs(shared - 0.1) < 0.05


@pytest.mark.parametrize(
    ("draw", "share"), [(the_same, 1.0), (halves_shared, 0.5), (scaled_the_same, 1.0)]
)
def test_shared_rows(draw, share: float) -> None:
    report = check(draw=draw)
    assert failed(report) == {"draws"}
    assert report.failures[0].figure == share


def test_the_least_that_is_seen() -> None:
    """Of 50 calls of 20 rows, where chance is 10%: 16%, and not 14%."""
    from nufed.conformance.drawing import _finding

    assert _finding(0.14, 0.1, CALLS * 20).passed
    assert _finding(0.16, 0.1, CALLS * 20).passed is False
    assert FALSE_ALARM == 1e-6


def test_support_that_takes_all_rows() -> None:
    (finding,) = check(draw=lambda x, y: ((x, y), (x[:5], y[:5]))).findings
    assert (finding.passed, finding.figure) == (None, 1.0)
