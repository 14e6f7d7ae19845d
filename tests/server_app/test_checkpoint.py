"""Checkpoints on disk: whole or refused by name, the one before in its place, one process a run."""

import resource
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nufed.conf.errors import InputError
from nufed.server_app import carried, checkpoint
from nufed.server_app.checkpoint import Checkpoint, Checkpoints, alone
from nufed.server_app.rounds import State


def a_checkpoint(round: int) -> Checkpoint:
    """Return one whose tensors are not contiguous, and with numbers that JSON does not know."""
    params = {"w.weight": torch.arange(6.0).reshape(2, 3).T * round, "b": torch.tensor(0.5)}
    strategy = {"optimizer/w.weight/step": torch.tensor(3.0), "privacy/releases": [1, 2.5]}
    rows = (*([{"round": 0}] if round else []), {"round": round, "train_loss": float("nan")})
    return Checkpoint(State(round, params, strategy), rows, {"rounds": 9}, 5, [1, 4], 2.5)


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    written = a_checkpoint(7)
    file = checkpoint.write(written, tmp_path)
    assert file.parent == tmp_path / "checkpoint"
    read = checkpoint.read(tmp_path)
    for mine, theirs in (
        (read.state.params, written.state.params),
        (read.state.strategy, written.state.strategy),
    ):
        assert mine.keys() == theirs.keys()
        for name, value in theirs.items():
            same = torch.equal if isinstance(value, torch.Tensor) else lambda a, b: a == b
            assert same(mine[name], value)
    assert read.rows == ({"round": 0}, {"round": 7, "train_loss": None})
    assert (read.state.round, read.config, read.wall_s) == (7, {"rounds": 9}, 2.5)
    assert (read.num_clients, read.new_clients) == (5, [1, 4])


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    def kept_after(*rounds: int) -> list[int]:
        for round in rounds:
            checkpoint.write(a_checkpoint(round), tmp_path)
        return sorted(int(f.name.split(".")[0]) for f in (tmp_path / "checkpoint").iterdir())

    assert kept_after(5, 20, 999_999, 1_000_000) == [999_999, 1_000_000]
    assert checkpoint.read(tmp_path).state.round == 1_000_000
    assert kept_after(999_999 + 1, 7) == [7], "a run that went back goes on from there"


@pytest.mark.parametrize("damage", ["truncated", "emptied", "one bit", "renamed"])
def test_a_damaged_one_is_refused_by_name_and_the_one_before_used(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint.write(a_checkpoint(10), tmp_path)
    file = checkpoint.write(a_checkpoint(20), tmp_path)
    content = bytearray(file.read_bytes())
    if damage == "truncated":
        file.write_bytes(content[:-1])
    elif damage == "emptied":
        file.write_bytes(b"")
    elif damage == "one bit":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    else:
        file = file.rename(file.with_name("000021" + "." + "0" * 32 + ".safetensors"))
    assert checkpoint.read(tmp_path).state.round == 10
    (said,) = caplog.messages
    assert str(file) in said
    assert "truncated or edited" in said


def test_none_that_can_be_used_is_an_error_of_one_line(tmp_path: Path) -> None:
    file = checkpoint.write(a_checkpoint(1), tmp_path)
    file.write_bytes(b"")
    with pytest.raises(InputError, match="holds no checkpoint that can be used"):
        checkpoint.read(tmp_path)
    with pytest.raises(InputError, match="holds no checkpoint that can be used"):
        checkpoint.read(tmp_path / "absent")


def test_a_half_written_one_does_not_count(tmp_path: Path) -> None:
    """What a process that is killed while it writes leaves behind."""
    checkpoint.write(a_checkpoint(1), tmp_path)
    draft = tmp_path / "checkpoint" / (".000002." + "0" * 32 + ".safetensors")
    draft.write_bytes(b"half")
    assert checkpoint.read(tmp_path).state.round == 1


def test_a_full_disk_costs_the_checkpoint_and_not_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that may not grow stands for it; the next checkpoint is written again."""
    checkpoints = Checkpoints(tmp_path, 1, a_checkpoint(0))
    checkpoints.on_round({"round": 1}, a_checkpoint(1).state)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        checkpoints.on_round({"round": 2}, a_checkpoint(2).state)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    (said,) = caplog.messages
    assert "no checkpoint can be written (File too large)" in said
    assert checkpoint.read(tmp_path).state.round == 1
    checkpoints.on_round({"round": 3}, a_checkpoint(3).state)
    assert checkpoint.read(tmp_path).rows[-3:] == ({"round": 1}, {"round": 2}, {"round": 3})


def test_one_process_a_run(tmp_path: Path) -> None:
    """A second one is told so; when the first is killed, the run is free."""
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from nufed.server_app.checkpoint import alone\n"
        "with alone(Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="is going on in another process"), alone(tmp_path):
            pass
    finally:
        holder.kill()
        holder.wait()
    with alone(tmp_path):
        pass


def test_an_app_carries_the_newest_good_one(tmp_path: Path) -> None:
    app, here, there = tmp_path / "app", tmp_path / "here", tmp_path / "there"
    for folder in (app, here):
        folder.mkdir()
    carried.unload(app, there)
    assert not there.exists()
    checkpoint.write(a_checkpoint(10), here)
    checkpoint.write(a_checkpoint(20), here).write_bytes(b"")
    carried.carry(here, app)
    carried.unload(app, there)
    assert checkpoint.read(there).state.round == 10


def test_one_too_large_for_an_app_is_refused(tmp_path: Path) -> None:
    large = State(1, {"w": torch.zeros(1_600_000)}, {})
    checkpoint.write(replace(a_checkpoint(1), state=large), tmp_path)
    with pytest.raises(InputError, match="has 6 MB, too large to be sent with a run"):
        carried.carry(tmp_path, tmp_path)
