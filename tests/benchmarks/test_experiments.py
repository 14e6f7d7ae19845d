"""The experiments: what they run, what they keep, what they choose, and a table found again."""

import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks.contest.record import Line, Record
from benchmarks.experiments.document import PAGES, document, parts, verdict
from benchmarks.experiments.methods import SETTINGS, TITLES, Method
from benchmarks.experiments.pages import cost, matrix, quadratics, sampling_law
from benchmarks.experiments.plan import ALPHA, MODE, NU, Job, axes, jobs
from benchmarks.experiments.runs import Outcome, run_all
from benchmarks.experiments.tuning import STEPS, Choice, choose, outer_key, tuning
from nufed.client_app.algorithm import algorithm_of
from nufed.conf.compose import compose_config
from nufed.server_app.report.statistics import Interval, interval
from nufed.strategies.curves import GROUPS

ROOT = Path(__file__).parents[2]
EXPERIMENTS = sorted(file.stem for file in (ROOT / "conf/experiment").glob("*.yaml"))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_run_of_every_experiment_composes(experiment: str) -> None:
    """To a configuration that has what the axes chose; `nufed` sweeps the same."""
    runs = jobs(experiment)
    assert len(runs) == np.prod([len(values) for values in axes(experiment).values()])
    config = runs[-1].config
    if NU in dict(runs[-1].choices):
        assert config.algorithm["nu"] == int(runs[-1][NU])
    assert config == compose_config(["baselines=none", *runs[-1].command.split()[2:]])


def test_folders_tell_runs_apart() -> None:
    every = [job for experiment in EXPERIMENTS for job in jobs(experiment)]
    assert len({job.folder for job in every}) == len(every)


def test_tuning_looks_at_no_test_row_and_at_no_seed_of_the_results() -> None:
    for setting in SETTINGS:
        trial, result = jobs(tuning(setting))[0], jobs(f"compare_{setting}")[0]
        assert trial.config.evaluation.split == "validation"
        assert result.config.evaluation.split == "test"
        seeds = [set(axes(name)["seed"]) for name in (tuning(setting), f"compare_{setting}")]
        assert not seeds[0] & seeds[1]
        assert len(seeds[1]) >= 5


@pytest.mark.parametrize(
    ("mode", "cost"), [("exact", 16), ("first_order", 6), ("hessian_free", 16)]
)
def test_what_a_local_step_costs(mode: str, cost: int) -> None:
    """ν = 5: five inner gradients, an outer one, and two for each Hessian-vector product."""
    config = compose_config([f"algorithm.mode={mode}", "algorithm.nu=5"])
    assert algorithm_of(config.algorithm).gradients == cost


def outcome(job: Job, accuracy: list[float], stopped: str | None = None) -> Outcome:
    """Return what a run leaves that was evaluated with these accuracies after five steps."""
    rows = [
        {"round": i, "participating": {"accuracy": [0.0] * STEPS + [value]}}
        for i, value in enumerate(accuracy)
    ]
    return Outcome(job, Path(), job.config, rows, stopped)


