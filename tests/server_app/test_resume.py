"""A run that was cut off and resumed is the run that was not, bit by bit; and what is refused."""

import json
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from nufed.conf.compose import compose_config
from nufed.conf.convert import to_json
from nufed.conf.errors import InputError, RunStopped
from nufed.server_app import checkpoint
from nufed.server_app.resume import resumed_config
from tests import forked
from tests.forked import Done
from tests.helpers import RunResult, distance, read_run

TIMES = ("train_s", "train_cpu_s")
# Adam's moments and count, sampling, batches: all of it has to be taken up where it was left.
RUN = [
    *("partition.num_clients=10", "clients_per_round=4", "model=logistic", "algorithm.nu=2"),
    *("rounds=12", "evaluation.every=5", "checkpoint.every=3"),
    "strategy.optimizer={_target_: torch.optim.Adam, _partial_: true, lr: 0.01}",
]
SLOW = "algorithm.tau=50"  # rounds long enough to be cut off in their midst


def nufed(*overrides: str, cwd: Path) -> Done:
    return forked.run(["nufed", *overrides], cwd)


def cut_off(here: Path, by: signal.Signals, rows: int) -> Done:
    """Start a run, end it by a signal once it has so many rows; return what it leaves."""
    run = forked.Started(["nufed", *RUN, SLOW, "hydra.run.dir=run"], here)
    metrics, until = here / "run" / "metrics.jsonl", time.monotonic() + forked.LIMIT_S
    while not metrics.exists() or metrics.read_text().count("\n") < rows:
        assert run.process.poll() is None, run.done()
        assert time.monotonic() < until
        time.sleep(0.005)
    run.process.send_signal(by)
    return run.done()


def assert_same(run: RunResult, whole: RunResult) -> None:
    """Every figure that is not a time, and every bit of the model."""
    for mine, theirs in zip(run.rows, whole.rows, strict=True):
        for time_ in TIMES:
            assert (mine.pop(time_, None) is None) == (theirs.get(time_) is None)
        assert mine == {key: value for key, value in theirs.items() if key not in TIMES}
    assert all(torch.equal(run.model[name], whole.model[name]) for name in whole.model)
    for key in ("participating", "new", "rounds", "clients", "parameters"):
        assert run.summary[key] == whole.summary[key]
    assert "stopped" not in run.summary


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """The run that nothing disturbs."""
    here = tmp_path_factory.mktemp("whole")
    done = nufed(*RUN, SLOW, "hydra.run.dir=run", cwd=here)
    assert done.status == 0, done.err
    return read_run(here / "run")


