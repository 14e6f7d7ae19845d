"""What is printed, and raised."""

import subprocess
import sys
from pathlib import Path

import pytest

from nufed.conformance import check
from tests.conformance import right, wrong

ROOT = Path(__file__).parents[2]


def test_a_report_says_what_failed_and_what_to_do() -> None:
    report = check(wrong.by_data, evaluate=right.of_accuracy)
    text = str(report)
    assert not report.passed
    assert max(map(len, text.splitlines())) <= 100
    rows = [line.split() for line in text.splitlines()]
    assert ["gradient", "network,", "ν=1", "FAIL"] in [row[:4] for row in rows]
    assert ["w", "restored", "network,", "ν=3", "pass"] in [row[:5] for row in rows]
    assert text.count("create_graph=True") == 1, "once for four findings"
    assert text.count("FAIL") == 5


def test_a_failure_is_one_line_of_a_test() -> None:
    check(right.functional, nu=[1]).raise_for_failures()
    with pytest.raises(AssertionError, match=r"gradient +network, ν=1 +FAIL"):
        check(wrong.by_data, nu=[1]).raise_for_failures()


def test_what_nothing_is_told_of_has_not_passed() -> None:
    report = check(draw=lambda x, y: ((x, y), (x, y)))
    assert not report.failures
    assert not report.passed
    with pytest.raises(AssertionError, match="the support batches take all rows"):
        report.raise_for_failures()


def test_text_of_others_steers_no_terminal() -> None:
    def step(*given):
        raise ValueError("\x1b[2Jgone [bold]")

    text = str(check(step))
    assert "\x1b" not in text
    assert r"\x1b[2Jgone [bold]" in text


def test_the_kit_needs_torch_alone_until_it_prints() -> None:
    code = (
        "import sys, torch, nufed.conformance\n"
        "others = {'flwr', 'hydra', 'omegaconf', 'rich', 'sklearn', 'matplotlib', 'torchvision'}\n"
        "print(*others & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == ([], "")
