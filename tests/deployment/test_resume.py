"""A deployed run whose submitter is killed, then its SuperLink: followed again, then resumed."""

import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from nufed.simulation.flower_command import name_superlink
from tests import forked
from tests.deployment.harness import Federation, wait_until
from tests.forked import LIMIT_S, Done, Started
from tests.helpers import Row, RunResult, distance, read_run
from tests.server_app.test_trackers import drawn, written

pytestmark = pytest.mark.deployment

NODES, ROUNDS = 3, 8
# Momentum on the server: a resumed run that lost it would end elsewhere.
RUN = [
    *("dataset=quadratics", "dataset.num_clients=6", "dataset.seed=0", f"rounds={ROUNDS}"),
    *("evaluation.every=1", "evaluation.steps=1", "algorithm.nu=2", "clients_per_round=3"),
    *("algorithm.batch.support=3", "algorithm.batch.query=3", "checkpoint.every=1"),
    "strategy.optimizer={_target_: torch.optim.SGD, _partial_: true, lr: 0.5, momentum: 0.9}",
]
END = "summary.json", "model.safetensors", "clients.json", "report.html"
COLOURS = os.environ | {"FORCE_COLOR": "1"}  # as in many a CI: no reason to misread Flower's answer


class History(NamedTuple):
    """What came of it all."""

    folder: Path
    refused: Done
    again: list[Row]
    """The rows of the run folder when its SuperLink was killed."""
    lost: Done
    left: dict[str, object]
    """The summary that the loss left."""
    done: Done
    runs: list[str]
    """How the runs ended that the SuperLink knows."""
    fetched: Done
    """Of the same command after what the end leaves was deleted, to `content`."""
    content: dict[str, bytes]
    astray: Done
    """Of a folder whose run lies elsewhere, it says, on the server."""
    outside: list[Path]


@pytest.fixture(scope="module")
def history(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[History]:
    """Round 1 in a process, the next on the SuperLink, whose log nobody follows any more.

    Then followed again; kill -9 of the SuperLink and its ServerApp; and the rest on its successor,
    on the same port, with the SuperNodes that were there.
    """
    folder = tmp_path_factory.mktemp("resume")
    run = folder / "run"
    first = forked.run(["nufed", *RUN, "rounds=1", f"hydra.run.dir={run}"], folder)
    assert first.status == 0, first.err
    federation = Federation(folder / "federation")

    def nufed(*words: str) -> Started:
        return Started(federation.command(f"resume={run}", *words), folder, COLOURS)

    def rows() -> list[Row]:
        return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]

    try:
        for i in range(NODES):
            federation.start_node(f"node{i}", f"partition-id={i} num-partitions={NODES}")
        submitter = nufed(f"rounds={ROUNDS}")
        wait_until(lambda: len(rows()) == 3, LIMIT_S, "round 2 came", submitter)
        submitter.process.send_signal(signal.SIGKILL)
        submitter.done()
        refused = nufed("rounds=99").done()
        follower = nufed()
        wait_until(lambda: len(rows()) == 5, LIMIT_S, "round 4 came", follower)
        federation.kill_server()
        lost, again = follower.done(), rows()
        left = json.loads((run / "summary.json").read_text())
        assert (run / "report.html").exists()
        federation.superlink = federation.start_superlink()
        done = nufed().done()
        name_superlink(federation.home, "here", address=federation.address, insecure=True)
        words = ["flwr", "ls", "here", "--format", "json"]
        listed = forked.run(words, folder, federation.environment())
        runs = [each["status"] for each in json.loads(listed.out)["runs"]]
        for name in END:
            (run / name).rename(folder / name)
        fetched = nufed().done()
        content = {name: (run / name).read_bytes() for name in END if name != "report.html"}
        shutil.copytree(run, elsewhere := folder / "elsewhere")
        facts = json.loads((run / "submitted.json").read_text())
        facts |= {"run_id": "7", "run_dir": "../../astray"}
        (elsewhere / "submitted.json").write_text(json.dumps(facts))
        astray = forked.run(federation.command(f"resume={elsewhere}", "rounds=9"), folder)
        outside = list(folder.rglob("astray"))
        yield History(
            run, refused, again, lost, left, done, runs, fetched, content, astray, outside
        )
    finally:
        federation.close()


def test_a_run_that_goes_on_is_not_submitted_again(history: History) -> None:
    """It is followed at once, from where its folder begins; other values are refused in a line."""
    assert history.refused.status == 2
    assert history.refused.err.count("\n") == 1, history.refused.err
    assert re.match(r"nufed: rounds=99: run \d+ has 8, and still goes on; ", history.refused.err)
    assert re.search(r"run \d+ still goes on: following it\n", history.lost.out)
    assert "going on after round 1\n" in history.lost.out
    assert [row["round"] for row in history.again] == list(range(len(history.again)))
    assert len(history.runs) == 2, "one until the SuperLink was killed, and one after"
    assert sorted(history.runs)[0] == "finished:completed"


def test_the_loss_of_the_superlink_is_one_line_that_says_how_to_go_on(history: History) -> None:
    """With a summary, and rounds counted from the first one of all."""
    done = history.again[-1]["round"]
    assert history.lost.status == 2
    assert history.lost.err.count("\n") == 1, history.lost.err
    assert history.lost.err.endswith(f"go on with: nufed resume={history.folder}\n")
    assert "does not answer for run" in history.lost.err
    assert history.left["rounds"] == done >= 4
    assert "does not answer" in str(history.left["stopped"])


def test_what_a_run_left_that_ended_alone_is_fetched(history: History) -> None:
    assert history.fetched.status == 0, history.fetched.err
    assert "ended while nobody followed it: following it\n" in history.fetched.out
    for name, content in history.content.items():
        assert content == (history.folder.parent / name).read_bytes(), name


def test_no_run_leads_out_of_the_folder_that_the_server_keeps_runs_in(history: History) -> None:
    assert history.astray.status == 2
    assert history.astray.err.count("\n") == 1, history.astray.err
    assert "run-dir=../../astray: leads out of" in history.astray.err
    assert history.outside == []


def test_the_rest_of_the_run_is_as_if_nothing_had_been(
    history: History, train: Callable[..., RunResult]
) -> None:
    assert history.done.status == 0, history.done.err
    assert "going on after round " in history.done.out
    resumed, calm = read_run(history.folder), train(RUN)
    assert distance(resumed.model, calm.model) < 1e-5
    assert drawn(history.folder) == written(resumed.rows)
    for mine, theirs in zip(resumed.rows, calm.rows, strict=True):
        assert mine["round"] == theirs["round"]
        assert mine.get("update_norm") == pytest.approx(theirs.get("update_norm"), abs=1e-5)
        for group in ("participating", "new"):
            assert mine[group]["loss"] == pytest.approx(theirs[group]["loss"], abs=1e-5)
