"""Versions in slots: those that are asked for are there, whatever died, filled up or was forged."""

import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from nufed.client_app.slots import ENTRY, PIECE, RECORD, VERSIONS, Slots
from nufed.conf.errors import CannotWrite, InputError
from tests.helpers import versions_in

SIZE = 1000


def slots(folder: Path, size: int = SIZE) -> Slots:
    return Slots(folder / "states", size)


def rows(*values: int, size: int = SIZE) -> np.ndarray:
    """Return contents that are one value throughout, so that a mixture of two shows."""
    return np.repeat(np.array(values, np.uint8)[:, None], size, 1)


def values(of: Slots, clients: list[int], before: int) -> list[int | None]:
    """Return the values that clients have; a mixture of several is no value that was written."""
    contents, found = of.read(clients, before)
    assert (contents[found].min(1) == contents[found].max(1)).all(), "a mixture"
    return [int(row[0]) if has else None for row, has in zip(contents, found, strict=True)]


def child(work: Callable[[], None]) -> int:
    """Start a process of this one's kind; return its id."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return pid


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@contextmanager
def no_file_above(limit: int) -> Iterator[None]:
    """As on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("every", [1, 3, 7])
def test_what_any_resumed_run_reads_is_what_was_written(every: int, tmp_path: Path) -> None:
    """Beside a model that forgets nothing: 300 rounds, with runs that go on from either checkpoint.

    Of 6 clients 2 take part in a round, so that many have several states between two checkpoints.
    """
    random, mine, clients = np.random.default_rng(every), slots(tmp_path), list(range(6))
    kept = [dict[int, int]() for _ in clients]
    checkpoints, round = [0], 0

    def expected(before: int) -> list[int | None]:
        newest = [max((r for r in of if r < before), default=None) for of in kept]
        return [None if r is None else of[r] for r, of in zip(newest, kept, strict=True)]

    for _ in range(300):
        round += 1
        assert values(mine, clients, round) == expected(round)
        some = random.choice(clients, 2, replace=False).tolist()
        numbers = random.integers(0, 256, 2).tolist()
        mine.write(some, round, rows(*numbers), checkpoints[-2:])
        for client, number in zip(some, numbers, strict=True):
            kept[client][round] = number
        assert values(mine, clients, round) == expected(round), "the round may be done again"
        if round % every == 0:
            checkpoints.append(round)
        if random.random() < 0.1:
            if random.random() < 0.5 and len(checkpoints) > 1:
                checkpoints.pop()  # it was damaged
            round = checkpoints[-1]
            mine.forget(round)
            kept = [{r: value for r, value in of.items() if r <= round} for of in kept]
            checkpoints = checkpoints[-1:] if random.random() < 0.5 else checkpoints[-2:]
    assert os.path.getsize(mine.slots) <= len(clients) * VERSIONS * SIZE, "slots serve again"


@pytest.mark.parametrize("kind", ["index", "slots"])
def test_what_is_cut_off_is_lost_and_nothing_else(kind: str, tmp_path: Path) -> None:
    mine, file = slots(tmp_path), tmp_path / f"states.{kind}"
    mine.write([0, 1, 2], 1, rows(1, 2, 3), [])
    whole = file.read_bytes()
    bytes_a_client = RECORD if kind == "index" else SIZE
    for end in range(len(whole)):
        if end % 97:
            continue
        file.write_bytes(whole[:end])
        found = values(mine, [0, 1, 2], 2)
        # An entry has its own bytes first in the record.
        sound = [end >= i * bytes_a_client + (24 if kind == "index" else SIZE) for i in range(3)]
        assert found == [v if there else None for v, there in zip((1, 2, 3), sound, strict=True)]
    mine.write([2], 2, rows(9), [])
    assert values(mine, [2], 3) == [9]


