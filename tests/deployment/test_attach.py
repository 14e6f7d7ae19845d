"""Two runs at once on one SuperLink, watched by others than who submitted them."""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.deployment.harness import Federation, wait_until
from tests.forked import LIMIT_S, Done, Started
from tests.helpers import RunResult, distance, read_run

pytestmark = pytest.mark.deployment

NODES = 3
SHORT, LONG = 1, 3
BOTH = [
    *("dataset=quadratics", "dataset.num_clients=6", "dataset.seed=0", "baselines=none"),
    *("evaluation.every=1", "evaluation.steps=1", "clients_per_round=3", "algorithm.tau=2"),
    *("algorithm.alpha=0.1", "algorithm.beta=0.2"),
]
KILLED = [*BOTH, f"rounds={LONG}", "algorithm=nufed", "algorithm.batch.query=3", "name=killed"]
STAYED = [*BOTH, f"rounds={SHORT}", "algorithm=ditto", "seed=1"]
FILES = "metrics.jsonl", "summary.json", "model.safetensors", "clients.json", "config.yaml"


class Watched(NamedTuple):
    """What came of it all."""

    empty: Done
    """`nufed ls` before there were runs."""
    killed: tuple[str, Path]
    """Id of the run whose submitter was killed, and what that had, moved out of the way."""
    stayed: tuple[str, Path]
    """Id of the other run, and its submitter's folder."""
    begun: Done
    """`nufed ls` where the one was submitted that was killed, while both went on."""
    refused: Done
    """`nufed attach` in its folder, while the submitter was there."""
    interrupted: Done
    """`nufed attach` by Ctrl-C, from another folder, after the submitter was killed."""
    back: Done
    """Once more."""
    calm: tuple[Done, Path]
    """One who watched the same run from its beginning to its end, and into which folder."""
    late: tuple[Done, Path]
    """One who attached to the other run when that was over."""
    over: Done
    ended: Done
    """`nufed ls` at the end, where one had come back to the run."""
    unknown: Done
    here: Path


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Submit both at the same time, and let them end."""
    folder = tmp_path_factory.mktemp("attach")
    there, here = folder / "there", folder / "here"
    for each in (there, here):
        each.mkdir()
    federation = Federation(folder / "federation")
    place = f"engine.superlink={federation.address}"

    def nufed(*words: object, cwd: Path = here) -> Started:
        return Started(["nufed", *words], cwd)

    try:
        empty = nufed("ls", place).done()
        for i in range(NODES):
            federation.start_node(f"node{i}", f"partition-id={i} num-partitions={NODES}")
        submitters = [federation.start_nufed(*run, cwd=there) for run in (KILLED, STAYED)]
        wait_until(lambda: len(submitted(there)) == 2, LIMIT_S, "both are submitted", submitters[0])
        (killed, theirs), stayed = (submitted(there)[name] for name in ("killed", "stayed"))
        calm = nufed("attach", killed, place, f"out={here / 'calm'}", "engine=deployment")
        wait_until(lambda: rounds(theirs) >= 1, LIMIT_S, "round 0 came", submitters[0])
        begun = nufed("ls", place, cwd=there).done()
        refused = nufed("attach", theirs, cwd=there).done()
        submitters[0].process.send_signal(signal.SIGKILL)
        submitters[0].done()
        theirs.rename(folder / "gone")

        watching = nufed("attach", killed, place)
        wait_until(lambda: rounds(found(here)) >= 2, LIMIT_S, "what was comes again", watching)
        watching.process.send_signal(signal.SIGINT)
        interrupted = watching.done()
        back = nufed("attach", killed, place).done()
        assert submitters[1].done().status == 0
        late = nufed("attach", stayed[0], place, "out=late").done()
        over = nufed("attach", found(here)).done()
        ended = nufed("ls", place).done()
        unknown = nufed("attach", "7", place).done()
        yield Watched(
            *(empty, (killed, folder / "gone"), stayed, begun, refused, interrupted, back),
            *((calm.done(), here / "calm"), (late, here / "late"), over, ended, unknown, here),
        )
    finally:
        federation.close()


def submitted(cwd: Path) -> dict[str, tuple[str, Path]]:
    """Return id and run folder of the runs that were submitted in a folder."""
    files = (cwd / "runs").rglob("submitted.json")
    of = {f.parent: json.loads(f.read_text())["run_id"] for f in files}
    return {"killed" if run.parent.name == "killed" else "stayed": (of[run], run) for run in of}


def found(cwd: Path) -> Path:
    """Return the run folder that was made of itself; one that is not there if none was."""
    return next((file.parent for file in (cwd / "runs").rglob("submitted.json")), cwd / "none")


def rounds(run: Path) -> int:
    """Return how many rows a run folder has."""
    file = run / "metrics.jsonl"
    return len(file.read_text().splitlines()) if file.exists() else 0


def content(run: Path) -> dict[str, bytes]:
    return {name: (run / name).read_bytes() for name in FILES}


def row_of(table: str, run_id: str) -> list[str]:
    """Return what stands in a run's line."""
    (line,) = (line for line in table.splitlines() if run_id in line)
    return [cell.strip() for cell in line.strip("│┃|").split("│")]


