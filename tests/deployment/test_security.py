"""TLS and authentication: who has a registered key takes part, who has none is refused."""

import json
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from simulation.flower_command import SCRIPTS, name_superlink
from tests.deployment.harness import Federation, wait_until
from tests.deployment.keys import make_certificates, make_node_key
from tests.helpers import RunResult, distance, read_run

SMALL = [
    *("rounds=1", "evaluation.every=100", "evaluation.steps=1", "evaluation.clients=2"),
    *("partition.num_clients=6", "clients_per_round=3", "model=logistic", "algorithm.nu=1"),
]


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Run a SuperLink with TLS that knows the key of one SuperNode, which hosts all clients."""
    folder = tmp_path_factory.mktemp("security")
    make_certificates(folder / "certificates")
    federation = Federation(folder / "federation", folder / "certificates")
    try:
        for name in ("registered", "stranger"):
            make_node_key(folder / name)
        certificate = str(folder / "certificates" / "ca.crt")
        name_superlink(
            federation.home, "here", address=federation.address, root_certificates=certificate
        )
        subprocess.run(
            [SCRIPTS / "flwr", "supernode", "register", folder / "registered.pub", "here"],
            env=federation.environment(),
            check=True,
            capture_output=True,
        )
        trust = ["--root-certificates", certificate, "--auth-supernode-private-key"]
        whole = "partition-id=0 num-partitions=1"
        federation.start_node("registered", whole, *trust, str(folder / "registered"))
        federation.start_node("stranger", whole, *trust, str(folder / "stranger"))
        federation.start_node("plain", whole, "--insecure")
        yield federation
    finally:
        federation.stop()


@pytest.fixture(scope="module")
def run(secured: Federation, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """Train for a round on the one SuperNode that may take part."""
    folder = tmp_path_factory.mktemp("run")
    done = secured.nufed(*SMALL, f"hydra.run.dir={folder}", cwd=folder)
    assert done.status == 0, done.err
    return read_run(folder)


def test_a_registered_supernode_trains_the_model_that_one_process_trains(
    run: RunResult, train: Callable[..., RunResult]
) -> None:
    """The same batches of digits, drawn from the seed, to 1e-5."""
    one = train(SMALL)
    assert distance(run.model, one.model) < 1e-5
    assert run.rows[1]["train_loss"] == pytest.approx(one.rows[1]["train_loss"], abs=1e-5)


def test_strangers_are_refused(secured: Federation, run: RunResult) -> None:
    """Neither a key that nobody registered nor a client without TLS gets in, then or later."""
    online = subprocess.run(
        [SCRIPTS / "flwr", "supernode", "list", "here", "--format", "json"],
        env=secured.environment(),
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert [node["status"] for node in json.loads(online)["nodes"]] == ["online"]
    stranger = secured.nodes["stranger"]
    wait_until(lambda: stranger.poll() is not None, 60, "the stranger gives up")
    assert stranger.returncode != 0
    assert "message" not in secured.log("stranger")
    assert "message" not in secured.log("plain")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["engine.root_certificates=null"], ["engine.root_certificates=ca.crt"]),
        (["engine.root_certificates=other/ca.crt"], ["engine.root_certificates=", "certificate"]),
        (["engine.superlink=localhost:PORT"], ["engine.root_certificates=", "host"]),
    ],
)
def test_a_submission_that_does_not_trust_the_superlink_is_refused(
    secured: Federation, tmp_path: Path, change: list[str], words: list[str]
) -> None:
    """Plain text to TLS, the certificate of another CA, a host that it is not for."""
    make_certificates(tmp_path / "other")
    before = set(tmp_path.rglob("*"))
    change = [word.replace("PORT", str(secured.port)) for word in change]
    done = secured.nufed(*SMALL, *change, cwd=tmp_path)
    assert done.status == 2
    assert done.err.count("\n") == 1, done.err
    assert done.err.startswith("nufed: engine.superlink=")
    assert [word for word in words if word not in done.err] == []
    assert set(tmp_path.rglob("*")) == before


def test_ctrl_c_stops_the_run_and_says_how_to_go_on(secured: Federation, tmp_path: Path) -> None:
    """A real SIGINT in the middle of a long run: rows stay, the server has a checkpoint."""
    folder = tmp_path / "run"
    process = secured.start_nufed(*SMALL, "rounds=1000", f"hydra.run.dir={folder}", cwd=tmp_path)
    rows = folder / "metrics.jsonl"
    wait_until(lambda: rows.exists() and rows.read_text() != "", 300, "a row comes", process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.count("\n") == 1, err
    assert f"go on with: nufed resume={folder}" in err
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["stopped"].startswith("interrupted; the run was stopped after round")
    run_id = json.loads((folder / "submitted.json").read_text())["run_id"]
    listed = subprocess.run(
        [SCRIPTS / "flwr", "ls", "here", "--run-id", run_id, "--format", "json"],
        env=secured.environment(),
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert json.loads(listed)["runs"][0]["status"] == "finished:stopped"
    there = Path(summary["server_run_folder"])
    wait_until(lambda: any(there.glob("checkpoint/*")), 60, "the server saves a checkpoint")
    shutil.rmtree(there)
