"""Files and folders of any name, through every command; and commands that are printed, typed."""

import os
import shlex
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from nufed.conf.convert import read_config
from tests import forked

FILE = "mine ${x} (1), a=b #é.npz"
FOLDER = 'out é/lr=0.1, {a} "it\'s" [$x]'
TYPED = [
    *("dataset=npz", f"dataset.path={FILE}", "model=logistic", "evaluation.steps=1"),
    *("algorithm.nu=1", "algorithm.alpha=0.1", "algorithm.beta=0.1", "tracking=none"),
    *("algorithm.batch.support=4", "algorithm.batch.query=4", "evaluation.new_clients=0.2"),
    *("engine.chunk_size=1", f"hydra.run.dir={FOLDER}/r1"),
]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder where a run was interrupted, and the command that goes on with it."""
    here = tmp_path_factory.mktemp("my folder (1) ${seed}")
    random, client = np.random.default_rng(0), np.repeat(np.arange(6), 10)
    np.savez(here / FILE, x=random.normal(size=(60, 3)), y=np.arange(60) % 2, client=client)
    run = forked.Started(["nufed", *TYPED, "rounds=100000"], here)
    metrics, until = here / FOLDER / "r1" / "metrics.jsonl", time.monotonic() + 300
    while not metrics.exists() or metrics.read_text().count("\n") < 3:
        assert run.process.poll() is None, run.done().err
        assert time.monotonic() < until
        time.sleep(0.01)
    assert run.process.pid is not None
    os.kill(run.process.pid, signal.SIGINT)
    done = run.done(120)
    assert done.status == 130
    (here / "said").write_text(done.err)
    return here


def test_a_trace_is_named_in_full_and_may_be_said_again(tmp_path: Path) -> None:
    """Relative to where one is, in full in config.yaml."""
    trace, run = "who (1), is=there ${x}.csv", ["hydra.run.dir=run", "rounds=1"]
    (tmp_path / trace).write_text("".join(f"1,{client}\n" for client in range(50)))
    words = ["sampler=trace", f"sampler.path={trace}"]
    small = ["algorithm.nu=0", "algorithm.beta=0.1", "tracking=none", "model=linear"]
    done = forked.run(["nufed", *words, *small, *run], tmp_path)
    assert done.status == 0, done.err
    config = read_config((tmp_path / "run" / "config.yaml").read_text())
    assert config.sampler["path"] == str(tmp_path / trace)
    done = forked.run(["nufed", *words, "resume=run", "rounds=2"], tmp_path)
    assert done.status == 0, done.err


def test_the_command_after_an_interrupt_works_from_another_folder(
    here: Path, tmp_path: Path
) -> None:
    said = (here / "said").read_text()
    assert said.count("\n") == 1, said
    reached = int(said.partition("the model of round ")[2].partition(" ")[0])
    command = [*shlex.split(said.partition("; go on with: ")[2]), f"rounds={reached + 1}"]
    done = forked.run(command, tmp_path)
    assert done.status == 0, done.err
    assert done.out.endswith(f"run folder: {here / FOLDER / 'r1'}\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command",
    [
        ["nufed-data", "check", FILE],
        ["nufed-adapt", f"checkpoint={FOLDER}/r1", f"data={FILE}", "client=1", "out=a=${o}, (1)"],
        ["nufed-report", f"{FOLDER}/r1"],
        ["nufed-report", f"{FOLDER}/r1", f"{FOLDER}", "out=both =${o}, (1).html"],
        ["nufed-certify", f"{FOLDER}/r1", "--clients", "2", "--rows", "4"],
    ],
    ids=lambda command: " ".join(command[:2])[:20],
)
def test_every_command_takes_them(here: Path, command: list[str]) -> None:
    done = forked.run(command, here)
    assert (done.status, done.err) == (0, "")
    for word in command:
        assert not word.startswith("out=") or (here / word.removeprefix("out=")).exists()
    if command[0] == "nufed-data":
        lines = done.out.splitlines()
        (at,) = [i for i, line in enumerate(lines) if line.startswith("To train")]
        again = [*shlex.split(lines[at + 1]), "rounds=0", "tracking=none", "hydra.run.dir=as told"]
        assert forked.run(again, here).status == 0
        assert (here / "as told" / "model.safetensors").exists()


def test_names_with_a_dash_or_a_tilde_first(here: Path) -> None:
    for name in ("-x.npz", "~x.npz", "a,b.npz"):
        (here / name).write_bytes((here / FILE).read_bytes())
        done = forked.run(["nufed-data", "check", name], here)
        assert (done.status, done.err) == (0, "")
