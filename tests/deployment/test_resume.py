"""A SuperLink and its ServerApp killed in the middle of a run, which goes on when they are back."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.deployment.harness import Federation, wait_until
from tests.helpers import RunResult, distance, read_run

NODES = 3
# Momentum on the server: a resumed run that lost it would end elsewhere.
RUN = [
    *("dataset=quadratics", "dataset.num_clients=6", "dataset.seed=0", "rounds=3"),
    *("evaluation.every=100", "evaluation.steps=1", "algorithm.nu=2", "clients_per_round=3"),
    *("algorithm.batch.support=3", "algorithm.batch.query=3", "checkpoint.every=1"),
    "strategy.optimizer={_target_: torch.optim.SGD, _partial_: true, lr: 0.5, momentum: 0.9}",
]


def test_a_run_outlives_its_superlink(tmp_path: Path, train: Callable[..., RunResult]) -> None:
    """kill -9 in round 2, a SuperLink anew on the same port, the SuperNodes that were there.

    And a run that another engine began goes on there too.
    """
    federation, run = Federation(tmp_path / "federation"), tmp_path / "run"
    try:
        for i in range(NODES):
            federation.start_node(f"node{i}", f"partition-id={i} num-partitions={NODES}")
        process = federation.start_nufed(*RUN, f"hydra.run.dir={run}", cwd=tmp_path)
        runs = federation.folder / "superlink-runs"
        wait_until(lambda: any(runs.rglob("000001.*")), 300, "round 1 is saved", process)
        federation.kill_server()
        federation.superlink = federation.start_superlink()
        _, err = process.communicate(timeout=120)
        assert process.returncode == 2
        assert err.count("\n") == 1, err
        assert f"go on with: nufed resume={run}" in err
        done = federation.nufed(f"resume={run}", cwd=tmp_path)
        assert done.status == 0, done.err
        assert re.search(r"^going on after round [12]$", done.out, re.MULTILINE), done.out
        begun = train([*RUN, "rounds=1"])
        done = federation.nufed(f"resume={begun.folder}", "rounds=2", cwd=tmp_path)
        assert done.status == 0, done.err
    finally:
        federation.stop()
    one_more = train([*RUN, "rounds=2"])
    assert distance(read_run(begun.folder).model, one_more.model) < 1e-5
    resumed, calm = read_run(run), train(RUN)
    assert distance(resumed.model, calm.model) < 1e-5
    assert [row["round"] for row in resumed.rows] == [0, 1, 2, 3]
    for mine, theirs in zip(resumed.rows, calm.rows, strict=True):
        norms = (row.get("update_norm", 0.0) for row in (mine, theirs))
        assert next(norms) == pytest.approx(next(norms), abs=1e-5)
        assert ("new" in mine) == ("new" in theirs)