def test_tuning_takes_what_is_best_over_the_seeds_of_those_that_came_to_their_end() -> None:
    """Of those with the ν, and with the α where one is given; α′ = 5α is none of the grid."""
    name = tuning("digits_dirichlet")
    assert outer_key(name) == "algorithm.beta"
    trials = jobs(name)
    assert len(axes(name)["seed"]) == 3
    found = {job: outcome(job, [0.1, 0.5, 0.5]) for job in trials}

    def put(accuracies: list[float], alpha: str, beta: str, *more: tuple[str, str]) -> None:
        pair = {NU: "1", ALPHA: alpha, "algorithm.beta": beta} | dict(more)
        for job, value in zip(jobs(name, pair), accuracies, strict=True):
            ended = "round 2: not finite" if np.isnan(value) else None
            found[job] = outcome(job, [0.99, value, value], ended)  # first, of the first model

    put([0.6, 0.6, 0.6], "0.03", "0.3")
    put([0.5, 0.5, 0.7], "0.1", "1.0")
    put([0.9, 0.9, np.nan], "0.1", "3.0")
    put([0.8, 0.8, 0.8], "7", "3.0")
    put([0.9, 0.9, 0.9], "0.03", "0.3", (MODE, "first_order"))
    choice = choose(found, name, {NU: "1"})
    assert (choice.alpha, choice.outer, choice.at_edge) == ("0.03", "0.3", ())
    assert choice.score == pytest.approx(0.6)
    assert choice.trials == len(axes(name)[ALPHA]) * len(axes(name)["algorithm.beta"])
    assert choose(found, name, {NU: "1", ALPHA: "0.1"}).score == pytest.approx(1.7 / 3)
    off = choose(found, name, {NU: "1", ALPHA: "7"})
    assert off.score == pytest.approx(0.8)
    assert off.at_edge == ("algorithm.beta",)
    mode = choose(found, name, {NU: "1", ALPHA: "0.03", MODE: "first_order"})
    assert mode.score == pytest.approx(0.9)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the runs of this file are kept."""
    return tmp_path_factory.mktemp("experiments")


def test_what_was_run_is_not_run_again(runs: Path) -> None:
    """But what was not finished is, and what would be another run now."""
    short = {"rounds": "3", "evaluation.every": "3"}
    three = [job.but(short) for job in jobs("quadratics", {NU: "1"})]
    first = run_all(three, runs, 1, "first")
    written = {job: (run.folder / "summary.json").stat().st_mtime_ns for job, run in first.items()}
    (first[three[1]].folder / "summary.json").unlink()
    again = run_all(three, runs, 1, "again")
    now = {job: (run.folder / "summary.json").stat().st_mtime_ns for job, run in again.items()}
    assert now[three[0]] == written[three[0]]
    assert now[three[1]] > written[three[1]]
    config = again[three[0]].folder / "config.yaml"
    config.write_text(config.read_text().replace("beta: 0.3", "beta: 0.2"))
    run_all(three, runs, 1, "another")
    assert "beta: 0.3" in config.read_text()


@pytest.mark.docs
def test_quadratic_runs_end_where_the_theory_says(runs: Path) -> None:
    """The page's own numbers, of ν = 0, 2 and 5, exact and first-order."""
    wanted = [job for nu in ("0", "2", "5") for job in jobs("quadratics", {NU: nu})]
    for run in run_all(wanted, runs, 1, "quadratics").values():
        assert np.abs(quadratics.model(run) - quadratics.standstill(run)).max() < 1e-6
        assert np.abs(quadratics.measured(run) - quadratics.predicted(run)).max() < 1e-6


def test_sampling_keeps_a_run_as_far_from_its_optimum_as_the_law_says(runs: Path) -> None:
    """To 15%, of one seed; without the factor τ it would be four and a half times too small."""
    job = jobs("sampling_law", {"algorithm.tau": "5", "clients_per_round": "2", "seed": "7"})[0]
    (run,) = run_all([job], runs, 1, "law").values()
    assert sampling_law.measured(run) == pytest.approx(sampling_law.exact(run.config), rel=0.15)


@pytest.mark.docs
def test_a_figure_of_the_document_is_found_again(runs: Path) -> None:
    """Per-FedAvg's row of digits, from scratch: each interval meets the one that is printed.

    The page is of the commit that it names, whose draws may be others than those of this one; what
    it measures is the same. Ten clients at a time, whatever is quickest here: another number of
    them rounds otherwise, and hundreds of long steps let that grow.
    """
    text = (ROOT / "docs/results.md").read_text()
    section = text.split("## ν of training")[1].split(f"### {TITLES['digits_dirichlet']}")[1]
    alpha = re.search(r"^α = ([\d.]+); outer step sizes .*?([\d.]+) \(ν = 1\)", section, re.M)
    assert alpha is not None
    row = re.search(r"Accuracy of \*\*new clients\*\*.*?^\| 1 \| (.*?) \|$", section, re.M | re.S)
    assert row is not None
    choice = Choice(alpha[1], alpha[2], 0.0, 0, ())
    method = Method("digits_dirichlet", "1", choice, also=(("engine.chunk_size", "10"),))
    outcomes = run_all(method.jobs(), runs, 1, "digits")
    found = [interval(of) for of in matrix.at_tests(method, outcomes, "new").T]
    printed = [re.findall(r"[\d.]+", cell) for cell in row[1].split("|")]
    assert len(printed) == len(found)
    for now, (_, low, high) in zip(found, printed, strict=True):
        assert now.high - now.low < 2 * (float(high) - float(low)) + 5e-4, "as sure as it was"
        assert now.low - 5e-4 <= float(high)
        assert float(low) <= now.high + 5e-4