def test_a_newest_version_that_is_damaged_is_none_and_no_older_one(tmp_path: Path) -> None:
    mine = slots(tmp_path)
    mine.write([5], 1, rows(1), [])
    mine.write([5], 2, rows(2), [])
    with (tmp_path / "states.slots").open("r+b") as file:
        file.seek(SIZE + 500)
        file.write(b"\x03")
    assert values(mine, [5], 3) == [None]
    assert values(mine, [5], 2) == [1]


def test_another_clients_or_rounds_content_is_none(tmp_path: Path) -> None:
    """As where a power cut left an index that is older than the slots."""
    mine, index = slots(tmp_path), tmp_path / "states.index"
    mine.write([0, 1], 1, rows(1, 2), [])
    records = versions_in(index)
    records[[0, 1]] = records[[1, 0]]
    index.write_bytes(records.tobytes())
    assert values(mine, [0, 1], 2) == [None, None]
    records[[0, 1]] = records[[1, 0]]
    records["round"][0, 0] = 2
    index.write_bytes(records.tobytes())
    assert values(mine, [0, 1], 3) == [None, 2]


def test_a_forged_index_gives_nothing_and_is_written_over(tmp_path: Path) -> None:
    random, mine = np.random.default_rng(0), slots(tmp_path)
    mine.write([0, 1, 2, 3], 1, rows(1, 2, 3, 4), [])
    index = tmp_path / "states.index"
    for _ in range(200):
        forged = np.zeros((4, VERSIONS), ENTRY)
        for name in ("round", "slot", "check"):
            extreme = random.choice([-(2**63), -1, 0, 1, 3, 2**40, 2**63 - 1], (4, VERSIONS))
            forged[name] = extreme.astype(forged[name].dtype)
        index.write_bytes(forged.tobytes())
        assert values(mine, [0, 1, 2, 3], 2**62) == [None] * 4
        mine.forget(5)
        mine.write([0, 1, 2, 3], 7, rows(5, 6, 7, 8), [3, 5])
        again = values(mine, [0, 1, 2, 3], 8)
        for found, value in zip(again, (5, 6, 7, 8), strict=True):
            assert found in (value, None), "None where two clients were forged to have one slot"
        assert os.path.getsize(mine.slots) < 10_000 * SIZE


def test_a_forged_file_that_is_mostly_a_hole_costs_no_time(tmp_path: Path) -> None:
    mine = slots(tmp_path)
    mine.write([3], 4, rows(1), [])
    for kind in ("index", "slots"):
        os.truncate(tmp_path / f"states.{kind}", 1 << 42)
    started = time.perf_counter()
    assert values(mine, [3, 1 << 30], 5) == [1, None]
    assert [(v.client, v.round, int(v.content[0])) for v in mine.all()] == [(3, 4, 1)]
    mine.forget(3)
    assert values(mine, [3], 5) == [None]
    assert time.perf_counter() - started < 5


def test_all_gives_what_is_there_by_client_and_round(tmp_path: Path) -> None:
    mine, far = slots(tmp_path), 3 * PIECE // RECORD + 1
    for round in (2, 4, 6):  # the third takes the place of the first
        mine.write([1, far], round, rows(round, round + 1), [])
    found = [(v.client, v.round, int(v.content[0])) for v in mine.all()]
    assert found == [(1, 4, 4), (1, 6, 6), (far, 4, 5), (far, 6, 7)]


@pytest.mark.parametrize("kind", ["index", "slots"])
def test_no_link_fifo_or_folder_is_taken_for_a_file(kind: str, tmp_path: Path) -> None:
    mine, file = slots(tmp_path), tmp_path / f"states.{kind}"
    (tmp_path / "victim").write_text("mine")
    for make in (
        lambda: file.symlink_to(tmp_path / "victim"),
        lambda: os.mkfifo(file),
        lambda: file.mkdir(),
    ):
        make()
        with pytest.raises(InputError, match="not a regular file"):
            mine.write([0], 1, rows(1), [])
        if file.is_dir():
            file.rmdir()
        else:
            file.unlink()
    assert (tmp_path / "victim").read_text() == "mine"


