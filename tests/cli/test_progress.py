"""`progress`: what is shown of a run, and of the runs of a sweep."""

from pathlib import Path

import pytest

from tests.cli.in_process import TINY, sweeps

SWEPT = ["-m", *TINY, "seed=0,1", "rounds=2", "evaluation.every=2"]


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """Return what sweeps printed, on stdout and on stderr, by `progress`."""
    of = {how: [*SWEPT, f"progress={how}"] for how in ("lines", "bar", "none", "loud")}
    ended = sweeps(of, tmp_path_factory.mktemp("progress"))
    return {how: (done.out, done.err) for how, (done, _) in ended.items()}


def test_a_line_a_run_where_nothing_else_is_shown(printed: dict[str, tuple[str, str]]) -> None:
    lines = printed["none"][0].splitlines()
    runs = [line for line in lines if "of new clients" in line]
    assert [f"seed={seed} " in line for seed, line in enumerate(runs)] == [True, True]
    assert all(Path(line[:-1].rpartition("(")[2]).is_dir() for line in runs)
    assert "round" not in printed["none"][0].replace("rounds=2", "")
    assert "curvature" not in "".join(printed["none"])


def test_lines_and_a_bar_are_shown_where_they_are_asked_for(
    printed: dict[str, tuple[str, str]],
) -> None:
    assert printed["lines"][0].count("round 2/2") == 2
    assert "\x1b[" not in printed["lines"][0]
    assert "\x1b[" in printed["bar"][0]
    assert "round 2/2" not in printed["bar"][0]


def test_another_word_is_refused(printed: dict[str, tuple[str, str]]) -> None:
    assert "progress=loud: must be auto | bar | lines | none" in printed["loud"][1]
