"""`python -m benchmarks`, on a workload that takes a second."""

import json
from functools import partial
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.contenders import EAGER, ONE_BY_ONE, PLAIN, batched, one_by_one, plain_loop
from benchmarks.outcome import Line, Row, Target
from benchmarks.report import verdict
from benchmarks.workload import Effort, Workload
from benchmarks.workloads import WORKLOADS
from benchmarks.workloads.training import training

NAMES = [workload.name for workload in WORKLOADS]


def broken(effort: Effort, repeats: int) -> list[Line]:
    raise RuntimeError("no luck")


@pytest.fixture
def workloads(tiny: tuple[str, ...]) -> list[Workload]:
    makers, sure = (plain_loop, one_by_one, batched), {ONE_BY_ONE: 1e-9, EAGER: 1e9}
    return [
        Workload("one", "first", 5, partial(training, tiny, 4, makers, sure)),
        Workload("two", "second", 3, partial(training, tiny, 2, makers[:2], {})),
        Workload("broken", "third", 3, broken),
        Workload("far", "fourth", 3, broken, needs="a GPU"),
    ]


def read(root: Path) -> tuple[dict[str, dict[str, object]], str]:
    (file,) = (root / "benchmarks/results").glob("*.json")
    return json.loads(file.read_text())["rows"], (root / "docs/benchmarks.md").read_text()


def test_a_row_is_measured_and_written_down(workloads: list[Workload], tmp_path: Path) -> None:
    assert main(["--quick", "one"], workloads, tmp_path) == 0
    rows, text = read(tmp_path)
    row = Row.from_json(rows["one"])
    assert [line.contender for line in row.lines] == [PLAIN, ONE_BY_ONE, EAGER]
    assert row.repeats == 2
    for line in row.lines:
        assert line.figures.keys() >= {"wall_s", "cpu_s", "speedup", "peak_mb", "gemm_share"}
        assert all(value > 0 for value in line.figures.values())
    assert row.lines[0].figures["speedup"] == 1.0
    written = rows["one"]["lines"]
    assert isinstance(written, list)
    assert [[t["met"] for t in line["targets"]] for line in written] == [[], [True], [False]]
    assert "python -m benchmarks" in text
    assert "1 of 2 targets met" in text
    assert "Not met: one, batched: ratio ≥" in text
    assert "Not measured here: `two`" in text


def test_other_rows_are_kept(workloads: list[Workload], tmp_path: Path) -> None:
    main(["--quick", "one"], workloads, tmp_path)
    before, _ = read(tmp_path)
    assert main(["--quick", "two"], workloads, tmp_path) == 0
    after, text = read(tmp_path)
    assert after["one"] == before["one"]
    assert after.keys() == {"one", "two"}
    assert text.index("`one`") < text.index("`two`")


def test_a_row_that_fails_costs_no_other(
    workloads: list[Workload], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--quick", "broken", "two"], workloads, tmp_path) == 1
    assert "no luck" in capsys.readouterr().out
    assert read(tmp_path)[0].keys() == {"two"}


@pytest.mark.parametrize(("name", "said"), [("oen", "must be one of"), ("far", "needs a GPU")])
def test_what_cannot_be_measured_is_said_in_one_line(
    workloads: list[Workload],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    said: str,
) -> None:
    assert main([name], workloads, tmp_path) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert name in error
    assert said in error
    assert not list(tmp_path.iterdir())


def test_the_list_measures_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"], WORKLOADS, tmp_path) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == NAMES
    assert not list(tmp_path.iterdir())


def test_names_differ() -> None:
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize(
    ("relation", "value", "met"),
    [
        ("≥", 2.0, True),
        ("≥", 1.99, False),
        ("≤", 2.0, True),
        ("≤", 2.01, False),
        ("<", 2.0, False),
        ("<", 1.99, True),
    ],
)
def test_a_target_is_met_by_the_figure_alone(relation: str, value: float, met: bool) -> None:
    target = Target("speedup", relation, 2.0)
    line = Line("a", {"speedup": value}, [target])
    assert line.met(target) is met
    rows = {"w": Row("title", [line], 1, 1, 0.0, "2026-01-01", "2", None)}
    assert verdict(rows)[0] == f"{int(met)} of 1 targets met."
    assert (len(verdict(rows)) == 1) is met


def test_a_figure_that_is_missing_meets_no_target() -> None:
    target = Target("copies", "≤", 1.3)
    rows = {"w": Row("t", [Line("a", {}, [target])], 1, 1, 0.0, "2026-01-01", "2", None)}
    assert verdict(rows)[1] == "Not met: w, a: growth a step ≤ 1.30 copies, not measured."
