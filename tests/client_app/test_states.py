"""What clients keep between rounds: the newest state of an earlier round, whatever came since."""

from pathlib import Path

import pytest
import torch

from nufed.client_app.messages import MalformedMessage, Memory
from nufed.client_app.states import StateFolder
from nufed.conf.errors import CannotWrite


def opened(folder: Path, session: str = "first", since: int = 0, saved: int = -1) -> StateFolder:
    return StateFolder(folder, session, since, saved)


def state(value: float) -> dict[str, torch.Tensor]:
    return {"v": torch.full((3,), value)}


def value(folder: StateFolder, client: int, before: int) -> float | None:
    found = folder.read(client, before)
    return float(found["v"][0]) if found else None


def test_the_newest_state_of_an_earlier_round_is_read(tmp_path: Path) -> None:
    """A round that is repeated begins from what it began from."""
    states = opened(tmp_path)
    assert value(states, 7, 1) is None
    for round in (2, 5, 11):
        states.keep(7, round, state(round))
    assert [value(states, 7, before) for before in (2, 3, 5, 6, 11, 12)] == [None, 2, 2, 5, 5, 11]
    assert value(states, 8, 12) is None
    states.keep(7, 11, state(0.5))  # again, by the repeated round
    assert value(states, 7, 11) == 5
    assert value(states, 7, 12) == 0.5


def test_another_process_reads_what_one_wrote(tmp_path: Path) -> None:
    """As each message to a SuperNode has one of its own."""
    opened(tmp_path).keep(3, 1, state(1))
    assert value(opened(tmp_path), 3, 2) == 1


def test_a_run_that_goes_on_forgets_the_rounds_that_it_does_again(tmp_path: Path) -> None:
    """Whoever was drawn in them may not be drawn in them now."""
    states = opened(tmp_path)
    for round in (1, 2, 3):
        states.keep(0, round, state(round))
    again = opened(tmp_path, "second", since=2)
    assert value(again, 0, 9) == 2
    again.keep(0, 4, state(4))
    assert value(opened(tmp_path, "second", since=2), 0, 9) == 4, "of its own session"


def test_what_no_checkpoint_asks_for_is_removed(tmp_path: Path) -> None:
    for round in (1, 3, 6, 8):
        opened(tmp_path, saved=5).keep(0, round, state(round))
    there = sorted(int(file.stem) for file in (tmp_path / "0").iterdir())
    assert there == [3, 6, 8], "3 is what a run that goes on from round 5 reads"
    states = opened(tmp_path, saved=8)
    states.keep(0, 9, state(9))
    assert sorted(int(file.stem) for file in (tmp_path / "0").iterdir()) == [8, 9]
    assert value(states, 0, 9) == 8


def test_a_torn_file_is_a_lost_state(tmp_path: Path) -> None:
    states = opened(tmp_path)
    states.keep(0, 1, state(1))
    (file,) = (tmp_path / "0").iterdir()
    file.write_bytes(file.read_bytes()[:-5])
    assert value(states, 0, 2) is None


def test_where_a_folder_should_be_is_a_file(tmp_path: Path) -> None:
    states = opened(tmp_path)
    (tmp_path / "0").write_text("")
    with pytest.raises(CannotWrite, match=r"0/1\.safetensors: cannot be written"):
        states.keep(0, 1, state(1))


@pytest.mark.parametrize("run", ["../../etc", "", "0123", "0" * 65, "ABCDEF0123", "a/b" * 9])
def test_a_message_names_no_other_folder(run: str) -> None:
    with pytest.raises(MalformedMessage, match="run="):
        Memory(run, "0" * 32, 0, -1, [])
