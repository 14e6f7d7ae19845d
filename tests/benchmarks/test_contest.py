"""Contests: all are tuned alike, and what the documents say is found again from scratch."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.comparison.__main__ import DOCUMENT
from benchmarks.comparison.__main__ import records as compared
from benchmarks.comparison.document import document
from benchmarks.comparison.entries import SETTINGS, entries, methods
from benchmarks.contest import play, record
from benchmarks.contest.contender import TUNING_SEEDS, Setting
from benchmarks.contest.record import Record
from benchmarks.contest.search import Axis, Choice, Point, neighbours, rung, walk
from benchmarks.experiments.pages import cost, steps
from benchmarks.experiments.plan import Job
from benchmarks.experiments.runs import Outcome, run_all
from benchmarks.machine import ROOT
from nufed.conf.compose import compose_config
from nufed.strategies.curves import GROUPS

AXES = (Axis("a", "0.1"), Axis("b", "0.003"), Axis("c", "off", ("off", "on")))
ENTRIES = [
    *cost.ENTRIES,
    *steps.ENTRIES,
    *(entry for name in SETTINGS for entry in entries(name)),
]


def walked(peak: tuple[float, float], budget: int = 99) -> tuple[Choice, list[Point]]:
    """Return where a walk ends on a hill with one peak, and what it tried, in its order."""
    seen = dict[Point, float]()
    while True:
        choice = walk(AXES, seen.get, budget)
        if not choice.missing:
            return choice, list(seen)
        for point in choice.missing:
            assert point not in seen, "tried twice"
            a, b = (math.log(float(value)) for value in point[:2])
            seen[point] = -((a - math.log(peak[0])) ** 2) - (b - math.log(peak[1])) ** 2
            seen[point] += 0.5 * (point[2] == "on")


def test_the_ladder_has_two_rungs_a_decade() -> None:
    assert [rung("0.1", i) for i in range(-3, 4)] == [
        "0.003",
        "0.01",
        "0.03",
        "0.1",
        "0.3",
        "1.0",
        "3.0",
    ]
    assert rung("3e-05", 1) == "0.0001"
    with pytest.raises(ValueError, match="not on the ladder"):
        rung("0.2", 1)


@pytest.mark.parametrize("peak", [(0.1, 0.003), (3.0, 0.1), (0.0003, 0.01)])
def test_a_walk_ends_where_nothing_beside_is_better(peak: tuple[float, float]) -> None:
    choice, seen = walked(peak)
    assert choice.point == (str(peak[0]), str(peak[1]), "on")
    assert choice.settled
    assert choice.tried == len(seen)
    assert set(neighbours(AXES, choice.point)) <= set(seen), "so it is at no edge"


def test_a_walk_that_its_budget_ends_says_so() -> None:
    choice, seen = walked((30.0, 0.003), budget=7)
    assert len(seen) == choice.tried == 7
    assert not choice.settled


def test_of_equals_a_walk_stays_where_it_is() -> None:
    assert walk(AXES, lambda point: 1.0) == (("0.1", "0.003", "off"), 6, (), True)


def test_what_diverged_is_walked_away_from() -> None:
    """Downwards where nothing beside it is better; and what broke off is never called settled."""

    def stable(point: Point) -> float:
        a, b = map(float, point[:2])
        return a if a < 0.005 and b < 0.0005 else -math.inf

    choice = walk(AXES[:1], lambda point: -math.inf if float(point[0]) > 0.01 else 0.0)
    assert (choice.point, choice.settled) == (("0.01",), True)
    choice = walk(AXES, stable)
    assert (choice.point[:2], choice.settled) == (("0.003", "0.0003"), True)
    choice = walk(AXES, lambda point: -math.inf, budget=9)
    assert (choice.tried, choice.settled) == (9, False)
    assert walk((), lambda point: -math.inf) == ((), 1, (), False)
    choice = walk(AXES[:1], lambda point: -math.inf if float(point[0]) > 0.05 else float(point[0]))
    assert choice.point == ("0.03",)


@pytest.mark.parametrize(
    "entry", ENTRIES, ids=lambda entry: f"{entry[0].experiment}-{entry[1].name}"
)
def test_everyone_is_tuned_by_validation_rows_of_other_federations(entry: play.Entry) -> None:
    setting, contender = entry
    start = tuple(axis.start for axis in contender.axes)
    trials, results = contender.trials(setting, start), contender.jobs(setting, start)
    assert {job.config.evaluation.split for job in trials} == {"validation"}
    assert {job.config.evaluation.split for job in results} == {"test"}
    assert [str(job.config.seed) for job in trials] == list(setting.tuning_seeds)
    assert not set(TUNING_SEEDS) & set(setting.seeds)
    assert {job.config.rounds for job in [*trials, *results]} == {results[0].config.rounds}, (
        "tuned at the length that is run"
    )
    assert results[0].config == compose_config(["baselines=none", *results[0].command.split()[2:]])
    assert len({job.folder for job in [*trials, *results]}) == len(trials) + len(results)


def test_the_comparison_has_every_method() -> None:
    for name in SETTINGS:
        options = [o for _, who in entries(name) for o in who.options if who.name in methods()]
        assert options == [f"algorithm={method}" for method in methods()]
        assert len(options) >= 18


def outcome(job: Job, accuracy: list[list[float]], stopped: str | None = None) -> Outcome:
    """Return what a run leaves whose evaluations have these curves."""
    rows = [{"round": i, "participating": {"accuracy": k}} for i, k in enumerate(accuracy)]
    return Outcome(job, Path(), job.config, rows, stopped)


def test_a_score_is_of_the_best_k_over_the_whole_run_without_its_start() -> None:
    setting, contender = ENTRIES[-1][0], ENTRIES[-1][1]
    setting = Setting(setting.experiment, "", "accuracy", (0, 1))
    job = contender.trials(setting, tuple(axis.start for axis in contender.axes))[0]
    ran = outcome(job, [[0.9, 0.9], [0.1, 0.5], [0.2, 0.7]])
    assert play.score([ran], setting, contender) == pytest.approx(0.6)
    other = outcome(job, [[0.0, 0.0], [0.9, 0.1], [0.9, 0.1]])
    assert play.score([ran, other], setting, contender) == pytest.approx((0.15 + 0.9) / 2), (
        "the k that is best for the federations together"
    )
    losses = Setting(setting.experiment, "", "loss", (0, 1))
    ran.rows[:] = [
        {**row, "participating": {"loss": row["participating"]["accuracy"]}} for row in ran.rows
    ]
    assert play.score([ran], losses, contender) == pytest.approx(-0.15)
    assert play.score([ran, outcome(job, [[0.9]], "round 2")], setting, contender) == -math.inf
    broken = outcome(job, [[0.9, 0.9], [0.1, math.nan]])
    assert play.score([broken], setting, contender) == -math.inf


RECORDS = [*cost.records(), *steps.records(), *compared()]
SHOWN = ["nufed", "ditto"], [cost.BASE, cost.OURS], [steps.CHOSEN]
"""Lines of each kind of record."""
AT_ONCE = {"engine.chunk_size": "10"}  # left to a trial, it is as fast as the machine is free


@pytest.mark.parametrize("kept", RECORDS, ids=lambda kept: kept.setting)
def test_a_row_of_each_table_is_found_again(kept: Record, tmp_path: Path) -> None:
    """The first rounds of one or two lines, from scratch, with the step sizes that it has."""
    by_name = {
        who.name: (setting, who) for setting, who in ENTRIES if setting.experiment == kept.setting
    }
    (names,) = (each for each in SHOWN if each[0] in by_name)
    for line in [line for line in map(kept.line, names) if not line.stopped]:
        setting, contender = by_name[line.name]
        job = contender.jobs(setting, tuple(line.tuned.values()))[0]
        first = job.but(AT_ONCE | {"rounds": str(line.rounds[1])})
        (again,) = run_all([first], tmp_path, 1, line.name).values()
        for group in ("participating", "new"):
            curves = np.array(line.curves[group])[:, 1]
            found = again.curve(group, kept.metric)[-1]
            low, high = curves.min(0), curves.max(0)
            # What another processor rounds otherwise grows from step to step, those ahead among
            # them: after many, what the table shows is near what its seeds had.
            algorithm = first.config.algorithm
            ahead = 1 + int(algorithm.get("nu", 0))
            if line.rounds[1] * algorithm["tau"] * ahead <= 100:
                scale = 0.02 if kept.metric == "accuracy" else 0.02 * curves[0]
                assert np.abs(found - curves[0]).max() <= np.max(scale)
                assert ((found >= low - scale) & (found <= high + scale)).all()
            else:
                scale = 0.05 if kept.metric == "accuracy" else 0.05 * curves[0, line.k]
                assert low[line.k] - scale <= found[line.k] <= high[line.k] + scale
        cells = [row.get("cost", {}) for row in again.evaluated]
        spent = cells[-1]["gradients"] * again.participating
        assert spent == pytest.approx(line.gradients[1], rel=1e-4)
        sent = cells[-1]["bytes_up"] + cells[-1]["bytes_down"]
        update = cells[-1]["bytes_up"] / (line.rounds[1] * first.config.clients_per_round)
        dropped = round((sent - line.bytes[1]) * len(line.seeds) / update)  # of other seeds
        assert 0 <= dropped <= len(line.seeds)
        assert sent - dropped * update / len(line.seeds) == pytest.approx(line.bytes[1], rel=1e-4)


def test_the_documents_are_what_the_records_say() -> None:
    text = (ROOT / "docs/results.md").read_text()
    assert cost.text(cost.records()) in text
    assert steps.text(steps.records()) in text
    made = compared()
    assert (ROOT / DOCUMENT).exists() == bool(made)
    if made:
        assert (ROOT / DOCUMENT).read_text() == document(made)


def test_a_record_is_read_as_it_was_kept(tmp_path: Path) -> None:
    kept = RECORDS[0]
    assert record.read(record.keep(kept, tmp_path)) == kept


def test_at_equal_cost_no_chosen_step_size_is_at_an_edge_of_what_was_tried() -> None:
    lines = {
        (kept.setting, line.name): line.settled for kept in cost.records() for line in kept.lines
    }
    assert len(lines) >= 35
    assert not [which for which, settled in lines.items() if not settled]


def test_curves_that_still_rise_are_marked_and_where_the_claim_is_made_there_are_none() -> None:
    """On labels of a client's own, of all that README compares."""
    (kept,) = (kept for kept in cost.records() if kept.setting == "cost_own_labels")
    compared = [line for line in kept.lines if line.name != cost.PLAIN]
    assert not [who.name for who in compared for g in GROUPS if kept.still_rises(who, g)]
    for each in cost.records():
        for group in GROUPS:
            rising = sum(
                each.still_rises(line, group) and not each.broken(line, group)
                for line in each.lines
            )
            blown = sum(bool(each.blew_up(line, group, slice(-8, None))) for line in each.lines)
            marked = cost.at_equal_cost(each, group).count("↗")
            assert rising - blown <= marked <= rising