def test_every_section_names_the_commit_that_its_figures_are_of() -> None:
    sections = parts((ROOT / "docs/results.md").read_text())
    for page in PAGES:
        named = re.findall(r"commit ([0-9a-f]{7})\b", sections[page.title])
        assert named, page.title


def test_the_first_table_is_what_the_records_say() -> None:
    assert verdict(cost.records()) in (ROOT / "docs/results.md").read_text()


def test_a_section_is_written_anew_and_the_others_stay() -> None:
    text = (ROOT / "docs/results.md").read_text()
    again = document(text, {matrix.title: "Another.\n"}, cost.records())
    before, after = parts(text), parts(again)
    assert after.keys() == before.keys()
    changed = [title for title in before if before[title] != after[title]]
    assert changed == [matrix.title]
    assert after[matrix.title] == "Another.\n"
    assert document(text, {}, cost.records()) == text


def test_the_readme_says_what_the_records_say() -> None:
    """Where looking ahead pays, what does so cheaper, and where it does not; who trained."""
    by_title = {kept.title: kept for kept in cost.records()}
    readme = " ".join((ROOT / "README.md").read_text().split())
    own = by_title[TITLES["own_labels"]]
    ours, long = own.line(cost.OURS), own.line("ν = 1, exact, one step of 25 rows")
    assert f"goes in {ours.rounds[-1]:,} rounds" in readme

    def saved(line: Line, of: str) -> str:
        fewer = cost.saved(own, line, GROUPS[0], of)
        assert fewer is not None
        assert fewer.censored == 0
        return fewer.percent.text(0).replace("+", "")

    assert f"in {saved(ours, 'rounds').replace(' ', '% ', 1)} fewer rounds and bytes" in readme
    assert f"few gradients, {saved(ours, 'gradients').replace(' ', '% ', 1)}, and none" in readme
    fewer = cost.saved(own, ours, "new", "gradients")
    assert fewer is not None
    assert not fewer.percent.decided
    for of in ("rounds", "gradients"):
        said = f"with ν = 1: {saved(long, of).replace(' ', '% ', 1)} fewer rounds and gradients"
        assert said in readme

    def ahead(kept: Record, of: Line, other: Line) -> Interval:
        ends = (line.end(GROUPS[0])[:, line.k] for line in (of, other))
        return kept.gain(*ends)

    gain = ahead(own, ours, own.line(cost.BASE)).text().replace("+", "")
    assert f"ends {gain} points above it" in readme
    assert round(ahead(own, ours, long).mean) == 2
    for key, words in (
        ("fashion_shards", "({:.1f} points on two classes a client), or"),
        ("digits_dirichlet", "lost ({:.1f} on Dirichlet digits)"),
    ):
        kept = by_title[TITLES[key]]
        mean = ahead(kept, kept.line(cost.OURS), kept.line(cost.PLAIN)).mean
        assert words.format(abs(mean)) in readme
        assert (mean < 0) == words.startswith("lost")


def test_the_document_has_every_section_and_its_pictures() -> None:
    text = (ROOT / "docs/results.md").read_text()
    assert list(parts(text))[2:] == [page.title for page in PAGES]
    pictures = re.findall(r"\]\((results/.*?\.svg)\)", text)
    assert len(pictures) == len(set(pictures))
    for picture in pictures:
        drawn = (ROOT / "docs" / picture).read_text()
        assert drawn.startswith("<?xml")
    folder = {f"results/{file.name}" for file in (ROOT / "docs/results").iterdir()}
    assert folder == set(pictures)