@pytest.mark.parametrize(
    ("by", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_a_run_cut_off_by_a_signal_and_resumed_is_the_run_that_was_not(
    whole: RunResult, tmp_path: Path, by: signal.Signals, status: int
) -> None:
    """SIGINT and SIGTERM save the last whole round and say how to go on; SIGKILL cannot."""
    run = tmp_path / "run"
    ended = cut_off(tmp_path, by, rows=6)
    assert ended.status == status
    (*_, newest) = sorted(int(f.name.split(".")[0]) for f in (run / "checkpoint").iterdir())
    if by == signal.SIGKILL:
        assert newest in (3, 6, 9)
        assert not (run / "summary.json").exists()
    else:
        summary = json.loads((run / "summary.json").read_text())
        assert ended.err == f"nufed: {summary['stopped']}\n"
        assert summary["stopped"].startswith(f"interrupted; the model of round {newest} is in ")
        assert summary["stopped"].endswith(f"; go on with: nufed resume={run}")
        assert summary["rounds"] == newest < 12
        assert load_file(run / "model.safetensors")
    done = nufed("resume=run", cwd=tmp_path)
    assert done.status == 0, done.err
    assert f"going on after round {newest}\n" in done.out
    assert_same(read_run(run), whole)
    assert list(tmp_path.iterdir()) == [run], "no folder that Hydra made for a run of its own"


Resume = Callable[..., RunResult]


@pytest.fixture
def resume() -> Resume:
    """Return a function that goes on with a run in this process, and reads its folder."""
    from nufed.client_app.app import app as client_app
    from nufed.server_app.app import app as server_app
    from nufed.simulation.grid import run_in_process

    def go_on(run: RunResult, overrides: list[str], num_supernodes: int = 1) -> RunResult:
        composed = compose_config(overrides)
        config = resumed_config(run.folder, composed, overrides)
        run_config = {"config": to_json(config), "run-dir": str(run.folder), "report": False}
        run_in_process(server_app, client_app, run_config, num_supernodes)
        return read_run(run.folder)

    return go_on


Train = Callable[..., RunResult]


def test_more_rounds_for_a_run_that_was_done(train: Train, resume: Resume) -> None:
    """Its last row was evaluated, as the end of a run is; otherwise it is the longer run."""
    short, long = train([*RUN, "rounds=10"]), train(RUN)
    assert_same(resume(short, ["rounds=12"]), long)


def test_a_run_older_than_a_key_goes_on_with_its_default(train: Train, resume: Resume) -> None:
    short, long = train([*RUN, "rounds=10"]), train(RUN)
    before = checkpoint.read(short.folder)
    del before.config["evaluation"]["split"]
    shutil.rmtree(short.folder / "checkpoint")
    checkpoint.write(before, short.folder)
    assert_same(resume(short, ["rounds=12"]), long)


def test_a_damaged_checkpoint_costs_rounds_and_no_bit(
    train: Train, resume: Resume, caplog: pytest.LogCaptureFixture
) -> None:
    short, long = train([*RUN, "rounds=10"]), train(RUN)
    last = max((short.folder / "checkpoint").iterdir())
    last.write_bytes(last.read_bytes()[:-100])
    resumed = resume(short, ["rounds=12"])
    assert [m for m in caplog.messages if str(last) in m]
    assert_same(resumed, long)


def test_a_run_goes_on_on_another_engine(train: Train, resume: Resume) -> None:
    """Three SuperNodes for one, float32 for float64; Adam divides by small numbers: 1e-4."""
    short, long = train([*RUN, "rounds=6", "engine.precision=float64"]), train(RUN)
    resumed = resume(short, ["rounds=12", "engine.precision=float32"], num_supernodes=3)
    assert distance(resumed.model, long.model) < 1e-4
    assert all(p.dtype == torch.float32 for p in resumed.model.values())


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["algorithm.nu=3"], "algorithm.nu: cannot change in a run that is resumed"),
        (["seed=1"], "seed: cannot change"),
        (["dataset=quadratics"], "dataset: cannot change"),
        (["rule=median"], "rule: cannot change"),
        (["sampler=by_rows"], "sampler: cannot change"),
        (["schedule=step"], "schedule: cannot change"),
        (["optimizer=fedyogi"], "optimizer: cannot change"),
        (["rounds=6"], "all 6 rounds are done; rounds=12 would add as many"),
        (["rounds=3"], "all 3 rounds are done"),
        (["engine=ray", "engine.client_cpus=0"], ""),
    ],
)
def test_what_cannot_be_resumed_is_named(
    train: Train, resume: Resume, overrides: list[str], words: str
) -> None:
    run = train([*RUN, "rounds=6", "model=linear"])
    before = {p: p.read_bytes() for p in run.folder.rglob("*") if p.is_file()}
    if words:
        with pytest.raises(InputError) as caught:
            resume(run, overrides)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
    else:  # the engine is another matter than the run
        config = resumed_config(run.folder, compose_config(overrides), overrides)
        assert config.engine["name"] == "ray"
        assert config.rounds == 6
    assert {p: p.read_bytes() for p in run.folder.rglob("*") if p.is_file()} == before


def test_a_key_of_another_engine_is_not_taken_in_silence(train: Train) -> None:
    run = train([*RUN, "rounds=0"])
    text = (run.folder / "config.yaml").read_text()
    ray = ["engine=ray", "engine.client_cpus=2"]
    config = resumed_config(run.folder, compose_config(ray), ray)
    assert config.engine["client_cpus"] == 2
    (run.folder / "config.yaml").write_text(text.replace("name: batched", "name: ray"))
    workers = ["engine.workers=2"]
    with pytest.raises(InputError, match=r"engine\.workers: the run had engine=ray"):
        resumed_config(run.folder, compose_config(workers), workers)


def test_other_clients_than_it_began_with(train: Train, resume: Resume) -> None:
    """The checkpoint is asked, for whoever edits the configuration file."""
    run = train([*RUN, "rounds=2"])
    file = run.folder / "config.yaml"
    file.write_text(file.read_text().replace("num_clients: 10", "num_clients: 9"))
    with pytest.raises(InputError, match=r"partition\.num_clients=9: the run to resume has 10"):
        resume(run, ["rounds=4"])


@pytest.fixture
def own(train: Train, tmp_path: Path) -> tuple[RunResult, Path, list[str]]:
    """Return a run on a file of one's own, the file, and what was typed."""
    random = np.random.default_rng(0)
    file = tmp_path / "mine (1).npz"
    client = np.repeat(np.arange(6), 10)
    np.savez(file, x=random.normal(size=(60, 3)), y=np.arange(60) % 2, client=client)
    mine = ["dataset=npz", f"dataset.path={file}", "model=logistic", "algorithm.nu=1"]
    mine += ["algorithm.alpha=0.1", "algorithm.beta=0.1", "evaluation.new_clients=0.2"]
    mine += ["evaluation.every=1"]
    mine += ["algorithm.batch.support=4", "algorithm.batch.query=4", "evaluation.steps=1"]
    return train([*mine, "rounds=2"]), file, mine