def test_a_full_disk_is_told_in_a_line_and_takes_no_version_away(tmp_path: Path) -> None:
    mine = slots(tmp_path, 10_000)
    mine.write([0], 1, rows(1, size=10_000), [])
    said = r"states\.slots: cannot be written \(File too large\)$"
    with no_file_above(15_000), pytest.raises(CannotWrite, match=said):
        mine.write([0], 2, rows(2, size=10_000), [])
    assert values(mine, [0], 9) == [1]
    mine.write([0, 1], 2, rows(2, 3, size=10_000), [])
    assert values(mine, [0, 1], 9) == [2, 3]


def test_a_process_that_is_killed_in_mid_write_leaves_what_was_there(tmp_path: Path) -> None:
    """First by the kernel, where a file may not grow: always within the second client's content."""
    mine = slots(tmp_path, 10_000)
    mine.write([0, 1], 1, rows(1, 2, size=10_000), [])

    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        with no_file_above(35_000):
            mine.write([0, 1], 2, rows(3, 4, size=10_000), [])

    assert ended(child(work)) == -signal.SIGXFSZ
    assert os.path.getsize(mine.slots) == 35_000
    assert values(mine, [0, 1], 9) == [1, 2]
    mine.write([0, 1], 2, rows(5, 6, size=10_000), [])
    assert values(mine, [0, 1], 9) == [5, 6]


def test_kill_9_while_versions_are_written_over(tmp_path: Path) -> None:
    """Of 16 MB, so that a kill soon tears one: it is recognised, and the one before is there."""
    size, torn, round, kills = 1 << 24, 0, 0, 0
    mine = slots(tmp_path, size)
    mine.write([0], round, rows(0, size=size), [])

    def newest() -> int:
        return int(versions_in(mine.index)["round"].max())

    def work() -> None:
        for k in range(round + 1, round + 1000):
            mine.write([0], k, rows(k % 251, size=size), [])

    while not torn and kills < 50:
        pid, kills = child(work), kills + 1
        while newest() < round + 3:
            time.sleep(0.001)
        time.sleep(0.003 * (kills % 7))
        os.kill(pid, signal.SIGKILL)
        assert ended(pid) == -signal.SIGKILL
        round = newest()
        assert values(mine, [0], round + 1) == [round % 251]
        ends = np.memmap(mine.slots, np.uint8, "r")[: VERSIONS * size].reshape(-1, size)[:, [0, -1]]
        torn += int((ends[:, 0] != ends[:, 1]).sum())
    assert torn, "no write was cut short: the test shows nothing"
    assert os.path.getsize(mine.slots) <= VERSIONS * size


def test_processes_that_write_at_once_do_not_meet(tmp_path: Path) -> None:
    """Four, each of its own clients; slots are shared out as they come."""
    count, last, size = 4, 10, 100_000
    everyone, (waiting, start) = list(range(80)), os.pipe()

    def work(i: int) -> None:
        os.close(start)
        os.read(waiting, 1)  # until all are there
        mine, clients = slots(tmp_path, size), everyone[i::count]
        for round in range(1, last + 1):
            for client in clients:
                before = None if round == 1 else client + round - 1
                assert values(mine, [client], round) == [before]
                mine.write([client], round, rows(client + round, size=size), [round - 3])

    pids = [child(partial(work, i)) for i in range(count)]
    os.close(start)
    assert [ended(pid) for pid in pids] == [0] * count
    os.close(waiting)
    assert values(slots(tmp_path, size), everyone, last + 1) == [c + last for c in everyone]
    slot = versions_in(tmp_path / "states.index")["slot"]
    taken = slot[slot > 0]
    assert len(np.unique(taken)) == len(taken) <= len(everyone) * VERSIONS
