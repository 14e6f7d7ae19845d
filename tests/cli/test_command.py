"""The command as a person meets it: processes in an empty folder, their words and traces."""

import json
import math
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from nufed.conf.compose import CONFIG_DIR
from tests import forked
from tests.forked import LIMIT_S, Done

SMALL = [
    *("dataset=quadratics", "dataset.num_clients=5", "dataset.seed=0", "evaluation.steps=1"),
    *("algorithm.nu=1", "algorithm.batch.support=null", "algorithm.batch.query=null"),
    "baselines=none",
]


def nufed(*overrides: str, cwd: Path) -> Done:
    """Run `nufed` in a folder."""
    return forked.run(["nufed", *overrides], cwd)


def furnish(here: Path) -> Path:
    """Put a file of the person's own into a new folder, and data that cannot be used."""
    here.mkdir()
    (here / "notes.txt").write_text("mine")
    x = np.array([[0.0], [math.nan], [1.0], [2.0]])
    np.savez(here / "nan.npz", x=x, y=[0, 1, 0, 1], client=[0, 0, 1, 1])
    return here


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a furnished folder."""
    return furnish(tmp_path / "here")


def everything_in(folder: Path) -> dict[Path, bytes]:
    """Return all that lies in a folder, with what it holds."""
    return {p: p.read_bytes() if p.is_file() else b"" for p in folder.rglob("*")}


Mistake = tuple[list[str], list[str]]
# Overrides, and what the one line must name: the key or option, and the value or the remedy.
FOUND_AT_ONCE: list[Mistake] = [
    (["algorithm.nuu=2"], ["algorithm.nuu: ", "did you mean algorithm.nu"]),
    (["dataset=fashion"], ["dataset=fashion: ", "fashion_mnist"]),
    (["datset=digits"], ["datset: ", "did you mean dataset"]),
    (["rounds=ten"], ["rounds=ten: ", "integer"]),
    (["algorithm.nu=-1"], ["algorithm.nu=-1: ", "0 or more"]),
    (["algorithm.alpha=0"], ["algorithm.alpha=0", "above 0"]),
    (["algorithm.alpha=nan"], ["algorithm.alpha=nan: "]),
    (["algorithm.batch.query=0"], ["algorithm.batch.query=0: ", "at least 1"]),
    (["algorithm.mode=fast"], ["algorithm.mode=fast: ", "exact | first_order | hessian_free"]),
    (["dataset.dimension=3"], ["dataset.dimension: ", "dataset=quadratics"]),
    (["dataset=null"], ["null"]),
    (["name={"], ["name={: ", "key=value"]),
    (["hydra.run.dir=notes.txt/run"], ["hydra.run.dir=notes.txt/run", "Not a directory"]),
]
FOUND_IN_THE_DATA: list[Mistake] = [
    (["partition.num_clients=1798"], ["partition.num_clients=1798: ", "1797 rows"]),
    (
        ["dataset=npz", "dataset.path=absent.npz"],
        ["dataset.path=/", "absent.npz: ", "no such file"],
    ),
    (
        ["dataset=npz", "dataset.path=nan.npz"],
        ["dataset.path=/", "nan.npz: ", "x has NaN", "row 1"],
    ),
    (["model._target_=absent.Model", *SMALL], ["model._target_=absent.Model: ", "'absent'"]),
    (["evaluation.new_clients=[0,5]", *SMALL], ["evaluation.new_clients=[0, 5]: ", "client 5"]),
]


def command_line(mistake: object) -> str | None:
    """Name a test by what is typed in it."""
    return " ".join(mistake[0][:2]) if isinstance(mistake, tuple) else None


def make(mistake: Mistake, here: Path) -> Done:
    """Make a mistake in a furnished folder, which must stay as it was."""
    before = everything_in(here)
    done = nufed(*mistake[0], cwd=here)
    assert everything_in(here) == before
    return done


def require_one_line(done: Done, mistake: Mistake) -> None:
    """Exit status 2, one line on stderr that names the thing, nothing on stdout."""
    assert done.status == 2, done.err
    assert done.err.startswith("nufed: ")
    assert done.err.count("\n") == 1
    assert done.err.endswith("\n")
    assert [words for words in mistake[1] if words not in done.err] == []
    assert done.out == ""


@pytest.mark.parametrize("mistake", FOUND_AT_ONCE, ids=command_line)
def test_a_mistake_in_the_command_ends_in_one_line_and_leaves_no_trace(
    folder: Path, mistake: Mistake
) -> None:
    """Wrong keys, options, types and values, and a run folder that cannot be."""
    require_one_line(make(mistake, folder), mistake)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Done]:
    """Make the mistakes in the data: seconds each, so side by side, each in its own folder."""
    parent = tmp_path_factory.mktemp("mistakes")
    folders = [furnish(parent / str(i)) for i in range(len(FOUND_IN_THE_DATA))]
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(make, FOUND_IN_THE_DATA, folders))


@pytest.mark.parametrize("mistake", FOUND_IN_THE_DATA, ids=command_line)
def test_a_mistake_in_the_data_ends_in_one_line_and_leaves_no_trace(
    made: list[Done], mistake: Mistake
) -> None:
    """These are found by what a run needs, in the same words as those found at once."""
    require_one_line(made[FOUND_IN_THE_DATA.index(mistake)], mistake)


def test_a_mistake_does_not_remove_the_folder_that_one_stands_in(tmp_path: Path) -> None:
    """What Hydra made for the run goes; empty folders that were there before stay."""
    here = tmp_path / "project"
    kept = here / "results"
    kept.mkdir(parents=True)
    assert nufed("algorithm.nu=-1", f"hydra.run.dir={kept}/a/b", cwd=here).status == 2
    assert kept.is_dir()
    assert list(kept.iterdir()) == []
    kept.rmdir()
    assert nufed("algorithm.nu=-1", cwd=here).status == 2
    assert here.is_dir()
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("typed", ["rounds=-1", "dataset=fashion", "--help"])
def test_what_needs_no_torch_does_not_wait_for_it(folder: Path, typed: str) -> None:
    """Importing torch and Flower takes seconds, during which one would wonder."""
    script = (
        "import atexit, sys\n"
        "atexit.register(lambda: print({'torch', 'flwr', 'datasets'} & set(sys.modules)))\n"
        "from nufed.cli.run import main\n"
        f"sys.argv = ['nufed', {typed!r}]\n"
        "main()"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.stdout.splitlines()[-1] == "set()", done.stderr
    assert done.returncode == (0 if typed == "--help" else 2)


def test_help_lists_every_group_and_option(folder: Path) -> None:
    """A new file in conf/ must show up by itself."""
    done = nufed("--help", cwd=folder)
    assert done.status == 0
    assert done.err == ""
    lines = done.out.splitlines()
    groups = [d for d in CONFIG_DIR.iterdir() if any(d.glob("*.yaml")) and d.name != "hydra"]
    assert len(groups) >= 7
    for group in groups:
        options = ", ".join(sorted(file.stem for file in group.glob("*.yaml")))
        assert f"{group.name}: {options}" in lines
    assert "  nu: 5" in lines
    assert "nufed -m algorithm=" in done.out


def test_show_the_configuration_and_run_nothing(folder: Path) -> None:
    before = everything_in(folder)
    done = nufed("--cfg", "job", "algorithm.nu=3", cwd=folder)
    assert done.status == 0
    assert done.err == ""
    assert "  name: nufed\n  nu: 3\n" in done.out
    assert everything_in(folder) == before


def test_a_run_that_diverges_stops_with_the_last_good_model(folder: Path) -> None:
    """Exit status 2; the line names round, key and folder; what is saved is finite and says why."""
    absurd = ["algorithm.alpha=1e30", "algorithm.nu=2", "model=logistic", "rounds=3"]
    small = ["algorithm.batch.support=10", "algorithm.batch.query=10", "algorithm.tau=5"]
    done = nufed(*absurd, *small, "evaluation.steps=1", "evaluation.clients=2", cwd=folder)
    assert done.status == 2
    assert done.err.count("\n") == 1, done.err
    found = re.match(r"nufed: round (\d+): ", done.err)
    assert found is not None, done.err
    last_good = int(found.group(1)) - 1
    assert "algorithm.alpha=1e+30" in done.err
    (run,) = (folder / "runs").glob("*/*")
    assert run.name in done.err
    model = load_file(run / "model.safetensors")
    assert sum(p.numel() for p in model.values()) == 650
    assert all(bool(torch.isfinite(p).all()) for p in model.values())
    summary = json.loads((run / "summary.json").read_text())
    assert done.err == f"nufed: {summary['stopped']}\n"
    assert summary["rounds"] == last_good
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["round"] for row in rows] == list(range(last_good + 1))


def test_a_sweep_runs_every_good_job_and_tells_of_the_bad_one(folder: Path) -> None:
    """The middle job of three is impossible: two folders, other numbers in each, exit status 2."""
    done = nufed("-m", "seed=0,1", "algorithm.tau=0,1", "rounds=1", *SMALL, cwd=folder)
    assert done.status == 2
    mistake = "nufed: algorithm.tau=0: must be at least 1 and at most 100000\n"
    assert done.err == 2 * mistake
    runs = sorted(file.parent for file in (folder / "runs").rglob("metrics.jsonl"))
    assert len(runs) == 2
    last = [json.loads((run / "metrics.jsonl").read_text().splitlines()[-1]) for run in runs]
    assert [row["round"] for row in last] == [1, 1]
    assert last[0]["train_loss"] != last[1]["train_loss"]
    assert [json.loads((run / "summary.json").read_text())["seed"] for run in runs] == [0, 1]
    comparison = runs[0].parent / "comparison.html"
    assert done.out.splitlines()[-1] == f"comparison: {comparison}"
    assert "means of 2 seeds with 95% intervals" in comparison.read_text().replace("&#39;", "'")
    left = {p for p in (folder / "runs").rglob("*") if p.is_dir() and not any(p.iterdir())}
    assert left == set(), "no empty folder of a job that never began"


def test_a_run_that_goes_well_says_so(folder: Path) -> None:
    """Exit status 0, nothing on stderr, and the last line says where everything is."""
    done = nufed("rounds=0", *SMALL, cwd=folder)
    assert done.status == 0
    assert done.err == ""
    run = Path(done.out.splitlines()[-1].removeprefix("run folder: "))
    assert run.parent.parent == folder / "runs"
    files = {file.name for file in run.iterdir()}
    assert {"metrics.jsonl", "summary.json", "model.safetensors", "config.yaml"} <= files


def test_a_folder_that_holds_a_run_is_not_written_over(folder: Path) -> None:
    run = folder / "run"
    run.mkdir()
    (run / "metrics.jsonl").write_text('{"round": 0}\n')
    before = everything_in(folder)
    done = nufed(*SMALL, "rounds=1", f"hydra.run.dir={run}", cwd=folder)
    assert done.status == 2
    assert done.err == f"nufed: {run}: holds a run already; name another folder\n"
    assert everything_in(folder) == before
