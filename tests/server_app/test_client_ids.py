"""Ids in, ids out: what a person calls clients decides who is new, and is what every file says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError, RunStopped
from nufed.server_app.app import notes
from nufed.server_app.report.callback import Report
from nufed.server_app.report.record import read_record
from nufed.server_app.run_folder import CLIENTS
from nufed.tasks.task import build
from tests.helpers import RunResult
from tests.server_app.report.helpers import read_page

Train = Callable[..., RunResult]

GAPS = np.array([1, 2, 3, 5, 8, 13, 21, 34, 55, 89])
NAMES = np.array(["Zoë", "李雷", "a b", "a,b", "a=b", "x/y", "<b>", "'q'", "\u202eab", "é"])
TINY = [
    *("model=logistic", "algorithm.nu=1", "algorithm.tau=1", "algorithm.alpha=0.1"),
    *("algorithm.beta=0.1", "algorithm.batch.support=4", "algorithm.batch.query=4"),
    *("evaluation.steps=1", "rounds=2", "fraction=1.0"),
]


def write(file: Path, ids: NDArray[Any], changed: NDArray[Any] | None = None) -> list[str]:
    """Write 8 rows of each client, and return overrides; rows of those `changed` are others."""
    random = np.random.default_rng(0)
    client = np.repeat(np.arange(len(ids)), 8)
    x = random.normal(size=(len(client), 4)).astype(np.float32)
    y = (x[:, 0] > 0).astype(int)
    if changed is not None:
        x[np.isin(client, changed)] *= 1e4
    np.savez(file, x=x, y=y, client=ids[client])
    return ["dataset=npz", f"dataset.path={file}", "dataset.one_class=keep", *TINY]


def measured(run: RunResult) -> dict[str, list[int | str]]:
    content = json.loads((run.folder / CLIENTS).read_text())
    return {group: content[group]["client"] for group in ("participating", "new")}


@pytest.mark.parametrize(
    ("ids", "typed", "places"),
    [
        (GAPS, "[5,8]", [3, 4]),
        (GAPS, "[55,'89']", [8, 9]),
        (GAPS.astype(float), "[5,8]", [3, 4]),
        (NAMES, "[李雷]", [1]),
        (NAMES, "['a,b',a=b,<b>,\u202eab,é]", [3, 4, 6, 8, 9]),
        (NAMES.astype(object), "[\"'q'\",x/y,Zoë]", [7, 5, 0]),
        (np.array([2**63 + int(i) for i in GAPS], np.uint64), f"[{2**63 + 5}]", [3]),
        (np.array([str(10**20 + int(i)) for i in GAPS]), f"[{10**20 + 5},'{10**20 + 8}']", [3, 4]),
        (np.array([f"a{i}".encode() for i in GAPS]), "[a5]", [3]),
    ],
    ids=[
        "gaps",
        "the last",
        "floats",
        "a name",
        "signs",
        "objects",
        "uint64",
        "21 digits",
        "bytes",
    ],
)
def test_whom_a_person_keeps_out_is_never_trained_on(
    train: Train, tmp_path: Path, ids: NDArray[Any], typed: str, places: list[int]
) -> None:
    """Their rows can be anything: the model is the same bit for bit; and files say their ids."""
    kept, changed = (
        train([*write(tmp_path / f"{name}.npz", ids, rows), f"evaluation.new_clients={typed}"])
        for name, rows in (("kept", None), ("changed", np.array(places)))
    )
    assert all(torch.equal(kept.model[name], changed.model[name]) for name in kept.model)
    assert kept.summary["new"]["loss"] != changed.summary["new"]["loss"]
    called = [each.decode() if isinstance(each, bytes) else each for each in ids.tolist()]
    found = measured(kept)
    assert set(found["new"]) == {called[place] for place in places}
    assert set(found["participating"]) == set(called) - set(found["new"])
    assert {type(each) for each in found["new"]} <= {int, str}, "JSON's own"


@pytest.mark.parametrize("absent", ["[0]", "[4]", "[1,90]", "['05']", "[amy]"])
def test_an_id_that_is_not_there_is_refused(train: Train, tmp_path: Path, absent: str) -> None:
    with pytest.raises(InputError, match="is not among 1, 2, 3, 5, 8, … 89") as caught:
        train([*write(tmp_path / "gaps.npz", GAPS), f"evaluation.new_clients={absent}"])
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run1").exists()


def test_what_is_said_of_clients_has_their_ids(
    train: Train, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Dropped ones in metrics.jsonl and the report, poor ones in the warning at the start."""
    given = write(tmp_path / "names.npz", NAMES, changed=np.array([6]))
    given += [
        "strategy.max_norm=10",
        "algorithm.nu=0",
        "algorithm.batch.query=7",
        "evaluation.new_clients=[é]",
    ]
    run = train(given, num_supernodes=10, report=True)
    failed = [failure["client"] for row in run.rows for failure in row.get("failures", [])]
    assert set(failed) == {"<b>"}
    page = read_page(run.folder / "report.html")
    assert {row[3] for row in page.table("reason in")} == {"<b>"}
    assert "Clients go by their ids in the data." in page.text
    assert "10 of 10 clients have fewer train rows than a batch of 7 (client 'q': 6)" in caplog.text


def test_a_run_that_stops_names_the_client_by_its_id(train: Train, tmp_path: Path) -> None:
    given = write(tmp_path / "gaps.npz", GAPS + 100)
    with pytest.raises(RunStopped, match=r"\(client 101: the update's norm"):
        train([*given, "strategy.max_norm=1e-9", "evaluation.new_clients=[189]"])


def test_clients_that_a_partition_does_not_keep_are_said_in_every_run(tmp_path: Path) -> None:
    """Also where the data were prepared by an earlier one."""
    given = write(tmp_path / "gaps.npz", GAPS)
    config = compose_config([*given, "partition=iid", "partition.num_clients=5"])
    line = (
        "partition=iid: the 10 clients of the data set are not used; 5 new ones are made "
        "(partition=natural keeps them)"
    )
    for _ in range(2):
        assert notes(config, build(config), {0: 100})[0] == line
    kept = compose_config(given)
    assert notes(kept, build(kept), {0: 100}) == []


@pytest.fixture
def older(train: Train, tmp_path: Path) -> RunResult:
    """A run of an older version, with numbers of clients in its files."""
    given = write(tmp_path / "gaps.npz", GAPS, changed=np.array([8]))
    given += ["strategy.max_norm=10", "algorithm.nu=0"]
    run = train([*given, "evaluation.new_clients=[8,13]"], num_supernodes=10)
    place = {int(each): i for i, each in enumerate(GAPS)}
    rows = [
        row | {"failures": [f | {"client": place[f["client"]]} for f in row["failures"]]}
        if "failures" in row
        else row
        for row in run.rows
    ]
    (run.folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    clients = json.loads((run.folder / CLIENTS).read_text())
    for group in ("participating", "new"):
        clients[group]["client"] = [place[each] for each in clients[group]["client"]]
    (run.folder / CLIENTS).write_text(json.dumps({"names": GAPS.tolist()} | clients))
    return run


def test_an_older_run_is_reported_as_it_was(older: RunResult) -> None:
    """4 and 5 are the fifth and sixth client, with the ids 8 and 13; 8 is client 55."""
    record = read_record(older.folder)
    assert record.clients is not None
    assert [record.name(client) for client in record.clients["new"]["client"]] == ["8", "13"]
    Report(older.folder).on_end({})
    page = read_page(older.folder / "report.html")
    assert {row[3] for row in page.table("reason in")} == {"55"}
