"""What is read from a run of `nufed`."""

import pytest

from benchmarks.child import ChildFailed, Run, imports_in, nufed

PRINTED = """\
import time: self [us] | cumulative | imported package
import time:       200 |        200 |   zipimport
import time:   1500000 |    1500200 | torch
some other line | 300
"""


def test_the_first_round_does_not_count() -> None:
    rows = [{"round": 0}]
    rows += [
        {"round": i, "train_s": s, "train_cpu_s": 2 * s} for i, s in enumerate([9, 1, 5, 2], 1)
    ]
    run = Run(rows, first_round_s=10.0, cpu_s=1.0, peak_rss_gb=1.0, output="")
    assert run.round_s() == 2.0
    assert run.round_cpu_s() == 4.0


def test_imports_are_summed_without_what_they_import_themselves() -> None:
    assert imports_in(PRINTED) == pytest.approx(1.5002)


def test_a_command_that_fails_says_why() -> None:
    with pytest.raises(ChildFailed, match="round"):
        nufed(["rounnds=1"])
