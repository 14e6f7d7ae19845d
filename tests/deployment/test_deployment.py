"""`nufed engine=deployment` against real processes: TLS, keys, and data of the nodes' own."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from nufed.cli.keys import Paths, make_authority, make_node, make_server
from nufed.cli.superlink import Address
from nufed.conf.compose import of_run
from nufed.simulation.flower_command import HOST, name_superlink
from tests import forked
from tests.deployment.harness import Federation, wait_until
from tests.forked import LIMIT_S, Done
from tests.helpers import RunResult, distance, read_run
from tests.server_app.test_trackers import drawn, written

pytestmark = pytest.mark.deployment

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


KEYS = {"node0": 0, "node1": 1, "wrong": 2, "stranger": 3}


class Deployed(NamedTuple):
    """A federation, and what a run on it left."""

    federation: Federation
    folder: Path
    done: Done
    reference: Path
    """All rows of all nodes in one file."""


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """Train for a round on private data of two SuperNodes whose keys are registered.

    The key of a third is too, but it names no data; a fourth has a key that nobody registered, and
    a fifth speaks plain text.
    """
    folder = tmp_path_factory.mktemp("deployment")
    federation = Federation(folder / "federation", make_certificates(folder / "keys"))
    try:
        rows = [save(folder / f"{i}.npz", [i, i + 2]) for i in range(2)]
        every = {name: np.concatenate([r[name] for r in rows]) for name in rows[0]}
        np.savez(folder / "all.npz", **every)
        for name in ("node0", "node1", "wrong"):
            register(federation, name)
        for i in range(2):
            own = f'data-path="{folder}/{i}.npz"'
            start(federation, f"node{i}", f"partition-id={i} num-partitions=2 {own}")
        for name in ("wrong", "stranger"):
            start(federation, name, "partition-id=1 num-partitions=2")
        federation.start_node("plain", "partition-id=1 num-partitions=2", "--insecure")
        shape = ["dataset.input_shape=[3]", "dataset.num_outputs=1", "dataset.regression=true"]
        done = federation.nufed(
            *("dataset=private", *shape, "dataset.num_clients=4", *SMALL, "rounds=1"),
            "baselines=simple",
            f"hydra.run.dir={folder / 'run'}",
            cwd=folder,
        )
        yield Deployed(federation, folder, done, folder / "all.npz")
    finally:
        federation.close()


def make_certificates(folder: Path) -> Paths:
    """Make a CA, and a SuperLink's certificate for its address, not for its name."""
    paths = Paths(folder)
    make_authority(paths)
    make_server(paths, [HOST])
    return paths


def register(federation: Federation, name: str) -> None:
    """Make a SuperNode's key, and register it with Flower's own command."""
    assert federation.certificates is not None
    make_node(federation.certificates, KEYS[name])
    certificate = str(federation.certificates.ca_certificate)
    address = federation.address
    name_superlink(federation.home, "here", address=address, root_certificates=certificate)
    public = federation.certificates.node_public(KEYS[name])
    command = ["flwr", "supernode", "register", public, "here"]
    done = forked.run(command, federation.folder, federation.environment())
    assert done.status == 0, done.err


def start(federation: Federation, name: str, node_config: str) -> None:
    """Start a SuperNode that trusts the CA and shows its key, which is made if there is none."""
    keys = federation.certificates
    assert keys is not None
    make_node(keys, KEYS[name])
    trust = ["--root-certificates", str(keys.ca_certificate)]
    trust += ["--auth-supernode-private-key", str(keys.node_key(KEYS[name]))]
    federation.start_node(name, node_config, *trust)


