"""`nufed engine=deployment` against real processes, in plain text: data of the nodes' own."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tests.deployment.harness import Done, Federation
from tests.helpers import RunResult, distance, read_run

SMALL = [
    *("model=linear", "algorithm.nu=2", "algorithm.tau=2", "clients_per_round=3"),
    *("algorithm.batch.support=null", "algorithm.batch.query=null", "engine.precision=float64"),
    *("evaluation.every=100", "evaluation.steps=1", "evaluation.new_clients=[3]"),
]


def save(file: Path, clients: list[int]) -> dict[str, np.ndarray]:
    """Save 8 rows of each client, every fourth for testing; return them."""
    random = np.random.default_rng(clients)
    n = 8 * len(clients)
    x = random.normal(size=(n, 3))
    rows = {"x": x, "y": x @ random.normal(size=3), "test": np.arange(n) % 4 == 0}
    rows["client"] = np.repeat(clients, 8)
    np.savez(file, **rows)
    return rows


class Deployed(NamedTuple):
    """A federation, and what a run on it left."""

    federation: Federation
    folder: Path
    done: Done
    reference: Path
    """All rows of all nodes in one file."""


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """Train for a round on private data of two SuperNodes, with a third that is set up wrongly."""
    folder = tmp_path_factory.mktemp("deployment")
    federation = Federation(folder / "federation")
    try:
        rows = [save(folder / f"{i}.npz", [i, i + 2]) for i in range(2)]
        every = {name: np.concatenate([r[name] for r in rows]) for name in rows[0]}
        np.savez(folder / "all.npz", **every)
        for i in range(2):
            own = f'data-path="{folder}/{i}.npz"'
            federation.start_node(f"node{i}", f"partition-id={i} num-partitions=2 {own}")
        federation.start_node("wrong", "num-partitions=2 partition-id=1")
        shape = ["dataset.input_shape=[3]", "dataset.num_outputs=1", "dataset.regression=true"]
        done = federation.nufed(
            *("dataset=private", *shape, "dataset.num_clients=4", *SMALL, "rounds=1"),
            f"hydra.run.dir={folder / 'run'}",
            cwd=folder,
        )
        yield Deployed(federation, folder, done, folder / "all.npz")
    finally:
        federation.stop()


def test_private_data_give_the_model_that_one_process_gives(
    deployed: Deployed, train: Callable[..., RunResult]
) -> None:
    """To 1e-5, though the server never saw a row; the folder here is whole."""
    assert deployed.done.status == 0, deployed.done.err
    run = read_run(deployed.folder / "run")
    one = train(["dataset=npz", f"dataset.path={deployed.reference}", *SMALL, "rounds=1"])
    assert distance(run.model, one.model) < 1e-5
    assert [row["round"] for row in run.rows] == [0, 1]
    assert run.rows[1]["train_loss"] == pytest.approx(one.rows[1]["train_loss"], abs=1e-5)
    assert run.rows[1]["clients"] == 3
    for group in ("participating", "new"):
        assert run.summary[group]["loss"] == pytest.approx(one.summary[group]["loss"], abs=1e-5)


def test_the_server_keeps_the_same_folder_and_the_submitter_is_told_where(
    deployed: Deployed,
) -> None:
    here = deployed.folder / "run"
    summary = json.loads((here / "summary.json").read_text())
    there = Path(summary["server_run_folder"])
    assert there.parent.parent == deployed.federation.folder / "superlink-runs"
    assert f"server's run folder: {there}\n" in deployed.done.out
    for name in ("metrics.jsonl", "model.safetensors"):
        assert (here / name).read_bytes() == (there / name).read_bytes()
    assert "@@nufed@@" not in (here / "flower.log").read_text()
    assert "round 1/1" in (here / "flower.log").read_text()


def test_a_supernode_without_data_is_left_out_and_named(deployed: Deployed) -> None:
    """By the key that its node config lacks: to who submitted the run, and in its own log."""
    assert "left out" in deployed.done.out
    for text in (deployed.done.out, deployed.federation.log("wrong")):
        assert "data-path: not in this SuperNode's node config" in text
        assert "--node-config 'partition-id=0" in text