def test_two_at_once_have_the_models_that_each_has_alone(
    watched: Watched, train: Callable[..., RunResult]
) -> None:
    """The one keeps states with its clients, the other does not; each has its own rounds."""
    for run, words in ((watched.calm[1], KILLED), (watched.stayed[1], STAYED)):
        mine, alone = read_run(run), train(words)
        assert distance(mine.model, alone.model) < 1e-5
        for row, other in zip(mine.rows, alone.rows, strict=True):
            assert row["new"]["loss"] == pytest.approx(other["new"]["loss"], abs=1e-5)


def test_a_run_without_its_submitter_is_followed_as_if_nothing_had_been(watched: Watched) -> None:
    """From another folder, where nothing was; interrupted, and to its end; byte for byte."""
    assert watched.back.status == 0, watched.back.err
    assert watched.calm[0].status == 0, watched.calm[0].err
    mine = found(watched.here)
    assert content(mine) == content(watched.calm[1])
    run_id, gone = watched.killed
    assert mine.relative_to(watched.here) == Path("runs/killed", mine.name)
    server = Path(read_run(mine).summary["server_run_folder"])
    assert server.name.startswith(mine.name), "of the time when it was submitted"
    assert (mine / "config.yaml").read_bytes() == (gone / "config.yaml").read_bytes()
    assert (mine / "submitted.json").read_bytes() == (gone / "submitted.json").read_bytes()
    before = (gone / "metrics.jsonl").read_bytes()
    assert (mine / "metrics.jsonl").read_bytes().startswith(before)
    assert len(read_run(mine).rows) == LONG + 1
    assert "round 0/3" in watched.back.out
    assert f"run {run_id} has a folder here: runs/killed/{mine.name}\n" in watched.back.out
    assert f"report: {mine / 'report.html'}\n" in watched.back.out


def test_who_comes_when_a_run_is_over_has_what_its_submitter_has(watched: Watched) -> None:
    done, late = watched.late
    assert done.status == 0, done.err
    assert content(late) == content(watched.stayed[1])


def test_who_watches_stops_nothing(watched: Watched) -> None:
    """And is told how to come back, and how to stop the run."""
    run_id, mine = watched.killed[0], found(watched.here)
    assert watched.interrupted.status == 130
    assert watched.interrupted.err.count("\n") == 1, watched.interrupted.err
    line = watched.interrupted.err
    assert line.startswith(f"nufed attach: interrupted; run {run_id} on 127.0.0.1:")
    assert " goes on; the server's run folder: /" in line
    end = f"; come back with: nufed attach {mine}; stop it with: nufed resume={mine}, and Ctrl-C\n"
    assert line.endswith(end)


def test_one_folder_has_one_who_follows(watched: Watched) -> None:
    assert watched.refused.status == 2
    assert watched.refused.err.count("\n") == 1, watched.refused.err
    assert "this run is going on in another process; wait for it, or " in watched.refused.err
    assert "out=…" in watched.refused.err


def test_a_run_that_is_over_and_here_is_said_to_be(watched: Watched) -> None:
    assert watched.over.status == 0, watched.over.err
    mine = found(watched.here)
    assert watched.over.out == (
        f"run {watched.killed[0]} is over, and {mine} has all of it; for more: nufed "
        f"resume={mine}\n"
    )


def test_runs_are_listed_with_the_folders_that_follow_them(watched: Watched) -> None:
    assert watched.empty.status == 0, watched.empty.err
    assert watched.empty.out.endswith(" has no runs\n")
    assert watched.empty.out.count("\n") == 1
    killed, stayed = watched.killed[0], watched.stayed[0]
    run, name, state, begun, lasted, done, folder = row_of(watched.begun.out, killed)
    assert (run, name, state) == (killed, "killed", "running")
    assert begun[:10] == folder.split("/")[-1][:10]
    assert lasted.split()[1] in ("s", "min")
    assert done in ("0/3", "1/3")
    assert folder.startswith("runs/killed/")
    assert row_of(watched.begun.out, stayed)[1] == "quadratics-ditto"
    mine = found(watched.here).relative_to(watched.here)
    assert row_of(watched.ended.out, killed)[2::3] == ["finished", "3/3"]
    assert row_of(watched.ended.out, killed)[6] == str(mine)
    assert row_of(watched.ended.out, stayed)[1:3] == ["nufed", "finished"]
    assert row_of(watched.ended.out, stayed)[5:] == ["", ""]


def test_a_run_that_nobody_knows_is_one_line(watched: Watched) -> None:
    assert watched.unknown.status == 2
    assert watched.unknown.err.count("\n") == 1
    assert "nufed attach: 7: 127.0.0.1:" in watched.unknown.err
    assert "knows no such run; its runs: nufed ls engine.superlink=127.0.0.1:" in (
        watched.unknown.err
    )
    assert not (watched.here / "runs/7").exists()
