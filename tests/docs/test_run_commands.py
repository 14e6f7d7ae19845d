"""Commands of the pages, each run as it stands but for its rounds and trials."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.docs.commands import Command, commands
from tests.docs.pages import ROOT, run, sections

pytestmark = pytest.mark.docs

PAGES = ("README.md", "engines.md", "faq.md", "tracking-and-sweeps.md")
"""What the others show, the tests of that page run."""
ELSEWHERE = {
    "dataset=mnist": "tests/tasks/test_datasets.py, where there is a network",
    "experiment=fashion_shards": "tests/server_app/test_fashion_mnist.py, where its data are",
    "engine=deployment": "tests/deployment",
    "engine=ray": "tests/simulation/test_engines.py",
    "engine.compile=true": "tests/simulation/test_compiled.py",
    "tracking=wandb": "tests/server_app/test_other_trackers.py",
    "tracking=mlflow": "tests/server_app/test_other_trackers.py",
    "tracking=trackio": "tests/server_app/test_other_trackers.py",
}
OURS = ("nufed", "nufed-adapt", "nufed-certify", "nufed-report", "nufed-data")
SHOWN = {
    str(c): c
    for c in commands()
    if c.page.name in PAGES and c.words[0] in OURS and not ELSEWHERE.keys() & {*c.words}
}
TIME = "2026-01-01_12-00-00"  # as the pages call the folder of a run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the data, the model and the runs that the pages name are there."""
    here = tmp_path_factory.mktemp("typed")
    random = np.random.default_rng(0)
    client = np.repeat(np.arange(10), 40)
    x, y = random.normal(size=(400, 8)).astype("float32"), random.integers(2, size=400)
    np.savez(here / "mine.npz", x=x, y=y, client=client)
    run(sections("own-data.md")["Your own model"].split("```sh")[0], here)
    npz = ["dataset=npz", "dataset.path=mine.npz"]
    for name, words in (("digits", ["diagnostics.every=1"]), ("npz", npz)):
        typed(["nufed", *words, "rounds=1", f"hydra.run.dir=runs/{name}-nufed/{TIME}"], here)
        sweep = f"hydra.sweep.dir=runs/{name}-sweep/{TIME}"
        typed(["nufed", "-m", *words, "seed=0,1", "rounds=1", sweep], here)
    for i, name in enumerate("ab"):
        shutil.copytree(
            next((here / f"runs/digits-sweep/{TIME}").glob(f"{i}_*")), here / "runs" / name
        )
    typed(["nufed", "seed=2", "rounds=1", "diagnostics.every=1", "hydra.run.dir=runs/c"], here)
    return here


def typed(words: list[str], folder: Path) -> str:
    """Run a command, and return what it prints; fail if it does."""
    words = [str(Path(sys.executable).parent / words[0]), *words[1:]]
    env = {**os.environ, "COLUMNS": "100"}
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def shortened(command: Command) -> list[str]:
    """Return the command with fewer rounds and trials."""
    if command.words[0] != "nufed" or "--cfg" in command.words:
        return command.words
    resumed = any(word.startswith("resume=") for word in command.words)
    words = [*command.words, f"rounds={2 if resumed else 1}"]
    return [*words, "hydra.sweeper.n_trials=2"] if "hydra/sweeper=optuna" in words else words


@pytest.mark.parametrize("command", SHOWN.values(), ids=str)
def test_a_command_does_what_it_says(command: Command, folder: Path) -> None:
    printed = typed(shortened(command), folder)
    assert printed.strip()
    if command.words[0] == "nufed" and "--cfg" not in command.words:
        assert "run folder: " in printed or "comparison: " in printed or "trials: " in printed


def test_what_runs_elsewhere_is_shown_somewhere() -> None:
    """So that an exception that no page needs any more is taken out; and its tests are there."""
    words = {word for command in commands() for word in command.words}
    assert ELSEWHERE.keys() <= words
    for place in ELSEWHERE.values():
        assert (ROOT / place.split(",")[0]).exists()