def test_a_contender_may_count_after_steps_of_its_own() -> None:
    long = [who for _, who in cost.ENTRIES if who.steps == (1,)]
    assert long, "one step of as many rows as five"
    for who in long:
        rows = int(dict(who.choices)[cost.SUPPORT])
        assert rows == int(who.name.split()[-2])


def made(curves: list[list[float | None]], metric: str = "accuracy") -> Record:
    """Return a record of a line for each two seeds, after no fine-tuning step."""
    by_line = zip(curves[::2], curves[1::2], strict=True)
    lines = [
        record.Line(
            *(f"line {i}", {}, 1, True, (0,), "nufed", ["0", "1"], []),
            *([0, 10, 20, 30], [0.0, 10.0, 20.0, 30.0], [0.0, 10.0, 20.0, 30.0]),
            {group: [[[value] for value in curve] for curve in seeds] for group in GROUPS},
            {},
        )
        for i, seeds in enumerate(by_line)
    ]
    return Record("x", "x", metric, metric != "accuracy", 1, None, {}, lines)


def test_a_target_is_each_seeds_own() -> None:
    """An easy seed's curve is not held against what a hard one has; who gains nothing sets none."""
    kept = made([[0.5, 0.9, 0.9, 0.9], [0.1, 0.1, 0.3, 0.3], [0.5, 0.9, 0.9, 0.9], 4 * [0.9]])
    ours, theirs = kept.lines
    end = 0.1 + 0.95 * (0.7 / 3 - 0.1)
    assert kept.targets(ours, "new") == pytest.approx([0.88, end])
    assert list(kept.reached(ours, ours, "new", "rounds")) == [30, 30]
    assert list(kept.reached(theirs, ours, "new", "gradients")) == [30, 0]
    assert list(kept.targets(theirs, "new")) == [pytest.approx(0.88), math.inf]
    assert list(kept.reached(ours, theirs, "new", "bytes")) == [30, math.inf]
    losses = made([[2.0, 1.0, 1.0, 1.0], [2.0, 3.0, 3.0, 3.0]], "loss")
    assert list(losses.targets(losses.lines[0], "new")) == [pytest.approx(1.05), -math.inf]


def test_a_seed_that_broke_off_is_no_mean() -> None:
    lost = [None] * 4
    for worse in (lost, [2.0, math.nan, 1.0, 1.0]):
        kept = made([[2.0, 19.9, 1.0, 1.0], worse], "loss")
        assert kept.broken(kept.lines[0], "new") == "broke off in 1 of 2"
    kept = made([[2.0, 19.9, 1.0, 1.0], [2.0, 20.1, 1.0, 1.0]], "loss")
    assert kept.broken(kept.lines[0], "new") == ""
    assert kept.blew_up(kept.lines[0], "new", slice(None)) == "blew up in 1 of 2"
    assert kept.blew_up(kept.lines[0], "new", slice(2, None)) == ""
    kept = made([[0.0, 1.0, 1.0, 1.0], lost])
    assert kept.broken(kept.lines[0], "new") == "broke off in 1 of 2"
    names = cost.BASE, cost.OURS
    lines = [replace(kept.lines[0], name=name) for name in names]
    table = cost.at_equal_cost(replace(kept, lines=lines), "new")
    assert "broke off in 1 of 2" in table
    assert "nan" not in table
