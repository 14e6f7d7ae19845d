"""Runs and seeds side by side: grouped rightly, and with the intervals that they give."""

import json
import math
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest

from nufed.conf.errors import InputError
from nufed.server_app.report.comparison import Comparison, compare, run_folders
from nufed.server_app.report.comparison_page import headline, page, terminal_table, write_comparison
from nufed.server_app.report.statistics import interval, still_rises
from tests.conftest import training_in
from tests.helpers import RunResult, read_run
from tests.server_app.report.helpers import (
    SMALL,
    Page,
    forget_figures,
    labelled,
    read_page,
    spend,
)

Train = Callable[..., RunResult]
METHODS = ("fedavg", "nufed")


def folders(runs: list[RunResult]) -> list[Path]:
    return [run.folder for run in runs]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two algorithms with three seeds each."""
    folder = tmp_path_factory.mktemp("trained")
    train = training_in(folder)
    base = [word for word in labelled(folder) if not word.startswith("algorithm.nu")]
    return [
        train([*base, "evaluation.new_clients=0.5", f"algorithm={method}", f"seed={seed}"]).folder
        for method in METHODS
        for seed in range(3)
    ]


@pytest.fixture
def runs(trained: list[Path], tmp_path: Path) -> list[RunResult]:
    """Their folders, to be written to."""
    return [read_run(shutil.copytree(run, tmp_path / run.name)) for run in trained]


def ends(runs: list[RunResult], kind: str = "new", name: str = "accuracy") -> list[float]:
    return [run.summary[kind][name][-1] for run in runs]


def read(of: Comparison, folder: Path, target: float | None = None) -> Page:
    (folder / "page.html").write_text(page(of, target))
    return read_page(folder / "page.html")


def cell(text: str) -> list[float]:
    """Return the numbers of ``+0.1 [−0.2, +0.4]``."""
    return [float(word.strip("[],")) for word in text.split()]


def test_a_terminal_is_told_what_is_possible(runs: list[RunResult]) -> None:
    """Student's t of three seeds, by hand: as far as it is an accuracy."""
    for run, accuracy in zip(runs[:3], (0.8, 0.9, 1.0), strict=True):
        row = run.rows[-1]
        row["new"]["accuracy"][-1] = accuracy
        lines = "".join(json.dumps(each) + "\n" for each in run.rows)
        (run.folder / "metrics.jsonl").write_text(lines)
    table = terminal_table(compare(folders(runs)))
    half = 4.30265 * 0.1 / np.sqrt(3)
    assert 0.9 + half > 1
    assert f"0.900\n[{0.9 - half:.3f}, 1.000]" in table.columns[1].cells


def test_two_algorithms_and_three_seeds(runs: list[RunResult], tmp_path: Path) -> None:
    """Step sizes were probed, and differ from seed to seed; that makes no groups."""
    found = compare(folders(runs))
    alphas = [[run.rows[0]["probed"]["alpha"] for run in some] for some in (runs[:3], runs[3:])]
    assert len(set(alphas[0] + alphas[1])) == 6
    assert [group.label for group in found.groups] == ["algorithm=fedavg", "algorithm=nufed"]
    assert [group.seeds for group in found.groups] == [[0, 1, 2], [0, 1, 2]]
    assert found.differing == {"algorithm.name": ["fedavg", "nufed"], "algorithm.nu": ["0", "5"]}

    seen = read(found, tmp_path)
    new = seen.tables[0][1:]
    for row, some in zip(new, (runs[:3], runs[3:]), strict=True):
        values = np.array(ends(some))
        half = 4.302653 * values.std(ddof=1) / math.sqrt(3)  # t(0.975, 2)
        wanted = [values.mean(), *np.clip([values.mean() - half, values.mean() + half], 0, 1)]
        assert cell(row[1]) == pytest.approx(wanted, abs=6e-4)
        worst = ends(some, name="accuracy_worst_decile")
        assert cell(row[3])[0] == pytest.approx(np.mean(worst), abs=6e-4)
    gains = np.array(ends(runs[3:])) - np.array(ends(runs[:3]))
    half = 4.302653 * gains.std(ddof=1) / math.sqrt(3)
    wanted = [gains.mean(), gains.mean() - half, gains.mean() + half]
    assert cell(new[1][2]) == pytest.approx(wanted, abs=6e-4)
    assert new[0][2] == "–"

    ranges = [f"{min(some):g} to {max(some):g}" for some in alphas]
    assert found.chosen("alpha") == ranges
    assert f"chosen run by run (α of {ranges[0]}; of {ranges[1]})" in seen.text
    assert compare(folders(runs[:3] * 2)).chosen("alpha") is None, "of one group they are the same"

    every = seen.table("folder runs")
    assert [row[2] for row in every] == ["0", "1", "2"] * 2
    assert [float(row[5]) for row in every] == pytest.approx(ends(runs), abs=6e-4)
    assert "means of 3 seeds with 95% intervals" in seen.text
    assert len(seen.figures()) == 4


