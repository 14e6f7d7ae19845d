"""One seed, one result: in this process, on Flower's Ray engine, and under a plain `flwr run`."""

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from nufed.server_app import checkpoint
from nufed.simulation.flower_command import kill_all
from tests import forked
from tests.forked import LIMIT_S, Started
from tests.helpers import RunResult, distance, read_run
from tests.released import PRIVATE, assert_priced, assert_released

ROOT = Path(__file__).parents[2]
OVERRIDES = ["rounds=3", "evaluation.every=3", "partition.num_clients=8", "clients_per_round=4"]
OVERRIDES += ["baselines=none", "report=false"]
TIMES = ("train_s", "train_cpu_s")


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """The run in one process, through the command that a person types."""
    folder = tmp_path_factory.mktemp("batched")
    nufed("engine=batched", f"hydra.run.dir={folder}")
    return read_run(folder)


def nufed(*overrides: str) -> None:
    done = forked.run(["nufed", *OVERRIDES, *overrides], Path.cwd())
    assert done.status == 0, done.out + done.err


def assert_same(run: RunResult, reference: RunResult) -> None:
    """Models to 1e-5, and what is measured of them."""
    assert distance(run.model, reference.model) < 1e-5
    for mine, theirs in zip(run.rows, reference.rows, strict=True):
        assert mine.keys() == theirs.keys()
        assert mine["round"] == theirs["round"]
        if mine["round"] > 0:
            assert mine["failures"] == []
            for key in ("clients", "train_loss", "update_norm", "meta_grad_norm"):
                assert mine[key] == pytest.approx(theirs[key], abs=1e-5)
    for kind in ("participating", "new"):
        assert run.summary[kind]["loss"] == pytest.approx(reference.summary[kind]["loss"], abs=1e-4)


def test_another_process_gives_the_same_metrics(reference: RunResult, tmp_path: Path) -> None:
    nufed("engine=batched", f"hydra.run.dir={tmp_path}")
    again = read_run(tmp_path)
    for mine, theirs in zip(again.rows, reference.rows, strict=True):
        for key in TIMES:
            assert (mine.pop(key, None) is None) == (theirs.get(key) is None)
        assert mine == {key: value for key, value in theirs.items() if key not in TIMES}
    assert distance(again.model, reference.model) == 0.0


@pytest.mark.parametrize("num_supernodes", [3, 8])
def test_supernodes_in_this_process(
    train: Callable[..., RunResult], reference: RunResult, num_supernodes: int
) -> None:
    assert_same(train(OVERRIDES, num_supernodes=num_supernodes), reference)


@pytest.mark.flower
def test_flowers_simulation_engine(reference: RunResult, tmp_path: Path) -> None:
    nufed("engine=ray", f"hydra.run.dir={tmp_path}")
    assert_same(read_run(tmp_path), reference)
    assert "Starting Flower Simulation" in (tmp_path / "flower.log").read_text()


@pytest.mark.flower
def test_a_run_whose_superlink_is_killed_is_resumed_as_if_nothing_had_been(tmp_path: Path) -> None:
    """What it left: a summary, the model of the last checkpoint, and a command that works."""
    folder = tmp_path / "run"
    words = ["nufed", *OVERRIDES, "rounds=50", "checkpoint.every=1", "engine=ray"]
    started, rows = Started([*words, f"hydra.run.dir={folder}"], tmp_path), folder / "metrics.jsonl"
    until = time.monotonic() + LIMIT_S
    while not rows.exists() or rows.read_text().count("\n") < 3:
        assert started.process.poll() is None, started.done()
        assert time.monotonic() < until
        time.sleep(0.05)
    os.kill(superlink_of(tmp_path), signal.SIGKILL)
    done = started.done()
    assert done.status == 2
    (*_, line) = done.err.splitlines()
    assert "Traceback" not in done.err
    summary = json.loads((folder / "summary.json").read_text())
    at = checkpoint.read(folder).state.round
    assert line == (
        f"nufed: the SuperLink exited with -9 (log: {folder}/flower.log); "
        f"the model of round {at} is in {folder}; go on with: nufed resume={folder}"
    )
    assert (line, True) == (f"nufed: {summary['stopped']}", summary["resumable"])
    model = load_file(folder / "model.safetensors")
    assert distance(model, checkpoint.read(folder).state.params) == 0.0
    resumed = forked.run(["nufed", f"resume={folder}", f"rounds={at + 1}"], tmp_path)
    assert resumed.status == 0, resumed.err
    calm = tmp_path / "calm"
    nufed("engine=batched", f"rounds={at + 1}", f"hydra.run.dir={calm}")
    assert distance(read_run(folder).model, read_run(calm).model) < 1e-5
    assert [row["round"] for row in read_run(folder).rows] == list(range(at + 2))


def superlink_of(runs: Path) -> int:
    """Return the process of the SuperLink that keeps runs in a folder."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it just ended
            ours = f"NUFED_RUNS={runs}".encode() in (process / "environ").read_bytes().split(b"\0")
            if ours and b"flower-superlink" in (process / "cmdline").read_bytes():
                return int(process.name)
    raise AssertionError("no SuperLink runs")


@pytest.mark.flower
def test_clipping_and_noise_are_in_the_models_of_flowers_simulation_engine(tmp_path: Path) -> None:
    words = ["nufed", *PRIVATE, "engine=ray", f"hydra.run.dir={tmp_path / 'run'}"]
    done = forked.run(words, tmp_path)
    assert done.status == 0, done.out + done.err
    assert_released(tmp_path / "run")
    assert_priced(tmp_path / "run")


@pytest.mark.flower
def test_ones_own_data_and_model_reach_the_workers(tmp_path: Path) -> None:
    """Both named by where the person is, which is not where the workers are."""
    random = np.random.default_rng(0)
    x, client = random.normal(size=(120, 4)).astype(np.float32), np.repeat(np.arange(4), 30)
    np.savez(tmp_path / "mine.npz", x=x, y=random.integers(2, size=120), client=client)
    (tmp_path / "own_net.py").write_text("from torch import nn\nNet = lambda: nn.Linear(4, 2)\n")
    own = ["dataset=npz", "dataset.path=mine.npz", "model=custom", "model._target_=own_net.Net"]
    rounds = ["rounds=1", "clients_per_round=3", "baselines=none", "report=false"]
    folders = {engine: tmp_path / engine for engine in ("batched", "ray")}
    for engine, folder in folders.items():
        words = ["nufed", *own, *rounds, f"engine={engine}", f"hydra.run.dir={folder}"]
        done = forked.run(words, tmp_path)
        assert done.status == 0, done.out + done.err
    assert_same(read_run(folders["ray"]), read_run(folders["batched"]))


@pytest.mark.flower
def test_plain_flwr_run(reference: RunResult, tmp_path: Path) -> None:
    """Two SuperNodes, Flower's default, share the eight clients."""
    home, folder = tmp_path / "flwr", tmp_path / "run"
    home.mkdir()
    config = f'overrides="{" ".join(OVERRIDES)}" run-dir="{folder.name}"'
    words = ["flwr", "run", str(ROOT), "--stream", "--run-config", config]
    try:
        here = {"FLWR_HOME": str(home), "NUFED_RUNS": str(tmp_path)}
        done = forked.run(words, tmp_path, os.environ | here)
    finally:
        kill_all(home)  # the SuperLink that `flwr run` starts would stay
    assert folder.is_dir(), done.out + done.err
    assert_same(read_run(folder), reference)
    assert f"run folder: {folder}" in done.out
