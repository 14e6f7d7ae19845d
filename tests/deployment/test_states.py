"""What clients keep between rounds, on real SuperNodes: their own, over rounds, runs and losses."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.deployment.harness import Federation
from tests.helpers import RunResult, distance, read_run, versions_in

pytestmark = pytest.mark.deployment

SETTING = (
    *("algorithm=ditto", "algorithm.alpha=0.1", "algorithm.beta=0.3", "algorithm.tau=2"),
    *("partition=dirichlet", "partition.num_clients=4", "clients_per_round=2", "model=linear"),
    *("evaluation.new_clients=[3]", "evaluation.every=1", "evaluation.steps=1", "tracking=none"),
)
NODES = 2


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    folder = tmp_path_factory.mktemp("states")
    federation = Federation(folder / "federation")
    try:
        for i in range(NODES):
            own = f'partition-id={i} num-partitions={NODES} state-path="{states(federation, i)}"'
            federation.start_node(f"node{i}", own)
        yield federation
    finally:
        federation.close()


def states(federation: Federation, node: int) -> Path:
    """Return the folder that a SuperNode was told to keep states in."""
    return federation.folder / f"kept-{node}"


def kept(federation: Federation) -> set[int]:
    """Return the clients that have a state, each with its own SuperNode alone."""
    found = set[int]()
    for node in range(NODES):
        for index in states(federation, node).rglob("*.index"):
            clients = np.flatnonzero((versions_in(index)["slot"] > 0).any(1))
            assert (clients % NODES == node).all()
            found.update(clients.tolist())
    return found


def assert_same(mine: RunResult, theirs: RunResult) -> None:
    assert distance(mine.model, theirs.model) < 1e-5
    for row, other in zip(mine.rows, theirs.rows, strict=True):
        for group in ("participating", "new"):
            assert row[group]["accuracy"] == pytest.approx(other[group]["accuracy"], abs=1e-5)
            assert row[group]["loss"] == pytest.approx(other[group]["loss"], rel=1e-4)


def test_states_stay_with_their_nodes_and_outlive_a_run(
    federation: Federation, train: Callable[..., RunResult], tmp_path: Path
) -> None:
    """The run of four rounds is that of one process; so is one that is resumed after two."""
    whole = train([*SETTING, "rounds=4"])
    run = tmp_path / "run"
    done = federation.nufed(*SETTING, "rounds=2", f"hydra.run.dir={run}", cwd=tmp_path)
    assert done.status == 0, done.err
    assert kept(federation)
    done = federation.nufed(f"resume={run}", "rounds=4", cwd=tmp_path)
    assert done.status == 0, done.err
    assert "had lost" not in done.out + done.err
    assert_same(read_run(run), whole)
    assert kept(federation) <= {0, 1, 2}, "the new client never trains"
    for node in range(NODES):
        shutil.rmtree(states(federation, node))
    done = federation.nufed(f"resume={run}", "rounds=5", cwd=tmp_path)
    assert done.status == 0, done.err
    assert "had lost what it kept, and began afresh" in done.out + done.err
    assert read_run(run).rows[-1]["afresh"] >= 1
