"""A run folder that cannot be written any more: one line, and the model of the last round is kept.

The faults are real: a file that is always full, one that may not grow, a folder that is gone.
"""

import json
import os
import resource
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nufed.client_app.app import app as client_app
from nufed.conf.compose import compose_config
from nufed.conf.convert import to_json
from nufed.conf.errors import CannotWrite, InputError
from nufed.server_app.app import app as server_app
from nufed.server_app.model_file import elsewhere, room
from nufed.server_app.resume import resumed_config
from nufed.server_app.run_folder import append
from nufed.server_app.tracking import Callback, Row, State
from nufed.simulation.grid import run_in_process
from tests.helpers import RunResult, read_run

RUN = [
    *("partition.num_clients=6", "clients_per_round=3", "model=logistic", "algorithm.nu=1"),
    *("algorithm.alpha=0.1", "algorithm.beta=0.1", "rounds=5", "evaluation.every=1"),
    *("checkpoint.every=1", "evaluation.steps=1"),
]
Train = Callable[..., RunResult]


class At2(Callback):
    """Does harm once round 2 is written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_round(self, row: Row, state: State) -> None:
        if row["round"] == 2:
            self.harm()

    def harm(self) -> None:
        raise NotImplementedError


class FullFile(At2):
    def harm(self) -> None:
        metrics = self.folder / "metrics.jsonl"
        metrics.rename(self.folder / "kept")
        metrics.symlink_to("/dev/full")


class Gone(At2):
    def harm(self) -> None:
        self.folder.rename(self.folder.with_name("moved"))
        self.folder.touch()


class NoGrowth(At2):
    """No file may grow further than a model would."""

    def harm(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))


@pytest.fixture(autouse=True)
def _as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo the limit; let temporary files lie where the test sees them."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    limits, before = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, before)


def stopped(train: Train, harm: type[At2]) -> str:
    """Return the line that a run ends in, which it must."""
    with pytest.raises(CannotWrite) as caught:
        train([*RUN, "tracking=none", f"+tracking.mine._target_={__name__}.{harm.__name__}"])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def go_on(folder: Path) -> RunResult:
    words = ["tracking=none"]
    config = resumed_config(folder, compose_config(words), words)
    run_config = {"config": to_json(config), "run-dir": str(folder), "report": False}
    run_in_process(server_app, client_app, run_config, 1)
    return read_run(folder)


def assert_same_model(folder: Path, run: RunResult) -> None:
    found = load_file(folder / "model.safetensors")
    assert found.keys() == run.model.keys()
    assert all(torch.equal(found[name], run.model[name]) for name in found)


def test_a_full_disk_ends_the_run_with_the_model_of_its_last_round(
    train: Train, tmp_path: Path
) -> None:
    line, run = stopped(train, FullFile), tmp_path / "run1"
    assert line == (
        f"{run}/metrics.jsonl: cannot be written (No space left on device); "
        f"the model of round 3 is in {run}; go on with: nufed resume={run}"
    )
    assert json.loads((run / "summary.json").read_text())["stopped"] == line
    assert_same_model(run, train([*RUN, "rounds=3"]))
    (run / "kept").replace(run / "metrics.jsonl")
    whole, resumed = train(RUN), go_on(run)
    assert_same_model(run, whole)
    assert [row["train_loss"] for row in resumed.rows[1:]] == [
        row["train_loss"] for row in whole.rows[1:]
    ]


def test_a_folder_that_is_gone_costs_nothing(train: Train, tmp_path: Path) -> None:
    """Model and checkpoint are in a folder of temporary files, from which the run goes on."""
    line = stopped(train, Gone)
    (place,) = (tmp_path / "temporary").iterdir()
    assert line == (
        f"{tmp_path}/run1/metrics.jsonl: cannot be written (Not a directory); "
        f"the model of round 3 is in {place}; go on with: nufed resume={place}"
    )
    assert_same_model(place, train([*RUN, "rounds=3"]))
    assert go_on(place).summary["rounds"] == 5
    assert_same_model(place, train(RUN))


def test_no_half_row_and_no_false_promise_where_nothing_can_be_written(
    train: Train, tmp_path: Path
) -> None:
    line, metrics = stopped(train, NoGrowth), tmp_path / "run1" / "metrics.jsonl"
    assert line.startswith(f"{metrics}: cannot be written (File too large); ")
    assert "the model of round 3 fits nowhere else either" in line
    rows = [json.loads(row) for row in metrics.read_text().splitlines()]
    assert [row["round"] for row in rows] == [0, 1, 2]
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_disk_that_is_full_already_is_told_of_before_anything_is_computed(
    train: Train, tmp_path: Path
) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    with pytest.raises(InputError, match=r"run1: has no room for the model \(File too large\)"):
        train(RUN)
    assert list((tmp_path / "run1").iterdir()) == []


def test_room_is_taken_without_a_trace(tmp_path: Path) -> None:
    taken = room(tmp_path, 1 << 20)
    blocks = os.fstat(taken.fileno()).st_blocks
    assert blocks * 512 >= 1 << 20
    assert list(tmp_path.iterdir()) == [tmp_path / "temporary"], "it has no name"
    taken.close()


def test_what_fits_nowhere_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise OSError(28, "No space left on device")

    assert elsewhere(fail) is None
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_line_is_whole_or_not_there(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    append(file, b"one\n")
    resource.setrlimit(resource.RLIMIT_FSIZE, (6, resource.RLIM_INFINITY))
    with pytest.raises(OSError, match="File too large"):
        append(file, b"two, longer\n")
    assert file.read_bytes() == b"one\n"
