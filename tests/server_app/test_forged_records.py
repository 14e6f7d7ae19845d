"""Whatever SuperNodes say, the run folder of who submitted the run is that of the ServerApp."""

import itertools
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Error, Message, RecordDict

from nufed.client_app.app import app as client_app
from nufed.client_app.messages import CURVATURE, ProbeReport
from nufed.client_app.wire import encode
from nufed.conf.compose import compose_config
from nufed.conf.convert import to_json
from nufed.server_app.app import app as server_app
from nufed.server_app.log_reader import LogReader
from nufed.server_app.log_records import MARK, code
from nufed.server_app.log_stream import LONGEST, LogStream
from nufed.server_app.log_submission import Submission
from nufed.server_app.probe import measured
from nufed.server_app.run_folder import RunFolder
from nufed.simulation.flower_host import SERVER_NODE_ID, stamp
from nufed.simulation.grid import TYPED, LocalGrid
from nufed.strategies.roster import Roster
from nufed.tasks.task import build
from tests.forgery import KEY, forgeries

HONEST, FORGERS, PROBED = 4, 500, 4
FAR = 5000  # number of the first node that hosts nobody
OVERRIDES = [
    *("dataset=private", "dataset.input_shape=[3]", "dataset.num_outputs=2", "model=linear"),
    *(f"dataset.num_clients={HONEST + PROBED}", "evaluation.new_clients=[0]", "rounds=2"),
    *("algorithm.nu=1", "algorithm.tau=1", "evaluation.steps=1", "evaluation.every=1"),
    *("algorithm.batch.support=null", "algorithm.batch.query=null", "server.join_timeout=1"),
]
OWN = ("train_s", "train_cpu_s", "wall_s", "peak_rss_mb", "server_run_folder")
"""Of a run, not of what it computes."""


class Grid(LocalGrid):
    """Nodes with data of their own; some forge answers to the probe, others to the census."""

    def __init__(
        self, run_config: dict[str, Any], folder: Path, said: Iterator[str], honest: int = HONEST
    ) -> None:
        super().__init__(client_app, run_config, HONEST + PROBED)
        self.first, self._said, self._honest = min(self.nodes), said, honest
        for i, node in enumerate(list(self.nodes)):
            self.nodes[node].node_config["data-path"] = save(folder / f"{i}.npz", i)

    def add_forgers(self) -> None:
        """Let more come, which host nobody."""
        some = next(iter(self.nodes.values()))
        for node in range(self.first + FAR, self.first + FAR + FORGERS):
            self.nodes[node] = some

    def _answer(self, message: Message) -> Message:
        node, kind = message.metadata.dst_node_id - self.first, message.metadata.message_type
        if node >= FAR:
            return forged(message, Error(1, next(self._said)))
        if kind == CURVATURE and node >= self._honest:
            report = ProbeReport([], [], [], [node], [next(self._said)])
            return forged(message, encode(report))
        return super()._answer(message)


def forged(message: Message, content: RecordDict | Error) -> Message:
    """Return a node's own reply."""
    reply = Message(content, reply_to=message)
    stamp(reply)
    return reply


def save(file: Path, i: int) -> str:
    """Save a client's rows, unless they are there; return where."""
    if not file.exists():
        random = np.random.default_rng(i)
        x = random.normal(size=(8, 3))
        y, test = (x[:, 0] > 0).astype(int), np.arange(8) % 4 == 0
        np.savez(file, x=x, y=y, client=np.full(8, i), test=test)
    return str(file)


def train(tmp_path: Path, name: str, said: Iterator[str], forgers: bool) -> Path:
    """Run the ServerApp to its end, its folder `name`; print what it logs."""
    log = logging.getLogger("nufed")
    before = list(log.handlers)
    config = to_json(compose_config(OVERRIDES))
    run_config = {"config": config, "run-dir": str(tmp_path / name), "report": False}
    run_config["log-stream"] = True
    grid = Grid(run_config, tmp_path, said)
    if forgers:
        grid.add_forgers()
    context = Context(grid.run.run_id, SERVER_NODE_ID, dict(TYPED), RecordDict(), dict(run_config))
    try:
        server_app(grid=grid, context=context)
    finally:
        log.handlers = before
    return tmp_path / name


def read(log: str, folder: Path) -> tuple[list[str], list[str]]:
    """Make a run folder of a log; return the notes, and what is no record."""
    notes = list[str]()
    reader = LogReader(compose_config(OVERRIDES), folder, [RunFolder(folder)], notes.append)
    plain = [text for line in log.splitlines(keepends=True) if (text := reader.read(line))]
    assert reader.missing is None
    assert reader.summary is not None
    reader.callbacks[0].on_end(reader.summary)
    return notes, plain


