"""wandb, MLflow and Trackio for real, on this machine: they keep what metrics.jsonl says."""

import json
import os
import sqlite3
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nufed.conf.compose import compose_config
from nufed.server_app.trackers import trackers
from nufed.server_app.trackers.scalars import scalars
from nufed.server_app.tracking import RunInfo, State
from nufed.tasks.module_state import Size
from tests.helpers import RunResult
from tests.server_app.test_trackers import SMALL, resume

pytestmark = pytest.mark.trackers
Train = Callable[..., RunResult]
BLOCK = 1 << 15
Points = dict[tuple[str, int], float]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("WANDB_MODE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


def resumed(train: Train, tracker: str) -> RunResult:
    """Return the folder of a run of three rounds, the last of them after a resumption."""
    run = train([*SMALL, "rounds=2", f"tracking={tracker}", "name=mine"])
    resume(train, run, "rounds=3")
    return run


def written(run: RunResult) -> Points:
    """Return what metrics.jsonl says: (tag, round) -> value."""
    rows = map(json.loads, (run.folder / "metrics.jsonl").read_text().splitlines())
    return {(tag, row["round"]): value for row in rows for tag, value in scalars(row).items()}


def test_mlflow_keeps_every_round_of_one_run_in_a_local_file(train: Train, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    run = resumed(train, "mlflow")
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("nufed")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.run_name == "mine"
    assert found.info.status == "FINISHED"
    assert found.data.params["algorithm.nu"] == "5"
    tags = {tag for tag, _ in written(run)}
    kept = {
        (tag, metric.step): metric.value
        for tag in tags
        for metric in client.get_metric_history(found.info.run_id, tag)
    }
    assert kept == pytest.approx(written(run))


def test_trackio_keeps_every_round_of_one_run(train: Train) -> None:
    run = resumed(train, "trackio")
    name = json.loads((run.folder / "tracking.json").read_text())["trackio"]
    (file,) = Path(os.environ["TRACKIO_DIR"]).glob("nufed*.db")
    with sqlite3.connect(file) as store:
        rows = store.execute("select run_name, step, metrics from metrics").fetchall()
    assert {row[0] for row in rows} == {name}
    kept = {(tag, step): value for _, step, text in rows for tag, value in json.loads(text).items()}
    assert {key: kept[key] for key in written(run)} == pytest.approx(written(run))


def test_wandb_keeps_every_round_under_one_id_and_sends_nothing(train: Train) -> None:
    import wandb
    from wandb.proto import wandb_internal_pb2

    run = resumed(train, "wandb")
    wandb.teardown()  # its process writes the last records as it ends
    known = json.loads((run.folder / "tracking.json").read_text())["wandb"]
    kept: Points = {}
    files = sorted(run.folder.glob(f"wandb/offline-run-*-{known}/run-{known}.wandb"))
    assert len(files) == 2, "one as it began, one as it went on"
    for data in (data for file in files for data in records(file.read_bytes())):
        items = wandb_internal_pb2.Record.FromString(data).history.item
        values = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items}
        kept |= {(tag, values["_step"]): v for tag, v in values.items() if tag[0] != "_"}
    assert kept == pytest.approx(written(run))


def test_two_keep_the_same_run_side_by_side(train: Train, tmp_path: Path) -> None:
    """What they keep is the same, also of the algorithm's own metrics and of what was spent."""
    from mlflow import MlflowClient

    run = train([*SMALL, "rounds=1", "tracking=[mlflow,trackio]", "name=both"])
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("nufed")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id])
    loss = run.rows[1]["train_loss"]
    assert found.data.metrics["train/loss"] == pytest.approx(loss)
    known = json.loads((run.folder / "tracking.json").read_text())
    assert set(known) == {"mlflow", "trackio"}
    (file,) = Path(os.environ["TRACKIO_DIR"]).glob("nufed*.db")
    with sqlite3.connect(file) as store:
        texts = store.execute(
            "select metrics from metrics where run_name = ?", [known["trackio"]]
        ).fetchall()
    kept = [json.loads(text) for (text,) in texts]
    assert [each["train/loss"] for each in kept if "train/loss" in each] == pytest.approx([loss])

    config = compose_config(["tracking=[mlflow,trackio]"])
    row = {"round": 2, "metrics": {"drift": 0.5}}
    row["cost"] = {"gradients": 37.5, "bytes_up": 1200, "bytes_down": 3400}
    for tracker in trackers(config, run.folder):
        tracker.on_start(RunInfo(config, Size(1, 0), 5, 1))
        tracker.on_round(row, State(2, {}, {}))
        tracker.on_end({})
    (found,) = client.search_runs([experiment.experiment_id])
    wanted = scalars(row)
    assert {tag: found.data.metrics[tag] for tag in wanted} == wanted
    with sqlite3.connect(file) as store:
        ((text,),) = store.execute(
            "select metrics from metrics where run_name = ? and step = 2", [known["trackio"]]
        ).fetchall()
    assert {tag: json.loads(text)[tag] for tag in wanted} == wanted


def records(content: bytes) -> Iterator[bytes]:
    """Yield the records of a .wandb file: LevelDB's log format, after seven bytes of header."""
    position, whole = 7, b""
    while position < len(content):
        left = BLOCK - position % BLOCK
        if left < 7:  # no room for a header: zeros
            position += left
            continue
        _, size, kind = struct.unpack_from("<IHB", content, position)
        whole += content[position + 7 : position + 7 + size]
        position += 7 + size
        if kind in (1, 4):  # full, or the last part
            yield whole
            whole = b""
