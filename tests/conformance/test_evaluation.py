"""An evaluation: whichever way it tells what it measured, a step on test rows is seen."""

from math import comb

import pytest
import torch
import torch.nn.functional as F

from nufed.conformance import check
from nufed.conformance.drawing import FALSE_ALARM
from nufed.conformance.evaluation import at_least
from tests.conformance import right, wrong
from tests.conformance.test_steps import failed, images

FIGURES = [right.of_percent, right.of_count, right.of_two_digits, right.of_curve_as_tensor]
MEASURES = [
    *FIGURES,
    right.of_each_row,
    right.with_others,
    right.of_accuracy,
    right.of_all,
    right.of_curve,
    right.of_error,
    right.of_loss,
    right.of_outputs,
    right.of_model,
    right.in_place,
]


@pytest.mark.parametrize("measure", [*MEASURES, right.transductive])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_what_is_right_passes(measure, dtype: torch.dtype) -> None:
    for seed in range(3):
        report = check(evaluate=measure, nu=(1, 3), dtype=dtype, seed=seed)
        assert all(each.passed for each in report.findings), str(report)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("rows", [None, 4])
def test_a_step_on_test_rows_is_seen(measure, rows: int | None) -> None:
    """All of them, or a tenth."""
    for seed in range(3):
        report = check(evaluate=wrong.tuned_on_test(measure, rows), seed=seed)
        assert failed(report) == {"test rows"}, str(report)
        assert "fine-tuning step is taken on test rows" in report.failures[0].says


def test_a_step_on_test_rows_alone() -> None:
    """By accuracy alone: of each row for more than one of four labels, where one can be right."""
    report = check(evaluate=wrong.test_for_support)
    assert failed(report) == {"test rows"}
    assert report.failures[0].figure > 3
    assert report.findings[-1].passed is None, "whether it adapts is another question"


@pytest.mark.parametrize("evaluate", [wrong.best_step, wrong.best_alpha])
def test_the_best_of_several_by_test_rows(evaluate) -> None:
    for seed in range(3):
        assert failed(check(evaluate=evaluate, seed=seed)) == {"test rows"}


@pytest.mark.parametrize("measure", [right.of_percent, right.of_count, right.with_others])
def test_all_rows_right_whatever_their_labels(measure) -> None:
    """A figure that never changes is told from one of other rows."""

    def evaluate(model, loss_fn, support, test, alpha):
        return measure(model, loss_fn, 30 * [test], test, alpha)

    report = check(evaluate=evaluate)
    assert failed(report) == {"test rows"}
    assert report.failures[0].figure > 1.5


def test_a_loss_of_each_row() -> None:
    assert check(evaluate=right.of_each_loss).passed
    leaking = check(evaluate=wrong.tuned_on_test(right.of_each_loss))
    assert failed(leaking) == {"test rows"}


def test_a_score_that_is_no_mean_over_rows_is_not_told() -> None:
    report = check(evaluate=right.of_classes)
    assert not report.failures, str(report)
    assert report.findings[0].passed is None or report.passed


@pytest.mark.parametrize("evaluate", [wrong.in_the_model_itself])
def test_a_shared_model_that_is_left_changed(evaluate) -> None:
    report = check(evaluate=evaluate)
    assert failed(report) == {"model kept"}
    assert "the next client" in report.failures[0].says


def test_running_statistics_that_an_evaluation_leaves() -> None:
    given = {"model": Normed, "rows": images(), "loss_fn": F.cross_entropy, "alpha": 0.05}
    assert "model kept" not in failed(check(evaluate=right.of_accuracy, **given))
    assert "model kept" in failed(check(evaluate=wrong.statistics, **given))


class Normed(torch.nn.Sequential):
    """A model with running statistics, of small images."""

    def __init__(self) -> None:
        parts = torch.nn.Flatten(), torch.nn.LazyLinear(6), torch.nn.BatchNorm1d(6)
        super().__init__(*parts, torch.nn.Linear(6, 5))
        self(images()[0])


def test_an_evaluation_that_does_not_adapt() -> None:
    assert failed(check(evaluate=wrong.not_adapted)) == {"adapts"}


def test_a_regression() -> None:
    assert check(evaluate=right.of_loss, loss_fn=F.mse_loss).passed
    assert check(evaluate=right.of_root, loss_fn=F.mse_loss).passed
    leaking = check(evaluate=wrong.tuned_on_test(right.of_loss), loss_fn=F.mse_loss)
    assert failed(leaking) == {"test rows"}
    assert leaking.failures[0].figure > 0.01


def test_random_numbers_of_its_own_are_not_taken_for_a_leak() -> None:
    """Each seed is another evaluation; nothing may fail, though accuracies never repeat."""
    by_chance = 0
    for seed in range(25):
        report = check(evaluate=right.Drawing(seed), seed=seed, nu=[1])
        assert report.passed, str(report)
        by_chance += "by chance" in report.findings[0].expected
    assert by_chance > 12


def test_random_numbers_of_its_own_do_not_hide_a_leak() -> None:
    for seed in range(5):
        report = check(evaluate=wrong.Drawing(seed), seed=seed, nu=[1])
        assert failed(report) == {"test rows"}
        assert "Probability of that by chance: " in report.failures[0].says
        assert report.failures[0].figure > 0.5


@pytest.mark.parametrize("measure", [right.of_outputs, right.of_loss])
def test_random_outputs_and_losses_are_not_told(measure) -> None:
    drawing = right.Drawing(0)

    def evaluate(model, loss_fn, support, test, alpha):
        return measure(model, loss_fn, list(drawing.support(support)), test, alpha)

    report = check(evaluate=evaluate)
    assert report.findings[0].passed is None
    assert "Seed them in evaluate" in report.findings[0].says


def test_the_binomial_tail_is_exact() -> None:
    for right_, rows in ((0, 5), (3, 5), (5, 5), (130, 400)):
        exact = sum(comb(rows, k) * 3 ** (rows - k) for k in range(right_, rows + 1)) / 4**rows
        assert at_least(right_, rows, 0.25) == pytest.approx(exact, rel=1e-9)
    assert at_least(142, 400, 0.25) > FALSE_ALARM > at_least(147, 400, 0.25)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("0.9", "returned str: return figures, outputs or a model"),
        ({}, "returned nothing to look at"),
        (float("nan"), "returned a figure that is not finite"),
    ],
)
def test_what_cannot_be_read_is_a_finding(value: object, message: str) -> None:
    report = check(evaluate=lambda *given: value)
    assert failed(report) == {"test rows"}
    assert message in str(report)