def test_data_that_moved_can_be_pointed_to(
    train: Train, resume: Resume, own: tuple[RunResult, Path, list[str]]
) -> None:
    """The same model, bit by bit, as of a run whose data stayed; typed again, what is so is so."""
    run, file, mine = own
    whole = train([*mine, "rounds=4"])
    moved = file.parent / "moved, ${x}" / "d.npz"
    moved.parent.mkdir()
    file.rename(moved)
    with pytest.raises(InputError) as caught:
        resume(run, ["rounds=3"])
    assert str(caught.value) == (
        f"dataset.path={file}: is not there any more; say where it is now: "
        f"nufed resume={run.folder} dataset.path=…"
    )
    there = f"++dataset.path={moved}"
    assert len(resume(run, ["rounds=3", there]).rows) == 4
    assert_same(resume(run, ["rounds=4", "algorithm.nu=1", "dataset=npz", there]), whole)


def test_other_rows_at_the_same_place_are_refused(
    resume: Resume, own: tuple[RunResult, Path, list[str]]
) -> None:
    """One label of sixty, or one row that changed hands: nothing is written."""
    run, file, _ = own
    rows = dict(np.load(file))
    before = {p: p.read_bytes() for p in run.folder.rglob("*") if p.is_file()}
    for name in ("y", "client", "x"):
        changed = rows[name].copy()
        changed[[9, 10]] = changed[[10, 9]]
        np.savez(file, **rows | {name: changed})
        with pytest.raises(InputError, match="holds other rows than the run began with") as caught:
            resume(run, ["rounds=3"])
        assert str(caught.value).startswith(f"dataset.path={file}: ")
        assert "\n" not in str(caught.value)
    assert {p: p.read_bytes() for p in run.folder.rglob("*") if p.is_file()} == before
    np.savez(file, **rows)  # newer, and the same
    assert resume(run, ["rounds=3"]).summary["rounds"] == 3


def test_a_run_whose_test_rows_would_be_others_now_does_not_go_on(
    resume: Resume, own: tuple[RunResult, Path, list[str]]
) -> None:
    """Its checkpoint does not say how numbers were drawn: an older version wrote it."""
    run, _, _ = own
    (newest, *_) = sorted((run.folder / "checkpoint").iterdir(), reverse=True)
    older = replace(checkpoint.read(run.folder), draws=1)
    shutil.rmtree(run.folder / "checkpoint")
    file = checkpoint.write(older, run.folder)
    assert file.name[:6] == newest.name[:6]
    before = file.read_bytes()
    with pytest.raises(InputError, match=r"an older version began it.*begin a new run$"):
        resume(run, ["rounds=3"])
    assert file.read_bytes() == before


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"resume={tmp_path}: is not the folder of a run"):
        resumed_config(tmp_path, compose_config([]), [])
    with pytest.raises(InputError, match=f"resume={tmp_path}/no: is not there; name the folder"):
        resumed_config(tmp_path / "no", compose_config([]), [])


def test_a_diverged_run_does_not_say_resume(train: Train) -> None:
    """It would diverge again."""
    with pytest.raises(RunStopped) as stopped:
        train([*RUN, "algorithm.beta=1e25", "algorithm.nu=0", "model=mlp"])
    assert "resume" not in str(stopped.value)


FAILING = """
from nufed.server_app.tracking import Callback
from torch import nn

fails = False


class Net(nn.Linear):
    def __init__(self, num_outputs):
        super().__init__(64, num_outputs)

    def forward(self, x):
        if fails:
            raise OSError("the disk is gone")
        return super().forward(x.flatten(1))


class Breaks(Callback):
    def __init__(self, folder):
        pass

    def on_start(self, run):
        global fails
        fails = True
"""


def test_a_run_that_stops_before_it_gets_on_says_from_where_it_went(
    train: Train, resume: Resume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "failing.py").write_text(FAILING)
    monkeypatch.syspath_prepend(tmp_path)
    short = train([*RUN, "rounds=2", "model=custom", "model._target_=failing.Net"])
    words = ["rounds=3", "trust=failing", "callbacks={mine: {_target_: failing.Breaks}}"]
    with pytest.raises(RunStopped, match="no round was completed since it went on after round 2"):
        resume(short, words)
