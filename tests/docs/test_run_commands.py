"""Every command that stands by itself, run once, as typed but for fewer rounds, seeds and trials.

The others are run in their order by what `tests.docs.commands.place` names.
"""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import pytest

from nufed.simulation.flower_command import free_ports, kill_all
from nufed.tasks.datasets.fashion_mnist import DEBIAN_PACKAGE
from tests.docs.commands import ALONE, PAGES, STORIES, Command, commands, place
from tests.docs.pages import ROOT, run, sections, type_in
from tests.forked import LIMIT_S
from tests.helpers import require_data
from tests.test_readme import PYTHON

TIME = "2026-01-01_12-00-00"  # as the pages call the folder of a run
MARKS = {
    "engine=ray": pytest.mark.flower,
    "flwr": pytest.mark.flower,
    "tracking=wandb": pytest.mark.trackers,
    "tracking=mlflow": pytest.mark.trackers,
    "tracking=trackio": pytest.mark.trackers,
    "tracking=[tensorboard,mlflow]": pytest.mark.trackers,
}
"""What a command needs besides, by a word of it."""
BY_ITSELF = {
    tuple(command.words): command for command in commands() if place(command) == ALONE
}.values()


def shown(*programs: str) -> list[object]:
    """Return the commands of some programs, as parameters of a test."""
    return [
        pytest.param(
            command,
            id=str(command),
            marks=[MARKS[word] for word in command.words if word in MARKS] or [pytest.mark.docs],
        )
        for command in BY_ITSELF
        if command.words[0] in programs
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the data, the model and the runs that the pages name."""
    here = tmp_path_factory.mktemp("reader")
    _, data, model, *_ = PYTHON
    type_in(["python", "-c", data], here)
    run(f"```python\n{model}```", here)
    npz = ["dataset=npz", "dataset.path=mine.npz"]
    for name, words in (("digits", []), ("npz", npz)):
        one = ["nufed", *words, "diagnostics.every=1", f"hydra.run.dir=runs/{name}-nufed/{TIME}"]
        type_in([*one, "rounds=1"], here)
        sweep = ["nufed", "-m", *words, "seed=0,1", f"hydra.sweep.dir=runs/{name}-sweep/{TIME}"]
        type_in([*sweep, "rounds=1"], here)
    jobs = sorted((here / f"runs/digits-sweep/{TIME}").glob("[01]_*"))
    for name, made in zip("abc", (*jobs, here / f"runs/digits-nufed/{TIME}"), strict=True):
        shutil.copytree(made, here / "runs" / name)
    return here


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Return a FLWR_HOME; what Flower leaves running by it is stopped."""
    yield tmp_path
    kill_all(tmp_path)


def shortened(words: list[str], folder: Path) -> list[str]:
    """Return a command of `nufed` with fewer rounds, seeds and trials, and MNIST's files here."""
    rounds = 1
    words = [re.sub(r"^seed=range\(\d+\)$", "seed=range(2)", word) for word in words]
    for resumed in (word[len("resume=") :] for word in words if word.startswith("resume=")):
        rounds += json.loads((folder / resumed / "summary.json").read_text())["rounds"]
    more = [f"rounds={rounds}"]
    if not any(word.startswith("baselines=") for word in words):
        more += ["baselines=none"]
    if "hydra/sweeper=optuna" in words:
        more += ["hydra.sweeper.n_trials=2"]
    if "dataset=mnist" in words:  # of the same form, and no network
        require_data(DEBIAN_PACKAGE)
        more += [f"dataset.path={DEBIAN_PACKAGE}", "evaluation.clients=5"]
    if "experiment=fashion_shards" in words:
        require_data(DEBIAN_PACKAGE)
    return [*words, *more]


@pytest.mark.parametrize("command", shown("nufed"))
def test_a_run_leaves_what_it_says(command: Command, folder: Path) -> None:
    """A folder for each run, with a model, the curves and a report; a sweep, its comparison."""
    if "--cfg" in command.words:
        assert "nu: 3" in type_in(command.words, folder)
        return
    words = shortened(command.words, folder)
    printed = type_in(words, folder, TRACKIO_DIR=str(folder / "trackio"))
    line = r"^(?:\[\d+\] )?run folder: (.*)$"
    if "progress=none" in words:
        line = r"^.* → .*\((.*)\)$"
    made = re.findall(line, printed, re.MULTILINE)
    assert ("-m" in words) == (len(made) > 1)
    trials = "hydra/sweeper=optuna" in words
    for each in map(Path, made):
        rounds = json.loads((folder / each / "summary.json").read_text())["rounds"]
        assert f"rounds={rounds}" in words
        assert (folder / each / "model.safetensors").is_file()
        assert (folder / each / "report.html").is_file() != trials
    if trials:
        assert "the best of 2 trials" in printed
    elif "-m" in words:
        (comparison,) = re.findall(r"^comparison: (.*)$", printed, re.MULTILINE)
        assert (folder / comparison).is_file()


@pytest.mark.parametrize("command", shown("nufed-adapt", "nufed-certify", "nufed-data"))
def test_a_command_prints_what_it_found(command: Command, folder: Path) -> None:
    printed = type_in(command.words, folder)
    found = {"nufed-adapt": "personal model: ", "nufed-certify": "L ", "nufed-data": "rows of"}
    assert found[command.words[0]] in printed


@pytest.mark.parametrize("command", shown("nufed-report"))
def test_a_report_is_where_it_is_said_to_be(command: Command, folder: Path) -> None:
    (file,) = re.findall(r"^(?:report|comparison): (.*)$", type_in(command.words, folder), re.M)
    assert Path(file).read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("command", shown("tensorboard"))
def test_tensorboard_shows_every_run(command: Command, folder: Path, home: Path) -> None:
    (port,) = free_ports(1)
    program = str(Path(sys.executable).parent / command.words[0])
    server = subprocess.Popen(
        [program, *command.words[1:], "--port", str(port)], cwd=folder, stderr=subprocess.DEVNULL
    )
    job, runs = build_opener(ProxyHandler({})), list[str]()
    try:
        until = time.monotonic() + LIMIT_S
        while not any(f"digits-nufed/{TIME}" in each for each in runs):
            assert time.monotonic() < until, runs
            assert server.poll() is None
            time.sleep(0.5)
            try:
                with job.open(f"http://127.0.0.1:{port}/data/runs") as answer:
                    runs = json.load(answer)
            except OSError:
                continue  # it does not listen yet
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize("command", shown("flwr"))
def test_flower_runs_the_repository(command: Command, home: Path, tmp_path: Path) -> None:
    """Where it is checked out, as the page says; its runs go elsewhere."""
    words = command.words
    if "--run-config" not in words:
        words = [*words, "--run-config", 'overrides="rounds=1"']
    shorter = [word.replace("rounds=10", "rounds=1") for word in words]
    printed = type_in(shorter, ROOT, FLWR_HOME=str(home), NUFED_RUNS=str(tmp_path / "runs"))
    assert "round 1/1" in printed


def test_every_command_is_run_by_something() -> None:
    """What `place` names is there; and each section of a story is taken by its tests."""
    programs = {command.words[0] for command in BY_ITSELF}
    ours = {"nufed", "nufed-adapt", "nufed-certify", "nufed-data", "nufed-report"}
    assert programs == ours | {"tensorboard", "flwr"}
    for command in commands():
        where = place(command)
        assert list(ROOT.glob(where)), f"{where} runs {command}, and is not there"
        if where == ".ci/run" and len(command.words) > 1:
            assert " ".join(command.words) in (ROOT / where).read_text()
    for page, tests in STORIES.items():
        text = "".join(file.read_text() for file in ROOT.glob(tests))
        for heading, section in sections(page).items():
            blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
            lines = [line for block in blocks for line in block.splitlines()]
            if all(line.startswith("make") for line in lines):
                continue
            assert f'"{heading}"' in text, f"{page}: no test runs {heading!r}"
    assert {page.name for page in PAGES} >= STORIES.keys()
