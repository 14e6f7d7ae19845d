"""A SuperNode whose code is hostile: a run ends well with the others, and its lines stay readable.

One run on four SuperNodes with data of their own. In the place of its answers, node 3 sends an
error of 60,000 signs, then says who it hosts after all; then that its loss has curvature 1e30; in
round 1 that its loss is 1.7e308; in round 2 the error again.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from nufed.conf.compose import of_run
from tests.deployment.harness import Federation
from tests.deployment.test_deployment import save
from tests.forked import Done
from tests.helpers import Row

pytestmark = pytest.mark.deployment

NODES = 4
NET = '''
"""A linear model that takes over a SuperNode which names a file of deeds, one a message."""

import os
import sys
from pathlib import Path

from torch import nn

TEXT = "\\x1b[2J\\x1b]0;owned\\x07 \\r\\n@@nufed@@ {\\"n\\": 0}\\n\\u202e" + "x" * 60_000


def take_over(file, app):
    deed, _, rest = file.read_text().partition(" ")
    file.write_text(rest)
    honest = app.encode

    def encode(*args):
        if deed == "raise":
            raise RuntimeError(TEXT)
        content = honest(*args)
        for name in {"largest", "loss"} & set(content.get("report", {})) if deed == "lie" else ():
            content["report"][name] = [1e30 if name == "largest" else 1.7e308]
        return content

    app.encode = encode


if "DEEDS" in os.environ:
    take_over(Path(os.environ["DEEDS"]), sys.modules["nufed.client_app.app"])


class Net(nn.Linear):
    def __init__(self, input_shape, num_outputs):
        super().__init__(input_shape[0], num_outputs, bias=False)
'''
RUN = [
    *("dataset=private", "dataset.input_shape=[3]", "dataset.num_outputs=1"),
    *("dataset.regression=true", f"dataset.num_clients={NODES}", "model=custom"),
    *("model._target_=faulty.Net", "rounds=2", "baselines=none", "evaluation.every=100"),
    *("evaluation.steps=1", "evaluation.new_clients=0", "algorithm.nu=1", "algorithm.tau=1"),
    *("algorithm.batch.support=null", "algorithm.batch.query=null"),
]


class Ended(NamedTuple):
    """A run that went to its end."""

    folder: Path
    done: Done
    rows: list[Row]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ended]:
    """Run it all."""
    folder = tmp_path_factory.mktemp("hostile")
    federation = Federation(folder / "federation")
    try:
        (federation.code / "faulty.py").write_text(NET)
        deeds = federation.folder / "deeds.txt"
        deeds.write_text("raise ok lie lie raise ok")
        for i in range(NODES):
            save(folder / f"{i}.npz", [i])
            own = f'partition-id={i} num-partitions={NODES} data-path="{folder}/{i}.npz"'
            env = {"DEEDS": str(deeds)} if i == NODES - 1 else {}
            federation.start_node(f"node{i}", own, env=env)
        done = federation.nufed(*RUN, f"hydra.run.dir={folder / 'run'}", cwd=folder)
        assert done.status == 0, done.err
        record = (folder / "run" / "metrics.jsonl").read_text().splitlines()
        yield Ended(folder / "run", done, [json.loads(line) for line in record])
    finally:
        federation.close()


def test_the_run_ends_well_with_the_others(ended: Ended) -> None:
    assert [row.get("clients") for row in ended.rows] == [None, 3, 3]
    assert all(math.isfinite(row["train_loss"]) for row in ended.rows[1:])
    assert "stopped" not in json.loads((ended.folder / "summary.json").read_text())
    assert ended.rows[2]["participating"]["clients"] == NODES


def test_its_curvature_makes_no_step_small(ended: Ended) -> None:
    a = of_run(ended.folder, "the run").algorithm
    assert 0.01 < a["alpha"] < 10
    assert 0.01 < a["beta"] < 10
    assert "left out of the probe: client 3 (1e+30): " in ended.done.out + ended.done.err


def test_its_replies_are_dropped_and_named(ended: Ended) -> None:
    (loss,), (text,) = (row["failures"] for row in ended.rows[1:])
    assert loss["client"] == text["client"] == 3
    assert loss["reason"] == "loss is 1.7e+308; must be from -3.40282e+38 to 3.40282e+38"
    assert r"\x1b[2J\x1b]0;owned\x07 @@nufed@@" in text["reason"]
    assert len(text["reason"]) == 200


def test_what_it_writes_stands_on_short_printable_lines(ended: Ended) -> None:
    lines = (ended.done.out + ended.done.err).splitlines()
    (refused,) = [line for line in lines if " is left out: " in line]
    assert r"\x1b[2J\x1b]0;owned\x07 @@nufed@@" in refused
    assert len([line for line in lines if line.endswith(" is no longer left out")]) == 1
    assert all(line.isprintable() and len(line) < 500 for line in lines)
