"""docs/benchmarks.md: what was measured, when and at which commit, and not long ago."""

import subprocess
from pathlib import Path

import pytest

from benchmarks import report, results_file
from benchmarks.__main__ import DOCUMENT, RESULTS
from benchmarks.contenders import ROUNDS
from benchmarks.machine import ROOT
from benchmarks.outcome import Line, Row
from benchmarks.results_file import Results
from benchmarks.workloads import WORKLOADS

COMMITS = 40
"""Commits that may have changed simulation/ since a row of the table was measured."""
MACHINES = results_file.read_all(ROOT / RESULTS)


def git(*arguments: str, root: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True)


def behind(commit: str | None, root: Path = ROOT) -> int:
    """Return how many commits have changed simulation/ since one that HEAD descends from."""
    if commit is None:
        raise ValueError("measured outside a checkout")
    begun = commit.removesuffix("-dirty")
    if git("merge-base", "--is-ancestor", begun, "HEAD", root=root).returncode != 0:
        raise ValueError(f"{begun} is not in the history of HEAD")
    return int(git("rev-list", "--count", f"{begun}..HEAD", "--", "simulation/", root=root).stdout)


def row(date: str, commit: str | None) -> Row:
    return Row("t", [Line("a", {"wall_s": 1.0})], 1, 1, 0.0, date, "2", commit)


def test_the_document_is_what_the_results_say() -> None:
    assert (ROOT / DOCUMENT).read_text() == report.markdown(MACHINES, WORKLOADS)


def test_the_document_says_how_long_the_run_is_that_the_engine_chooses_for() -> None:
    assert f"run of {ROUNDS:,} rounds" in report.INTRODUCTION


def test_no_row_is_older_than_so_many_changes_of_the_engine() -> None:
    if git("rev-parse", "--is-shallow-repository").stdout.strip() != "false":
        pytest.skip("no checkout with its history: the age of the table is not known")
    rows = {name: row for machine in MACHINES for name, row in machine.rows.items()}
    ages = {name: behind(row.commit) for name, row in rows.items()}
    old = {name: age for name, age in ages.items() if age > COMMITS}
    assert not old, "measure them again: make bench"


def test_only_changes_of_the_engine_make_the_table_older(tmp_path: Path) -> None:
    git("init", "-q", root=tmp_path)
    (tmp_path / "simulation").mkdir()

    def change(file: str) -> str:
        (tmp_path / file).touch()
        git("add", "-A", root=tmp_path)
        who = "-c", "user.name=a", "-c", "user.email=a@b"
        done = git(*who, "commit", "-q", "-m", file, root=tmp_path)
        assert done.returncode == 0, done.stderr
        return git("rev-parse", "--short", "HEAD", root=tmp_path).stdout.strip()

    first = change("a")
    change("simulation/b")
    second = change("c")
    change("simulation/d")
    assert behind(first, tmp_path) == behind(f"{first}-dirty", tmp_path) == 2
    assert behind(second, tmp_path) == 1
    with pytest.raises(ValueError, match="not in the history"):
        behind("0123abc", tmp_path)


def test_the_table_says_machine_date_and_commit() -> None:
    once = {"mlp10": row("2026-01-02", "abc1234")}
    text = report.markdown([Results("box", {"cpu": "A", "cores": 2}, once)], WORKLOADS)
    assert "## box\n\ncpu: A, cores: 2; measured 2026-01-02 at commit abc1234.\n" in text
    twice = [row("2026-01-02", "abc"), row("2026-01-01", "def-dirty")]
    assert report.measured(twice) == "measured 2026-01-01 to 2026-01-02 at commits abc, def-dirty"
