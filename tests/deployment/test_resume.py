"""A SuperLink and its ServerApp killed in the middle of a run, which goes on when they are back."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.deployment.harness import Federation, wait_until
from tests.forked import LIMIT_S
from tests.helpers import RunResult, distance, read_run

pytestmark = pytest.mark.deployment

NODES = 3
# Momentum on the server: a resumed run that lost it would end elsewhere.
RUN = [
    *("dataset=quadratics", "dataset.num_clients=6", "dataset.seed=0", "rounds=3"),
    *("evaluation.every=1", "evaluation.steps=1", "algorithm.nu=2", "clients_per_round=3"),
    *("algorithm.batch.support=3", "algorithm.batch.query=3", "checkpoint.every=1"),
    "strategy.optimizer={_target_: torch.optim.SGD, _partial_: true, lr: 0.5, momentum: 0.9}",
]


def test_a_run_outlives_its_superlink(tmp_path: Path, train: Callable[..., RunResult]) -> None:
    """Round 1 in this process, round 2 on the SuperLink, kill -9, round 3 on its successor.

    That is on the same port, with the SuperNodes that were there.
    """
    run = train([*RUN, "rounds=1"]).folder
    federation = Federation(tmp_path / "federation")
    try:
        for i in range(NODES):
            federation.start_node(f"node{i}", f"partition-id={i} num-partitions={NODES}")
        nufed = federation.start_nufed(f"resume={run}", "rounds=3", cwd=tmp_path)
        runs = federation.folder / "superlink-runs"
        wait_until(lambda: any(runs.rglob("000002.*")), LIMIT_S, "round 2 is saved", nufed)
        federation.kill_server()
        federation.superlink = federation.start_superlink()
        lost = nufed.done()
        assert lost.status == 2
        assert lost.err.count("\n") == 1, lost.err
        assert f"go on with: nufed resume={run}" in lost.err
        done = federation.nufed(f"resume={run}", cwd=tmp_path)
        assert done.status == 0, done.err
        assert "going on after round 2\n" in done.out
    finally:
        federation.close()
    resumed, calm = read_run(run), train(RUN)
    assert distance(resumed.model, calm.model) < 1e-5
    for mine, theirs in zip(resumed.rows, calm.rows, strict=True):
        assert mine["round"] == theirs["round"]
        assert mine.get("update_norm") == pytest.approx(theirs.get("update_norm"), abs=1e-5)
        for group in ("participating", "new"):
            assert mine[group]["loss"] == pytest.approx(theirs[group]["loss"], abs=1e-5)