def test_rounds_to_a_target_are_those_of_each_seed(runs: list[RunResult], tmp_path: Path) -> None:
    for seed, run in enumerate(runs):
        for i, row in enumerate(run.rows[::2]):
            row["new"]["accuracy"][3] = 0.5 + 0.1 * i + 0.01 * (seed % 3)
        spend(run, gradients=10, bytes_up=1_000_000, bytes_down=500_000)
    found = compare(folders(runs))
    head = "runs rounds gradients bytes seeds"
    never = read(found, tmp_path, target=1.5).table(head)
    missed = ["–", "–", "–", "0 of 3", ", ".join(["not reached"] * 3)]
    assert [row[1:] for row in never] == [missed] * 2
    at_once = read(found, tmp_path, target=0.0).table(head)
    nothing = ["0 [0, 0]", "0 [0, 0]", "0 bytes [0 bytes, 0 bytes]"]  # they begin there
    assert [row[1:] for row in at_once] == [[*nothing, "3 of 3", "0, 0, 0"]] * 2
    soon = read(found, tmp_path, target=0.6).table(head)
    third = ["4 [4, 4]", "40 [40, 40]", "6 MB [6 MB, 6 MB]"]  # three evaluations must be there
    assert [row[1:] for row in soon] == [[*third, "3 of 3", "4, 4, 4"]] * 2
    course = np.array([[row["new"]["accuracy"][3] for row in run.rows[::2]] for run in runs[:3]])
    mean = course.mean(0)
    start, end = mean[0], mean.mean()  # of the last three evaluations, and there are three
    assert len(mean) == 3
    assert found.target("new") == pytest.approx(start + 0.95 * (end - start))


def test_what_was_spent_up_to_a_target_stands_beside_its_rounds(
    runs: list[RunResult], tmp_path: Path
) -> None:
    """From hand-made curves: rounds 4, 3, 2 of the first, and none of one of the others."""
    for run, reached in zip(runs, (4, 3, 2, 0, 3, 9), strict=True):
        for row in run.rows:
            row |= {kind: deepcopy(run.rows[0][kind]) for kind in ("participating", "new")}
            row["new"]["accuracy"][3] = 0.9 if row["round"] >= reached else 0.0
        spend(run, gradients=10, bytes_up=1_000_000, bytes_down=500_000)
    found = compare(folders(runs))
    first, second = found.groups
    target = 0.25  # of the mean of three evaluations, one there is enough
    reached = found.rounds_to(first, "new", target)
    assert reached == {0: 4, 1: 3, 2: 2}
    assert found.costs_to(first, reached, "gradients") == {0: 40, 1: 30, 2: 20}
    assert found.costs_to(first, reached, "bytes") == {0: 6e6, 1: 4.5e6, 2: 3e6}
    table = read(found, tmp_path, target).table("runs rounds gradients bytes seeds")
    half = 4.302653 * np.std([40, 30, 20], ddof=1) / math.sqrt(3)
    mean, low, high = cell(table[0][2])
    assert (mean, low, high) == pytest.approx((30, 30 - half, 30 + half), rel=2e-3)
    assert table[0][3] == f"4.5 MB [{4500 - 150 * half:.3g} kB, {4.5 + 0.15 * half:.3g} MB]"
    assert found.rounds_to(second, "new", target) == {0: 0, 1: 3, 2: math.inf}
    assert table[1][1:] == ["–", "–", "–", "2 of 3", "0, 3, not reached"]

    pair = compare(folders([runs[3], runs[4]]))  # from its start, and in round 3
    (row,) = read(pair, tmp_path, target).table("runs rounds gradients bytes seeds")
    assert row[2].replace(",", "").split()[:2] == ["15", "[0"]
    assert row[3].startswith("2.25 MB [0 bytes, ")


