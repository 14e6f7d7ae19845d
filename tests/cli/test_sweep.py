"""Sweeps as a person meets them: searches on validation rows, jobs in processes side by side."""

import json
import logging
import os
import re
import shlex
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from cli.run import main
from cli.search import WORST, best_command
from cli.sweep import Job, jobs_of
from client_app.meta_gradient import descend, value_and_gradient
from conf.compose import CONFIG_DIR, compose_config
from tasks.task import build
from tests.cli.test_command import Done
from tests.helpers import distance

TINY = [
    *("dataset=quadratics", "dataset.num_clients=6", "dataset.seed=0", "partition.seed=0"),
    *("evaluation.steps=1", "evaluation.every=100", "evaluation.new_clients=[5]"),
    *("algorithm.batch.support=null", "algorithm.batch.query=null", "engine.chunk_size=1"),
    "tracking=none",
]
# One step of size β, for all clients at once, on all their rows; α that changes nothing.
ONE_STEP = [
    *("algorithm=fedavg", "algorithm.alpha=1e-9", "algorithm.tau=1", "rounds=1", "fraction=1.0"),
    "engine.precision=float64",
]
SEARCH = ["-m", "hydra/sweeper=optuna", *TINY]
SEEDS = ["-m", *TINY, "rounds=2", "seed=0,1", "algorithm.tau=0,2"]
COMMANDS = {
    "search": [
        *(*SEARCH, *ONE_STEP, "algorithm.beta=interval(0.01,3.0)", "hydra.sweeper.n_trials=15"),
    ],
    "default": [*SEARCH, "hydra.sweeper.n_trials=2", "rounds=1"],
    "diverges": [
        *(*SEARCH, "hydra.sweeper.n_trials=4", "rounds=3", "algorithm=fedavg"),
        *("algorithm.beta=choice(0.1,1e30)", "algorithm.tau=9", "algorithm.alpha=0.1"),
    ],
    "test rows": [*SEARCH, "evaluation.split=test", "rounds=1"],
    "in turn": SEEDS,
    "side by side": [*SEEDS, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
    "no plugin": ["-m", "seed=0,1", "hydra.launcher._target_=hydra_plugins.hydra_absent.x.Y"],
}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Done, Path]]]:
    """Run every command in this process, which imports torch and optuna once."""
    log, path = logging.getLogger("nufed"), sys.path.copy()
    handlers, on_sigterm = log.handlers.copy(), signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HYDRA_FULL_ERROR", raising=False)
        found = {}
        for name, words in COMMANDS.items():
            sweep = tmp_path_factory.mktemp(name.replace(" ", "_")) / "sweep"
            patch.setattr(sys, "argv", ["nufed", *words, f"hydra.sweep.dir={sweep}"])
            found[name] = (run_here(), sweep)
        yield found
    log.handlers, sys.path[:] = handlers, path
    signal.signal(signal.SIGTERM, on_sigterm)


