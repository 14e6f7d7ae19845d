"""What clients keep between rounds: the newest state of an earlier round, whatever came since."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nufed.client_app.messages import MalformedMessage, Memory
from nufed.client_app.meta_gradient import Params
from nufed.client_app.slots import VERSIONS
from nufed.client_app.states import BLOCK, StateFolder
from nufed.conf.errors import CannotWrite, InputError
from tests.helpers import versions_in


def state(value: float, dtype: torch.dtype = torch.float32) -> Params:
    return {"v": torch.full((3,), value, dtype=dtype)}


def opened(
    folder: Path,
    session: str = "first",
    since: int = 0,
    saved: Sequence[int] = (),
    like: Params | None = None,
) -> StateFolder:
    return StateFolder(folder, like or state(0), session, since, saved)


def value(folder: StateFolder, client: int, before: int) -> float | None:
    found = folder.read(client, before)
    return float(found["v"][0]) if found else None


def versions(folder: Path, client: int) -> list[int]:
    """Return the rounds whose state a client has on the disk."""
    (index,) = folder.glob("*.index")
    record = versions_in(index)[client]
    return sorted(record["round"][record["slot"] > 0].tolist())


def test_the_newest_state_of_an_earlier_round_is_read(tmp_path: Path) -> None:
    """A round that is repeated begins from what it began from."""
    states = opened(tmp_path, saved=[2])
    assert value(states, 7, 1) is None
    for round in (2, 5, 11):
        states.keep(7, round, state(round))
    assert [value(states, 7, before) for before in (2, 3, 5, 6, 11, 12)] == [None, 2, 2, 5, 5, 11]
    assert value(states, 8, 12) is None
    states.keep(7, 11, state(0.5))  # again, by the repeated round
    assert value(states, 7, 11) == 5
    assert value(states, 7, 12) == 0.5
    assert states.missed == {7, 8}


def test_a_stack_is_kept_and_read_at_once(tmp_path: Path) -> None:
    """In several goes, as the states are large; and bit by bit, whatever they are made of."""
    count, width = 5, BLOCK // 12
    random = torch.Generator().manual_seed(0)
    stack = {
        "wide": torch.randn(count, width, generator=random),
        "scalar": torch.randn(count, generator=random, dtype=torch.float64),
        "half": torch.randn(count, 3, 2, generator=random).to(torch.bfloat16),
        "flag": torch.rand(count, 5, generator=random) > 0.5,
        "steps": torch.randint(-(2**62), 2**62, (count, 2), generator=random),
        "none": torch.empty(count, 0, 4),
        "turned": torch.randn(4, count, 3, generator=random).transpose(0, 1),
    }
    assert len(stack["wide"][0]) * 4 * count > BLOCK
    stack["wide"][1, :2] = torch.tensor([torch.nan, -0.0])
    states = opened(tmp_path, like={name: p[0] for name, p in stack.items()})
    clients = [9, 2, 70_000, 0, 5]
    states.keep_all(clients, 3, stack)
    found = states.read_all([*clients, 1], 4)
    assert found.pop() == {}
    for i, one in enumerate(found):
        assert one.keys() == stack.keys()
        for name, p in one.items():
            assert p.shape == stack[name][i].shape
            assert p.dtype == stack[name].dtype
            assert (
                p.numpy(force=True).tobytes() == stack[name][i].contiguous().numpy().tobytes()
                if (p.dtype != torch.bfloat16)
                else torch.equal(p, stack[name][i])
            )
    assert states.missed == {1}


def test_another_process_reads_what_one_wrote(tmp_path: Path) -> None:
    """As each message to a SuperNode has one of its own."""
    opened(tmp_path).keep(3, 1, state(1))
    assert value(opened(tmp_path), 3, 2) == 1


def test_a_run_that_goes_on_forgets_the_rounds_that_it_does_again(tmp_path: Path) -> None:
    """Whoever was drawn in them may not be drawn in them now."""
    states = opened(tmp_path, saved=[2])
    for round in (1, 2, 3):
        states.keep(0, round, state(round))
    again = opened(tmp_path, "second", since=2)
    assert value(again, 0, 9) == 2
    again.keep(0, 4, state(4))
    assert value(opened(tmp_path, "second", since=2), 0, 9) == 4, "of its own session"


def test_of_a_sessions_processes_the_first_alone_forgets(tmp_path: Path) -> None:
    """Eight that begin at once: what one of them keeps at once is not of an earlier session."""
    for session in range(5):
        pids = list[int]()
        for client in range(8):
            pids.append(os.fork())
            if pids[-1] == 0:
                try:
                    mine = opened(tmp_path, f"{session}", since=0)
                    mine.keep(client, 1, state(session + 1))
                    os._exit(0)
                finally:
                    os._exit(1)
        assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 8
        states = opened(tmp_path, f"{session}", since=0)
        assert [value(states, client, 2) for client in range(8)] == [session + 1] * 8


def test_what_no_checkpoint_asks_for_is_written_over(tmp_path: Path) -> None:
    for round in (1, 3, 6, 8):
        opened(tmp_path, saved=[5]).keep(0, round, state(round))
    assert versions(tmp_path, 0) == [3, 6, 8], "3 is what a run that goes on from round 5 reads"
    states = opened(tmp_path, saved=[8, 5])
    states.keep(0, 9, state(9))
    assert versions(tmp_path, 0) == [3, 8, 9]
    for round in range(10, 100):
        newest = (round - 1) // 5 * 5
        opened(tmp_path, saved=[newest, newest - 5]).keep(0, round, state(round))
    assert versions(tmp_path, 0) == [90, 95, 98, 99]
    (slots,) = tmp_path.glob("*.slots")
    assert slots.stat().st_size == VERSIONS * 12


def test_a_torn_file_is_a_lost_state(tmp_path: Path) -> None:
    states = opened(tmp_path)
    states.keep_all([0, 1], 1, {"v": torch.ones(2, 3)})
    (file,) = tmp_path.glob("*.slots")
    file.write_bytes(file.read_bytes()[:-5])
    assert [value(states, client, 2) for client in (0, 1)] == [1, None]
    assert states.missed == {1}


def test_where_a_folder_should_be_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "states").write_text("")
    with pytest.raises(CannotWrite, match=r"/states: cannot be written \(File exists\)$"):
        opened(tmp_path / "states")


def test_states_of_another_precision_are_taken_over(tmp_path: Path) -> None:
    """As engine.precision may change in a run that is resumed; there and back."""
    states = opened(tmp_path, saved=[1])
    for round in (1, 2, 3):
        states.keep(4, round, state(round + 0.1))
    kind = torch.float64
    states = opened(tmp_path, "second", since=2, saved=[2, 1], like=state(0, kind))
    found = states.read(4, 9)["v"]
    assert found.dtype == kind
    assert torch.equal(found, torch.full((3,), 2.1).to(kind))
    assert value(states, 4, 2) == pytest.approx(1.1)
    assert len([*tmp_path.glob("*.slots")]) == 1
    states.keep(4, 3, state(7, kind))
    states = opened(tmp_path, "third", since=3)
    assert torch.equal(states.read(4, 9)["v"], torch.full((3,), 7.0))


def test_files_of_older_versions_are_taken_over(tmp_path: Path) -> None:
    """One for a client and a round; what is torn, of another layout or no file is left out."""
    files = {(0, 1): 1.0, (0, 3): 3.0, (0, 4): 4.0, (12, 2): 2.0}
    for client, round in [*files, (5, 1), (6, 1)]:
        (tmp_path / str(client)).mkdir(exist_ok=True)
        kept = state(files.get((client, round), 0)) if client != 6 else {"other": torch.ones(2)}
        save_file(kept, tmp_path / str(client) / f"{round}.safetensors")
    torn = tmp_path / "5" / "1.safetensors"
    torn.write_bytes(torn.read_bytes()[:-5])
    (tmp_path / "7").mkdir()
    os.mkfifo(tmp_path / "7" / "1.safetensors")
    (tmp_path / "session").write_text("first")
    states = opened(tmp_path, "second", since=3, saved=[3, 2])
    found = [value(states, client, 9) for client in (0, 12, 5, 6, 7)]
    assert found == [3, 2, None, None, None]
    assert value(states, 0, 3) == 1, "what a run that goes on from round 2 reads"
    assert not [*tmp_path.rglob("*.safetensors")]


def test_states_of_another_layout_are_refused(tmp_path: Path) -> None:
    """They would never be read: a client's first state says what all are like."""
    states = opened(tmp_path)
    with pytest.raises(InputError, match=r"of other names or shapes than Algorithm\.state gives"):
        states.keep(0, 1, {"v": torch.ones(4)})
    with pytest.raises(InputError, match="of other names or shapes"):
        states.keep(0, 1, state(1) | {"more": torch.ones(1)})
    states.keep(0, 1, {})
    assert value(states, 0, 2) is None


@pytest.mark.parametrize("run", ["../../etc", "", "0123", "0" * 65, "ABCDEF0123", "a/b" * 9])
def test_a_message_names_no_other_folder(run: str) -> None:
    with pytest.raises(MalformedMessage, match="run="):
        Memory(run, "0" * 32, 0, [], [])


@pytest.mark.parametrize("saved", [[-1], [1, 2, 3]])
def test_a_message_names_few_checkpoints(saved: list[int]) -> None:
    with pytest.raises(MalformedMessage, match="saved="):
        Memory("0" * 32, "0" * 32, 0, saved, [])