def test_runs_that_do_not_tell_what_was_spent_have_a_dash(
    runs: list[RunResult], tmp_path: Path
) -> None:
    for run in runs:
        for i, row in enumerate(run.rows[::2]):
            row["new"]["accuracy"][3] = 0.5 + 0.1 * i
        spend(run, gradients=10, bytes_up=1, bytes_down=1)
    for run in runs[3:]:
        for row in run.rows:
            row.pop("cost", None)  # as an older version has them
        lines = [json.dumps(row) for row in run.rows]
        (run.folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    table = read(compare(folders(runs)), tmp_path, target=0.6).table("runs rounds gradients bytes")
    assert [row[1:4] for row in table] == [
        ["4 [4, 4]", "40 [40, 40]", "8 bytes [8 bytes, 8 bytes]"],
        ["4 [4, 4]", "–", "–"],
    ]


def test_step_sizes_that_were_chosen_apart_are_told(runs: list[RunResult], tmp_path: Path) -> None:
    ranges = []
    for some, factor in ((runs[:3], 1.0), (runs[3:], 0.5)):
        for run in some:
            run.rows[0]["probed"]["alpha"] *= factor
            lines = "".join(json.dumps(row) + "\n" for row in run.rows)
            (run.folder / "metrics.jsonl").write_text(lines)
        alphas = [run.rows[0]["probed"]["alpha"] for run in some]
        ranges.append(f"{min(alphas):g} to {max(alphas):g}")
    found = compare(folders(runs))
    seen = read(found, tmp_path)
    assert found.chosen("alpha") == ranges
    assert ["algorithm.alpha (chosen)", *ranges] in seen.table("key algorithm=fedavg")
    assert f"chosen run by run (α of {ranges[0]}; of {ranges[1]})" in seen.text


def test_who_gains_nothing_by_training_sets_no_target(
    runs: list[RunResult], tmp_path: Path
) -> None:
    for run in runs[:3]:
        run.rows[0]["new"]["accuracy"][3] = 2.0
        lines = "".join(json.dumps(row) + "\n" for row in run.rows)
        (run.folder / "metrics.jsonl").write_text(lines)
    found = compare(folders(runs))
    assert found.target("new") is None
    assert "algorithm=fedavg gains nothing by training" in read(found, tmp_path).text


def test_one_seed_has_no_interval_and_it_is_said(runs: list[RunResult], tmp_path: Path) -> None:
    found = compare(folders([runs[0], runs[3]]))
    seen = read(found, tmp_path)
    assert "one seed each: no interval can be given" in seen.text
    assert len(cell(seen.tables[0][1][1])) == 1
    assert "[" not in headline(found)
    assert "decided" not in headline(found)


def test_only_seeds_that_both_have_are_paired(runs: list[RunResult]) -> None:
    found = compare(folders([*runs[:3], *runs[4:]]))
    gain = found.gain(found.groups[1], "new", 3)
    assert gain is not None
    difference, seeds = gain
    wanted = np.array(ends(runs[4:])) - np.array(ends(runs[1:3]))
    assert seeds == 2
    assert difference.mean == pytest.approx(wanted.mean())
    apart = compare(folders([runs[0], runs[4]]))
    assert apart.gain(apart.groups[1], "new", 3) is None
    assert found.gain(found.groups[0], "new", 3) is None


def test_a_run_that_is_there_twice_counts_once(train: Train) -> None:
    first, second = train([*SMALL, "seed=4"]), train([*SMALL, "seed=4", "checkpoint.every=1"])
    found = compare(folders([first, second]))
    (group,) = found.groups
    assert group.runs[4].folder == second.folder
    assert found.notes == [f"{first.folder}: is the same run as {second.folder}, which counts"]


def labels_of(train: Train, *typed: str) -> list[tuple[str, list[int]]]:
    base = [word for word in SMALL if not word.startswith("dataset.seed")]
    runs = [train([*base, *words.split()]) for words in typed]
    return [(group.label, group.seeds) for group in compare(folders(runs)).groups]


def test_seeds_of_other_things_may_follow_or_stay(train: Train) -> None:
    """What partition.seed=1 with seed=1 means depends on the runs beside it."""
    stays, own = ("seed={} partition.seed=1", "seed={}")
    assert labels_of(train, *map(stays.format, (0, 1, 2))) == [("all runs", [0, 1, 2])]
    assert labels_of(train, *map(own.format, (0, 1, 2))) == [("all runs", [0, 1, 2])]
    mixed = labels_of(train, "seed=0", "seed=1", "seed=2 partition.seed=7")
    assert mixed == [("partition.seed=the run's", [0, 1]), ("partition.seed=7", [2])]
    two = labels_of(train, "seed=0", "seed=1", "seed=0 rounds=3")
    assert two == [("rounds=2", [0, 1]), ("rounds=3", [0])]


def test_a_run_that_stopped_or_was_never_evaluated_is_told_of(train: Train) -> None:
    stopped, empty, whole = (train([*SMALL, f"rounds={n}"]) for n in (2, 2, 3))
    summary = json.dumps(stopped.summary | {"stopped": "interrupted"})
    (stopped.folder / "summary.json").write_text(summary)
    (empty.folder / "metrics.jsonl").write_text("")
    found = compare(folders([stopped, empty, whole]))
    assert len(found.groups) == 2
    assert found.notes == [
        f"{stopped.folder}: stopped early; it stands here as after round 2",
        f"{empty.folder}: was never evaluated, and is left out",
    ]
    with pytest.raises(InputError, match="no run there was ever evaluated"):
        compare([empty.folder])


def test_a_loss_is_better_where_it_is_less(train: Train, tmp_path: Path) -> None:
    methods = (f"algorithm.nu={nu}" for nu in (1, 2))
    small = [*SMALL, "evaluation.new_clients=[3]", "rounds=6", "fraction=1.0"]
    small += ["algorithm.alpha=0.1", "algorithm.beta=0.1"]
    found = compare(folders([train([*small, each]) for each in methods]))
    assert found.metric == "loss"
    assert "at most" in read(found, tmp_path).text
    target = found.target("participating")
    (reached,) = found.rounds_to(found.groups[0], "participating", target).values()
    assert 0 < reached <= 6


def test_runs_that_measured_other_clients_cannot_be_compared(train: Train) -> None:
    runs = [train(SMALL), train(SMALL)]
    for run, gone in zip(runs, ("new", "participating"), strict=True):
        rows = [{key: row[key] for key in row if key != gone} for row in run.rows]
        (run.folder / "clients.json").unlink()
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (run.folder / "metrics.jsonl").write_text(lines)
    config = (runs[0].folder / "config.yaml").read_text()
    (runs[0].folder / "config.yaml").write_text(config.replace("rounds: 2", "rounds: 3"))
    with pytest.raises(InputError, match="measured other clients"):
        compare(folders(runs))


def test_hostile_names_are_text(train: Train, tmp_path: Path) -> None:
    hostile = "<script>alert('$x^{$')</script>"
    runs = [train(SMALL), train(SMALL)]
    file = runs[1].folder / "config.yaml"
    file.write_text(file.read_text().replace("name: quadratics\n", f'name: "{hostile}"\n'))
    write_comparison(folders(runs), tmp_path / "c.html")
    seen = read_page(tmp_path / "c.html")
    assert f"dataset={hostile}" in seen.text
    assert "script" not in {tag for tag, _ in seen.tags}


def test_classes_are_named_without_the_path_to_them(train: Train) -> None:
    adam = "strategy.optimizer={_target_: torch.optim.Adam, _partial_: true, lr: 0.01}"
    found = compare(folders([train(SMALL), train([*SMALL, adam])]))
    assert [group.label for group in found.groups] == [
        "strategy.optimizer=null",
        "strategy.optimizer=Adam",
    ]


def test_the_runs_of_a_sweep_are_found_in_their_order(tmp_path: Path) -> None:
    for name in ("10_c", "9_b", "0_a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").write_text("")
    found = run_folders(tmp_path, "sweep")
    assert [folder.name for folder in found] == ["0_a", "9_b", "10_c"]
    assert run_folders(found[0], "one") == found[:1]
    shutil.rmtree(tmp_path / "0_a")
    with pytest.raises(InputError, match="sweep: is not there; name the folder of a run or"):
        run_folders(tmp_path / "0_a", "sweep")


def test_the_interval_of_two_is_wide() -> None:
    """t(0.975, 1) = 12.7062: for 0 and 2, mean 1 and standard error 1."""
    assert interval([0.0, 2.0]) == pytest.approx((1.0, 1 - 12.7062, 1 + 12.7062), abs=1e-4)


def test_runs_none_of_whose_figures_are_finite_are_compared(
    runs: list[RunResult], tmp_path: Path
) -> None:
    for folder in folders(runs):
        forget_figures(folder)
    page = read(compare(folders(runs)), tmp_path)
    assert "not finite" in page.text


def rewrite(run: RunResult) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in run.rows)
    (run.folder / "metrics.jsonl").write_text(lines)


