"""Searches: what they find is best by a closed form, by validation rows, whatever a trial does."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from nufed.cli.search import WORST, best_command, conclude, score
from nufed.cli.sweep import Job, jobs_of
from nufed.client_app.meta_gradient import descend, value_and_gradient
from nufed.conf.compose import compose_config
from nufed.server_app.terminal import Terminal
from nufed.tasks.task import build
from tests.cli.in_process import TINY, Ended, sweeps

# One step of size β, for all clients at once, on all their rows; α that changes nothing.
ONE_STEP = [
    *("algorithm=fedavg", "algorithm.alpha=1e-09", "algorithm.tau=1", "rounds=1", "fraction=1.0"),
    "engine.precision=float64",
]
SEARCH = ["-m", "hydra/sweeper=optuna", *TINY]
COMMANDS = {
    "search": [
        *(*SEARCH, *ONE_STEP, "algorithm.beta=interval(0.1,12.0)", "hydra.sweeper.n_trials=15"),
    ],
    "default": [*SEARCH, "hydra.sweeper.n_trials=2", "rounds=1"],
    "diverges": [
        *(*SEARCH, "hydra.sweeper.n_trials=4", "rounds=3", "algorithm=fedavg"),
        *("algorithm.beta=choice(0.1,1e30)", "algorithm.tau=9", "algorithm.alpha=0.1"),
    ],
    "test rows": [*SEARCH, "evaluation.split=test", "rounds=1"],
}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    return sweeps(COMMANDS, tmp_path_factory.mktemp("searches"))


def best_beta() -> float:
    """Return the β that the validation rows call best, in closed form.

    After one step from w along −g, g the mean of ∇f_i on train rows, the mean loss on validation
    rows is a parabola in β.
    """
    config = compose_config([*TINY, *ONE_STEP, "evaluation.split=validation"])
    task = build(config)
    w, partition = task.initial_params(), task.data.partition
    train = [task.batch(partition.train_rows(i)) for i in range(5)]
    validation = [task.batch(partition.test_rows(i)) for i in range(5)]
    slopes = [value_and_gradient(task.loss, w, batch).gradient for batch in train]
    g = {name: torch.stack([slope[name] for slope in slopes]).mean(0) for name in w}

    def loss(beta: float) -> float:
        moved = descend(w, g, beta)
        return float(np.mean([float(task.loss(moved, *batch)) for batch in validation]))

    a, b, c = loss(0.0), loss(1.0), loss(2.0)
    return (3 * a - 4 * b + c) / (2 * (a - 2 * b + c))


def test_a_search_finds_the_step_size_that_is_best(done: Ended) -> None:
    """Of 15 trials it calls best the one nearest to the known best β, and comes near to that."""
    ended, sweep = done["search"]
    assert ended.status == 0, ended.err
    jobs, known = jobs_of(sweep), best_beta()
    assert 0.2 < known < 11, "within what is searched"
    assert [job.number for job in jobs] == list(range(15))
    beta = [float(dict(o.split("=") for o in job.overrides)["algorithm.beta"]) for job in jobs]
    best = max(jobs, key=lambda job: job.score or WORST)
    assert best.number == int(np.argmin(np.abs(np.array(beta) - known)))
    assert beta[best.number] == pytest.approx(known, abs=1)
    assert "the best of 15 trials" in ended.out
    (line,) = re.findall(r"^  (nufed .*)$", ended.out, re.MULTILINE)
    words = shlex.split(line)[1:]
    assert f"algorithm.beta={beta[best.number]}" in words
    assert not any(word.startswith(("evaluation.split", "hydra")) for word in words)
    assert {*TINY, *ONE_STEP} <= {word.replace("=False", "=false") for word in words}


@pytest.mark.parametrize("name", ["search", "default"])
def test_a_search_never_measures_test_rows(name: str, done: Ended) -> None:
    """Every trial's own record says so, and its score is its participating clients' last loss."""
    _, sweep = done[name]
    jobs = jobs_of(sweep)
    assert jobs
    for job in jobs:
        folder = sweep.parent / job.folder
        config = yaml.safe_load((folder / "config.yaml").read_text())
        assert config["evaluation"]["split"] == "validation"
        summary = json.loads((folder / "summary.json").read_text())
        assert job.score == -summary["participating"]["loss"][-1]


def test_the_default_search_space_is_alpha_beta_and_tau(
    done: Ended,
) -> None:
    ended, sweep = done["default"]
    assert ended.status == 0, ended.err
    assert ended.err == ""
    for job in jobs_of(sweep):
        typed = dict(o.split("=") for o in job.overrides)
        assert 0.003 <= float(typed["algorithm.alpha"]) <= 0.3
        assert 0.01 <= float(typed["algorithm.beta"]) <= 1.0
        assert typed["algorithm.tau"] in ("1", "2", "5", "10")


def test_a_trial_that_diverges_is_the_worst_and_not_the_end(
    done: Ended,
) -> None:
    ended, sweep = done["diverges"]
    jobs = jobs_of(sweep)
    assert len(jobs) == 4
    for job in jobs:
        diverges = "algorithm.beta=1e+30" in job.overrides or "algorithm.beta=1e30" in job.overrides
        assert (job.score is None) == diverges == (job.complaint is not None)
    assert {job.score is None for job in jobs} == {True, False}, "else the test shows nothing"
    assert ended.status == 0
    assert f"of which {sum(job.score is None for job in jobs)} diverged" in ended.out


def test_a_search_by_test_rows_is_refused_once(done: Ended) -> None:
    ended, _ = done["test rows"]
    assert ended.status == 2
    assert ended.err == (
        "nufed: evaluation.split=test: a search chooses by validation rows; "
        "leave it out, or say evaluation.split=validation\n"
    )


def test_no_command_is_recommended_where_all_diverged() -> None:
    good = Job(1, ["algorithm.beta=0.1", "name=a b", "evaluation.split=validation"], "b", None, 0.5)
    bad = Job(0, ["algorithm.beta=9"], "a", "diverged")
    assert best_command([bad]) is None
    assert best_command([]) is None
    assert best_command([bad, good]) == "nufed algorithm.beta=0.1 'name=a b'"


def test_the_best_trials_are_shown_as_they_were_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """R² may be negative, mae is better where it is less, and brackets are no markup."""
    for metric, lower, values in (("r2", [], (-0.4, 0.3)), ("mae", ["loss", "mae"], (0.7, 0.2))):
        found = []
        for i, value in enumerate(values):
            folder = tmp_path / f"{metric}{i}"
            folder.mkdir()
            curves = {"clients": 3, "loss": [1.0], "loss_worst_decile": [1.0]}
            curves |= {metric: [value], f"{metric}_worst_decile": [value]}
            summary = {"participating": curves, "lower_is_better": lower}
            (folder / "summary.json").write_text(json.dumps(summary))
            overrides = [f"algorithm.beta={i}", "dataset.features=[age,weight]"]
            found.append(Job(i, overrides, str(folder), None, score(folder)))
        assert conclude(found, tmp_path, Terminal(width=100))
        out = capsys.readouterr().out
        rows = re.findall(r"│ +(\d) │ +(\S+) │", out)
        assert rows == [("1", f"{values[1]:g}"), ("0", f"{values[0]:g}")]
        assert f"┃ {metric} " in out.replace("┃  ", "┃ ") or metric in out.splitlines()[2]
        assert "nufed algorithm.beta=1 'dataset.features=[age,weight]'" in out
