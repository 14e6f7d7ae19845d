"""Differential privacy of a deployed run, measured in its models; and its price after a crash."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nufed.server_app.releases import RELEASES
from tests import forked
from tests.deployment.harness import Federation, wait_until
from tests.forked import LIMIT_S
from tests.helpers import RunResult, epsilon_of, read_run
from tests.released import DELTA, PRIVATE, Z, assert_priced, assert_released

pytestmark = pytest.mark.deployment

NODES = 3


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """A SuperLink, and SuperNodes with two clients each."""
    federation = Federation(tmp_path_factory.mktemp("private") / "federation")
    try:
        for i in range(NODES):
            federation.start_node(f"node{i}", f"partition-id={i} num-partitions={NODES}")
        yield federation
    finally:
        federation.close()


def server_folder(federation: Federation, run: Path) -> Path:
    """Return where the server has a run that was submitted from `run`."""
    name = json.loads((run / "submitted.json").read_text())["run_dir"]
    return federation.folder / "superlink-runs" / name


def test_clipping_and_noise_are_in_the_models(federation: Federation, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = federation.nufed(*PRIVATE, f"hydra.run.dir={run}", cwd=tmp_path)
    assert done.status == 0, done.err
    there = server_folder(federation, run)
    assert_released(there)
    assert_priced(there)
    assert read_run(run).rows == read_run(there).rows
    assert f"ε = {epsilon_of(2, Z, DELTA):.3g} at δ = {DELTA:g}" in done.out


def test_a_server_that_is_killed_counts_all_that_it_released(
    federation: Federation, tmp_path: Path, train: Callable[..., RunResult]
) -> None:
    """Round 1 here; rounds from 2 on there, without a checkpoint; kill -9; and 2, 3, 4 once more.

    What was released here travels along; and without the server's ledger it does not go on here.
    """
    run = train([*PRIVATE, "rounds=1"]).folder
    words = [f"resume={run}", "rounds=4", "checkpoint.every=100"]
    nufed = federation.start_nufed(*words, cwd=tmp_path)
    wait_until((run / "submitted.json").exists, LIMIT_S, "it is submitted", nufed)
    ledger = server_folder(federation, run) / RELEASES
    wait_until(
        lambda: ledger.exists() and ledger.read_bytes().count(b"\n") >= 3,
        LIMIT_S,
        "round 3 is released",
        nufed,
    )
    federation.kill_server()
    lost = ledger.read_bytes().count(b"\n")
    federation.superlink = federation.start_superlink()
    assert nufed.done().status == 2
    assert [int(f.name[:6]) for f in (ledger.parent / "checkpoint").iterdir()] == [1]

    here = forked.run(["nufed", "engine=batched", f"resume={run}"], tmp_path)
    assert here.status == 2
    assert here.err.startswith(f"nufed: {run / 'submitted.json'}: says that a server went on")
    assert here.err.count("\n") == 1

    # As of a command that was killed before it heard whether the server has the run.
    facts = json.loads((run / "submitted.json").read_text())
    (run / "submitted.json").write_text(json.dumps(facts | {"run_id": "", "superlink": "other"}))
    other = federation.nufed(f"resume={run}", cwd=tmp_path)
    assert other.status == 2
    assert "other may have gone on with this private run, and it alone knows" in other.err
    (run / "submitted.json").write_text(json.dumps(facts | {"run_id": ""}))
    done = federation.nufed(f"resume={run}", cwd=tmp_path)
    assert done.status == 0, done.err
    assert ledger.read_bytes().count(b"\n") == lost + 3
    resumed = read_run(run)
    assert [row["epsilon"] for row in resumed.rows[2:]] == pytest.approx(
        [epsilon_of(lost + i, Z, DELTA) for i in (1, 2, 3)], rel=1e-9
    )
    assert resumed.summary["epsilon"] == resumed.rows[-1]["epsilon"]