def test_what_the_best_one_cost_is_said_beside_it(runs: list[RunResult]) -> None:
    """A local step takes 3ν + 1 gradients, 16 at ν = 5, and 1 at ν = 0."""
    for i, run in enumerate(runs):
        for row in run.rows:
            if "new" in row:
                way = (0.2 + 0.001 * (i % 3)) * row["round"] * (i >= 3)
                row["new"]["accuracy"] = [0.1 + way] * 4
        rewrite(run)
    cost = (
        "algorithm=nufed took 16 times the gradients of algorithm=fedavg, "
        "for as many rounds and bytes."
    )
    assert cost in headline(compare(folders(runs)))
    turned = headline(compare(folders([*runs[3:], *runs[:3]])))
    assert "algorithm=fedavg is 0.804 below algorithm=nufed" in turned
    assert cost in turned


def test_a_curve_that_still_rises_is_named(runs: list[RunResult]) -> None:
    for i, run in enumerate(runs):
        rows = [row for row in run.rows if "new" in row]
        for row in rows:
            rise = row["round"] / 10 if i >= 3 else 0.5 * (row["round"] > 0)
            row["new"]["accuracy"] = [0.1 + rise] * 4
        more = deepcopy(rows[-1]) | {"round": 5}
        more["new"]["accuracy"] = [0.6] * 4
        run.rows.append(more)
        rewrite(run)
    assert "Still rising at the last round: algorithm=nufed." in headline(compare(folders(runs)))


@pytest.mark.parametrize(
    ("curve", "rising"),
    [
        ([0.0, 0.5, 0.7, 0.75], True),  # a fifteenth of the way
        ([0.0, 0.5, 0.7, 0.73], False),
        ([0.0, 0.5, 0.7, 0.6], False),
        ([0.0, 0.5, 0.7], False),
        ([0.0, 0.4, 0.6, 0.7, 0.8, 0.8, 0.8, 0.9], True),  # .85 after .80, of .85
        ([0.9, 0.5, 0.6, 0.7], False),  # it never was better than untrained
        ([0.0, math.nan, 0.6, 0.7], False),
    ],
)
def test_the_last_quarter_of_a_rising_curve_brings_a_twentieth(
    curve: list[float], rising: bool
) -> None:
    assert still_rises(np.array(curve)) is rising