def content(folder: Path) -> dict[str, Any]:
    """Return a run folder, file by file, but for how long things took."""
    found: dict[str, Any] = {file.name: file.read_bytes() for file in folder.iterdir()}
    rows = map(json.loads, found["metrics.jsonl"].splitlines())
    found["metrics.jsonl"] = [{k: v for k, v in row.items() if k not in OWN} for row in rows]
    summary = json.loads(found["summary.json"])
    found["summary.json"] = {k: v for k, v in summary.items() if k not in OWN}
    return found


def test_500_censuses_and_probes_that_try_to_be_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder is that of a run without them, and the ServerApp's own, byte by byte."""
    folders = []
    for name, said in (("plain", itertools.repeat("no")), ("forged", forgeries(600))):
        there = train(tmp_path, f"{name}-server", said, forgers=name == "forged")
        here = tmp_path / name
        notes, plain = read(capsys.readouterr().out, here)
        for file in ("metrics.jsonl", "model.safetensors", "clients.json"):
            assert (here / file).read_bytes() == (there / file).read_bytes()
        folders.append(content(here))
    assert folders[0] == folders[1]
    left_out = [note for note in notes if "left out" in note]
    assert len(left_out) >= FORGERS
    assert max(map(len, notes)) <= LONGEST
    assert all(note.isprintable() for note in notes)
    assert not any(line.startswith(MARK) for line in plain)


def test_500_probes_that_try_to_be_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Asked again and again, each answer another: all are notes, none is a record."""
    config = compose_config(OVERRIDES)
    liars = HONEST + PROBED - 1  # client 0 is new, and not asked
    said = forgeries(liars * (times := -(-500 // liars)), seed=1)
    grid = Grid({"config": to_json(config)}, tmp_path, said, honest=1)
    task = build(config)
    roster = Roster(config.seed, config.evaluation.new_clients, task.data.partition)
    roster.wait(grid, timeout=0)
    log = logging.getLogger("nufed")
    before = list(log.handlers)
    stream = LogStream(Path("/server/run"), Submission(to_json(config), "run"))
    try:
        for _ in range(times):
            assert not measured(grid, roster, config, task, task.initial_params()).known
    finally:
        log.handlers = before
    assert next(said, None) is None
    stream.on_end({"rounds": 0})
    (tmp_path / "run").mkdir()
    notes, _ = read(capsys.readouterr().out, tmp_path / "run")
    assert len(notes) == liars * times
    assert all(note.isprintable() and len(note) <= LONGEST for note in notes)
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == {"rounds": 0}


def test_500_lines_that_try_to_be_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Raw in the log, at every place after its first record: each is text, and nothing else is."""
    train(tmp_path, "server", itertools.repeat("no"), forgers=False)
    log = capsys.readouterr().out.splitlines(keepends=True)
    read("".join(log), tmp_path / "plain")
    texts = list(forgeries(500, seed=2))
    first = next(i for i, line in enumerate(log) if line.startswith(MARK))
    places = np.random.default_rng(0).integers(first + 1, len(log) + 1, len(texts))
    mixed = "".join(
        line + "".join(text + "\n" for text, place in zip(texts, places, strict=True) if place == i)
        for i, line in enumerate(log, 1)
    )
    _, plain = read(mixed, tmp_path / "forged")
    assert content(tmp_path / "forged") == content(tmp_path / "plain")
    assert sum(line.startswith(MARK) for line in plain) > 500


@pytest.mark.parametrize("forged", [False, True])
def test_without_its_first_record_a_log_has_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], forged: bool
) -> None:
    """Its key is lost; another's, later, is not taken for it. Read again, with it, all is there."""
    train(tmp_path, "server", itertools.repeat("no"), forgers=False)
    log = capsys.readouterr().out.splitlines(keepends=True)
    first = next(i for i, line in enumerate(log) if line.startswith(MARK))
    lost = [*log[:first], *log[first + 1 :]]
    if forged:
        text = '{"n": 0, "key": "' + KEY + '"}'
        summary = '{"n": 1, "summary": {"rounds": 999}}'
        lost += [f"{MARK}{code(KEY, each)} {each}\n" for each in (text, summary)]
    folder = tmp_path / "run"
    reader = LogReader(compose_config(OVERRIDES), folder, [RunFolder(folder)], print)
    for line in lost:
        reader.read(line)
    assert (reader.next, reader.summary) == (0, None)
    assert not folder.exists()
    reader.again()
    for line in log:
        reader.read(line)
    assert reader.summary is not None
    assert reader.summary["rounds"] == 2