def test_private_data_give_the_model_that_one_process_gives(
    deployed: Deployed, train: Callable[..., RunResult]
) -> None:
    """To 1e-5, though the server never saw a row, also to choose α and β; the folder is whole."""
    assert deployed.done.status == 0, deployed.done.err
    run = read_run(deployed.folder / "run")
    words = ["dataset=npz", f"dataset.path={deployed.reference}", *SMALL, "rounds=1"]
    one = train([*words, "baselines=simple"])
    chosen, alone = (of_run(each.folder, "the run").algorithm for each in (run, one))
    assert chosen == alone
    assert f"α={chosen['alpha']:g}, β={chosen['beta']:g}" in deployed.done.out
    assert distance(run.model, one.model) < 1e-5
    assert [row["round"] for row in run.rows] == [0, 1]
    assert run.rows[1]["train_loss"] == pytest.approx(one.rows[1]["train_loss"], abs=1e-5)
    assert run.rows[1]["clients"] == 3
    for group in ("participating", "new"):
        assert run.summary[group]["loss"] == pytest.approx(one.summary[group]["loss"], abs=1e-5)
    theirs, ours = (each.summary["baselines"]["means"] for each in (run, one))
    assert (
        theirs.keys()
        == {"personal", "constant", "alone_linear", "alone"}
        == ours.keys() - {"pooled"}
    )
    for name in ("personal", "constant"):  # the others' step sizes each node chooses for itself
        assert theirs[name] == pytest.approx(ours[name], abs=1e-5)


def test_the_server_keeps_the_same_folder_and_the_submitter_is_told_where(
    deployed: Deployed,
) -> None:
    here = deployed.folder / "run"
    summary = json.loads((here / "summary.json").read_text())
    there = Path(summary["server_run_folder"])
    assert there.parent.parent == deployed.federation.folder / "superlink-runs"
    assert f"server's run folder: {there}\n" in deployed.done.out
    for name in ("metrics.jsonl", "model.safetensors", "clients.json"):
        assert (here / name).read_bytes() == (there / name).read_bytes()
    assert drawn(here) == written(read_run(here).rows), "curves are drawn where one follows the run"
    assert not (there / "tensorboard").exists()
    assert f"report: {here / 'report.html'}\n" in deployed.done.out
    assert "1 of 1" in (here / "report.html").read_text()
    assert not (there / "report.html").exists(), "it is made once, where one reads it"
    assert "@@nufed@@" not in (here / "flower.log").read_text()
    assert "round 1/1" in (here / "flower.log").read_text()


def test_a_supernode_without_data_is_left_out_and_named(deployed: Deployed) -> None:
    """By the key that its node config lacks: to who submitted the run, and in its own log."""
    assert "left out" in deployed.done.out
    for text in (deployed.done.out, deployed.federation.log("wrong")):
        assert "data-path: not in this SuperNode's node config" in text
        assert "--node-config 'partition-id=0" in text


def test_strangers_are_refused(deployed: Deployed) -> None:
    """Neither a key that nobody registered nor a client without TLS ever gets a message."""
    federation = deployed.federation
    stranger = federation.nodes["stranger"]
    wait_until(lambda: stranger.poll() is not None, LIMIT_S, "the stranger gives up")
    assert stranger.returncode != 0
    assert "message (ID" in federation.log("node0")
    assert "message (ID" not in federation.log("stranger")
    assert "message (ID" not in federation.log("plain")


def test_a_submission_in_plain_text_is_refused(deployed: Deployed, tmp_path: Path) -> None:
    done = deployed.federation.nufed("engine.root_certificates=null", cwd=tmp_path)
    assert done.status == 2
    assert done.err.count("\n") == 1, done.err
    assert done.err.startswith(f"nufed: engine.superlink={deployed.federation.address}: ")
    assert "engine.root_certificates=ca.crt" in done.err
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_with_a_certificate_is_named(deployed: Deployed, tmp_path: Path) -> None:
    """Another CA's, and one for another host; the right one is fine."""
    port = deployed.federation.port
    assert deployed.federation.certificates is not None
    right = deployed.federation.certificates.ca_certificate
    wrong = make_certificates(tmp_path / "keys").ca_certificate
    assert Address(HOST, port, right).trouble() is None
    other = Address(HOST, port, wrong).trouble()
    assert other is not None
    assert f"engine.root_certificates={wrong}" in other
    host = Address("localhost", port, right).trouble()
    assert host is not None
    assert "localhost" in host