def run_here() -> Done:
    """Run the command that sys.argv says."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        kept = os.dup(1), os.dup(2)  # those of other processes too
        try:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            with (
                open(1, "w", closefd=False) as here_out,
                open(2, "w", closefd=False) as here_err,
                redirect_stdout(here_out),
                redirect_stderr(here_err),
                pytest.raises(SystemExit) as ended,
            ):
                main()
        finally:
            for fd, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, fd)
                os.close(copy)
        out.seek(0)
        err.seek(0)
        return Done(int(ended.value.code or 0), out.read(), err.read())


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


def test_a_search_finds_the_step_size_that_is_best(done: dict[str, tuple[Done, Path]]) -> None:
    """Of 15 trials it calls best the one nearest to the known best β, and comes near to that."""
    ended, sweep = done["search"]
    assert ended.status == 0, ended.err
    jobs, known = jobs_of(sweep), best_beta()
    assert 0.1 < known < 2.9, "within what is searched"
    assert [job.number for job in jobs] == list(range(15))
    beta = [float(dict(o.split("=") for o in job.overrides)["algorithm.beta"]) for job in jobs]
    best = max(jobs, key=lambda job: job.score or WORST)
    assert best.number == int(np.argmin(np.abs(np.array(beta) - known)))
    assert beta[best.number] == pytest.approx(known, abs=0.2)
    assert "the best of 15 trials" in ended.out
    (line,) = re.findall(r"^  (nufed .*)$", ended.out, re.MULTILINE)
    words = shlex.split(line)[1:]
    assert f"algorithm.beta={beta[best.number]}" in words
    assert not any(word.startswith(("evaluation.split", "hydra")) for word in words)
    assert {*TINY, *ONE_STEP} <= set(words)


@pytest.mark.parametrize("name", ["search", "default"])
def test_a_search_never_measures_test_rows(name: str, done: dict[str, tuple[Done, Path]]) -> None:
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
    done: dict[str, tuple[Done, Path]],
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
    done: dict[str, tuple[Done, Path]],
) -> None:
    ended, sweep = done["diverges"]
    jobs = jobs_of(sweep)
    assert len(jobs) == 4
    for job in jobs:
        diverges = "algorithm.beta=1e+30" in job.overrides or "algorithm.beta=1e30" in job.overrides
        assert (job.score == WORST) == diverges == (job.complaint is not None)
    assert {job.score == WORST for job in jobs} == {True, False}, "else the test shows nothing"
    assert ended.status == 0
    assert f"of which {sum(job.score == WORST for job in jobs)} diverged" in ended.out


def test_a_search_by_test_rows_is_refused_once(done: dict[str, tuple[Done, Path]]) -> None:
    ended, _ = done["test rows"]
    assert ended.status == 2
    assert ended.err == (
        "nufed: evaluation.split=test: a search chooses by validation rows; "
        "leave it out, or say evaluation.split=validation\n"
    )


def test_jobs_side_by_side_end_as_one_after_another(done: dict[str, tuple[Done, Path]]) -> None:
    """The same models, bit by bit; the same table, complaints and exit status; readable lines."""
    (turn, one), (side, other) = done["in turn"], done["side by side"]
    assert (turn.status, side.status) == (2, 2)
    runs = sorted(path.parent.name for path in one.glob("*/summary.json"))
    assert len(runs) == 2
    assert runs == sorted(path.name for path in other.iterdir() if path.is_dir())
    for run in runs:
        models = [load_file(sweep / run / "model.safetensors") for sweep in (one, other)]
        assert distance(*models) == 0
    table = turn.out[turn.out.index("the sweep ") :]
    assert side.out.endswith(table)
    assert sorted(side.err.splitlines()) == [
        f"[{job}] nufed: algorithm.tau=0: must be at least 1" for job in (0, 2)
    ]
    lines = side.out[: -len(table)].splitlines()
    assert lines
    assert all(re.match(r"\[[0-3]\] ", line) for line in lines)
    said = [line.removeprefix("[1] ") for line in lines if line.startswith("[1] round ")]
    assert [line.split()[1] for line in said] == ["0/2", "1/2", "2/2"]


def test_a_plugin_that_is_missing_is_named(done: dict[str, tuple[Done, Path]]) -> None:
    ended, _ = done["no plugin"]
    assert ended.status == 2
    assert ended.err == "nufed: hydra-absent: is not installed; pip install hydra-absent\n"


def test_no_command_is_recommended_where_all_diverged() -> None:
    good = Job(1, ["algorithm.beta=0.1", "name=a b", "evaluation.split=validation"], "b", None, 0.5)
    bad = Job(0, ["algorithm.beta=9"], "a", "diverged", WORST)
    assert best_command([bad]) is None
    assert best_command([]) is None
    assert best_command([bad, good]) == "nufed algorithm.beta=0.1 'name=a b'"


def test_our_options_are_those_that_plugins_have() -> None:
    """A plugin that is renamed would leave ours without a meaning."""
    from hydra.core.plugins import Plugins

    Plugins.instance()
    for file in ("sweeper/optuna.yaml", "launcher/joblib.yaml"):
        target = yaml.safe_load((CONFIG_DIR / "hydra" / file).read_text())["_target_"]
        assert target in Plugins.instance().class_name_to_class
