"""A run folder that travels by a log: whole, or the line that is missing is named."""

import io
import json
import logging
import resource
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from nufed.cli.engines.deployment import _submit
from nufed.cli.follower import Follower, said_here
from nufed.conf.compose import compose_config
from nufed.conf.convert import to_json
from nufed.conf.errors import CallbackFailed, CannotWrite, InputError, RunStopped
from nufed.server_app.callbacks import Own
from nufed.server_app.log_files import BrokenStream
from nufed.server_app.log_reader import LogReader
from nufed.server_app.log_records import MARK, code
from nufed.server_app.log_stream import PART, LogStream
from nufed.server_app.log_submission import Submission
from nufed.server_app.run_folder import RunFolder
from nufed.server_app.terminal import Terminal
from nufed.server_app.tracking import Callback, Row, RunInfo, State
from nufed.strategies.curves import Evaluation, Members
from nufed.tasks.streams import DRAWS
from nufed.tasks.task import build
from nufed.tasks.trained import Sizes, read

CONFIG = compose_config(["dataset=quadratics", "algorithm.alpha=0.1", "algorithm.beta=0.2"])
PARAMS = {"w": torch.randn(3 * PART // 4, generator=torch.Generator().manual_seed(0))}
SUBMISSION = Submission(to_json(CONFIG), "mine/2026-01-02_03-04-05-ab12cd34")
SIZES = Sizes((5,), 1, regression=True, pixels=False, draws=DRAWS)


class Vector(torch.nn.Module):
    """A model of one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros_like(PARAMS["w"]))


MEASURED = Evaluation(
    1, {"new": Members(["ward é", 8], [5, None], {"loss": np.array([[2, 1 / 3]] * 2)}, [3, 2])}
)
ROWS: list[Row] = [{"round": 0, "train_loss": 1.5}, {"round": 1, "train_loss": float("nan")}]


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the log of a run of two rounds with a model of four lines, other lines between."""
    return logged(SUBMISSION, capsys)


def logged(submission: Submission, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return such a log of a run that was submitted so."""
    log = logging.getLogger("nufed")
    before = list(log.handlers)
    stream = LogStream(Path("/server/run"), submission)
    try:
        log.warning("2 of 5 clients are there")
        task = replace(build(CONFIG), module=Vector())
        stream.on_start(RunInfo(CONFIG, task.size, 4, 1, task=task))
        for row in ROWS:
            print(f"round {row['round']}")
            stream.on_round(row, State(row["round"], PARAMS, {}))
        stream.on_clients(MEASURED)
        stream.on_end({"rounds": 1})
    finally:
        log.handlers = before
    return capsys.readouterr().out.splitlines(keepends=True)


class Reading:
    """A reader with a run folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.notes, self.plain = folder, list[str](), list[str]()
        self.reader = LogReader(CONFIG, folder, [RunFolder(folder)], self.notes.append)

    def read(self, lines: list[str]) -> None:
        """Read lines, as they come."""
        self.plain += [text for line in lines if (text := self.reader.read(line))]

    def rows(self) -> list[Row]:
        """Return the rows written so far."""
        return [json.loads(row) for row in (self.folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def reading(tmp_path: Path) -> Reading:
    return Reading(tmp_path / "run")


def test_everything_arrives(lines: list[str], reading: Reading) -> None:
    """To the last bit; what is not finite as null; the warning; and the other lines apart."""
    reading.read(lines)
    params, sizes = read(reading.folder / "model.safetensors")
    assert torch.equal(params["w"], PARAMS["w"])
    assert sizes == SIZES
    new = {"client": ["ward é", 8], "rows": [5, None], "test_rows": [3, 2]}
    new |= {"loss": [[2.0, 0.333333]] * 2}
    clients = json.loads((reading.folder / "clients.json").read_text())
    assert clients == {"round": 1, "new": new}
    assert reading.rows() == [ROWS[0], {"round": 1, "train_loss": None}]
    assert reading.reader.summary == {"rounds": 1}
    assert reading.reader.server_folder == "/server/run"
    assert reading.reader.missing is None
    assert reading.notes == ["2 of 5 clients are there"]
    assert reading.plain == ["round 0\n", "round 1\n"]


class Watching(Callback):
    """Keeps what it is told of clients, and may have seen enough of rounds."""

    def __init__(self, enough: int = 9) -> None:
        self.enough, self.told = enough, list[Evaluation]()

    def on_round(self, row: Row, state: State) -> None:
        self.stop = row["round"] >= self.enough

    def on_clients(self, evaluation: Evaluation) -> None:
        self.told.append(evaluation)


def test_who_watches_from_afar_is_told_of_clients_too(lines: list[str], tmp_path: Path) -> None:
    watching = Watching()
    reader = LogReader(CONFIG, tmp_path, [watching], print)
    for line in lines:
        reader.read(line)
    (told,) = watching.told
    assert told.round == 1
    assert list(told.groups) == ["new"]
    mine, sent = told.groups["new"], MEASURED.groups["new"]
    assert (mine.clients, mine.rows) == (sent.clients, sent.rows)
    assert mine.curves["loss"] == pytest.approx(sent.curves["loss"], rel=1e-5)


class Link:
    """A SuperLink's log, and whether a run was stopped."""

    name = "lab:8000"

    def __init__(self, lines: list[str]) -> None:
        self.lines, self.stopped = lines, list[str]()

    def log(self, run_id: str) -> list[str]:
        return self.lines

    def stop(self, run_id: str) -> None:
        self.stopped.append(run_id)


def test_who_watches_from_afar_may_end_the_run(lines: list[str], tmp_path: Path) -> None:
    """It is stopped after the round in which that was asked for, here before the last."""
    watching, link, console = Watching(enough=0), Link(lines), Terminal(file=io.StringIO())
    (tmp_path / "run").mkdir()
    follower = Follower(link, "7", CONFIG, tmp_path / "run", console, [watching])  # type: ignore[arg-type]
    with pytest.raises(RunStopped, match="Watching asked for it; the run was stopped after round"):
        follower.follow()
    assert link.stopped == ["7"]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["rounds"] == 0
    assert summary["stopped"].startswith("Watching asked for it; the run was stopped after round 0")


class Broken(Callback):
    """Raises in the hooks that it is told."""

    def __init__(self, hook: str) -> None:
        setattr(self, hook, self.fail)

    def fail(self, *_: object) -> None:
        raise ZeroDivisionError("mine")


@pytest.mark.parametrize("hook", ["on_round", "on_clients"])
def test_ones_own_callback_that_fails_from_afar_ends_the_run(
    hook: str, lines: list[str], tmp_path: Path
) -> None:
    """It is stopped where it is, unless it is over there."""
    link, console, folder = Link(lines), Terminal(file=io.StringIO()), tmp_path / "run"
    folder.mkdir()
    own = [Own("mine", Broken(hook))]
    follower = Follower(link, "7", CONFIG, folder, console, [], own=own)  # type: ignore[arg-type]
    said = f"callbacks.mine: {hook} failed (ZeroDivisionError: mine)"
    if hook == "on_round":
        said += "; the run was stopped after round 0"
    with pytest.raises(CallbackFailed) as caught:
        follower.follow()
    assert str(caught.value).startswith(said)
    assert link.stopped == (["7"] if hook == "on_round" else [])
    assert json.loads((folder / "summary.json").read_text())["stopped"].startswith(said)
    assert (folder / "metrics.jsonl").read_text().count("\n") == (1 if hook == "on_round" else 2)


@pytest.fixture
def limit() -> Iterator[Callable[[int], None]]:
    """Return what bounds every file's size in bytes, as a full disk does, until the test ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda most: resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Filling(Callback):
    """Leaves no room for another line after round 0, or for another of one file."""

    def __init__(self, limit: Callable[[int], None], folder: Path, name: str) -> None:
        self.limit, self.file = limit, folder / name

    def on_round(self, row: Row, state: State) -> None:
        self.limit(self.file.stat().st_size + 5)


@pytest.mark.parametrize(
    "full", ["flower.log", "metrics.jsonl", "model.safetensors", "config.yaml"]
)
def test_a_full_disk_here_leaves_the_run_where_it_is(
    lines: list[str], tmp_path: Path, limit: Callable[[int], None], full: str
) -> None:
    """What is here is whole; the line says how to follow the run again, which gives all of it."""
    run = tmp_path / "run"
    run.mkdir()
    room = {"model.safetensors": 20_000, "config.yaml": 50}  # from the beginning
    filling = [] if full in room else [Filling(limit, run, full)]

    def follow(again: bool = False) -> Link:
        link, console = Link(lines), Terminal(file=io.StringIO())
        tracked = [] if again else filling
        Follower(link, "7", CONFIG, run, console, tracked, again).follow()  # type: ignore[arg-type]
        return link

    if full in room:
        limit(room[full])
    with pytest.raises(CannotWrite) as caught:
        follow()
    limit(resource.RLIM_INFINITY)
    begun = full != "config.yaml"
    there = "; the server's run folder: /server/run"
    assert str(caught.value) == (
        f"{run / full if begun else run}: cannot be written (File too large){there}; run 7 on "
        f"lab:8000 goes on without it; once there is room, follow it with: nufed resume={run}"
    )
    assert not [
        path for path in run.iterdir() if path.name in (".config.yaml", "model.safetensors")
    ]
    logged = {"config.yaml": "", "flower.log": "round 0\n"}.get(full, "round 0\nround 1\n")
    assert (run / "flower.log").read_text() == logged
    follow(again=True)
    assert torch.equal(load_file(run / "model.safetensors")["w"], PARAMS["w"])
    assert json.loads((run / "summary.json").read_text())["rounds"] == 1
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_run_that_cannot_be_noted_down_is_stopped(
    tmp_path: Path, limit: Callable[[int], None]
) -> None:
    """Nobody would find it again."""

    class Full(Link):
        def submit(self, app: Path, run_config: object) -> str:
            limit(10)
            return "7"

    link = Full([])
    with pytest.raises(InputError) as caught:
        _submit(link, CONFIG, tmp_path, Terminal(file=io.StringIO()), None)  # type: ignore[arg-type]
    assert link.stopped == ["7"]
    assert str(caught.value) == (
        f"{tmp_path}: cannot be written (File too large); the run was stopped at once; make room, "
        "or name another folder"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("stopped", "rescued", "said"),
    [
        (
            "/srv/x/metrics.jsonl: cannot be written (full); the model of round 9 is in /srv/x; "
            "go on with: nufed resume=/srv/x",
            None,
            "on the server: /srv/x/metrics.jsonl: cannot be written (full); the model of round 9 "
            "is in /here; go on with: nufed resume=/here",
        ),
        (
            "/srv/x/metrics.jsonl: cannot be written (full); the model of round 9 is in /srv/x; "
            "go on with: nufed resume=/tmp/r",
            "/tmp/r",
            "on the server: /srv/x/metrics.jsonl: cannot be written (full); the model of round 9 "
            "is in /here; on the server, copy what is in /tmp/r into /srv/x; then go on with: "
            "nufed resume=/here",
        ),
        (
            "round 3: 1 of 4 clients replied; the model of round 2 is in /srv/x; go on with: "
            "nufed resume=/srv/x",
            None,
            "round 3: 1 of 4 clients replied; the model of round 2 is in /here; go on with: "
            "nufed resume=/here",
        ),
    ],
)
def test_what_a_server_says_of_its_folder_is_told_of_ours_where_that_has_it(
    stopped: str, rescued: str | None, said: str
) -> None:
    """A disk that is full is the server's, and stays so."""
    assert said_here(stopped, "/srv/x", rescued, Path("/here")) == said


def test_the_rounds_of_a_resumed_run_count_from_its_first(
    capsys: pytest.CaptureFixture[str], reading: Reading
) -> None:
    """Also where it goes no further."""
    before = list(logging.getLogger("nufed").handlers)
    stream = LogStream(Path("/server/run"), SUBMISSION)
    logging.getLogger("nufed").handlers = before
    stream.on_start(RunInfo(CONFIG, build(CONFIG).size, 4, 1, rows=tuple(ROWS)))
    reading.folder.mkdir()
    reading.read(capsys.readouterr().out.splitlines(keepends=True))
    assert reading.reader.rounds == 1
    assert len(reading.rows()) == 2


def test_lines_are_of_bounded_length(lines: list[str]) -> None:
    """Whatever the model: some handler of a log may not take longer ones."""
    assert sum('"part"' in line for line in lines) == 1 + 1 + 4
    assert max(map(len, lines)) < 1.4 * PART


@pytest.mark.parametrize("lost", [1, 2, 3, -3, -1])
def test_a_line_that_is_lost_is_named_and_found_on_reading_again(
    lines: list[str], reading: Reading, lost: int
) -> None:
    """Nothing after the gap is taken before it is closed, nothing twice."""
    record = [line for line in lines if MARK in line]
    missing = record[lost]
    reading.read([line for line in record if line is not missing])
    assert reading.reader.summary is None
    assert not (reading.folder / "model.safetensors").exists()
    if lost != -1:
        assert reading.reader.missing is not None
        assert f"records {record.index(missing)} to" in reading.reader.missing
    reading.reader.again()
    reading.read(record)
    assert reading.reader.summary == {"rounds": 1}
    assert reading.reader.missing is None
    assert len(reading.rows()) == 2


def test_lines_that_come_twice_count_once(lines: list[str], reading: Reading) -> None:
    """As when an upload is repeated whose answer was lost."""
    reading.read([line for line in lines for _ in range(2)])
    assert len(reading.rows()) == 2
    assert torch.equal(load_file(reading.folder / "model.safetensors")["w"], PARAMS["w"])


def test_a_line_that_another_breaks_into_is_damaged(lines: list[str], reading: Reading) -> None:
    record = [line for line in lines if MARK in line]
    reading.read([*record[:2], record[2][:40] + "\n", *record[3:]])
    assert reading.reader.summary is None
    assert reading.reader.missing is not None
    assert "2" in reading.reader.missing


def test_text_without_an_end_of_line_spoils_no_record(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Another thread prints half a line before each."""
    before = list(logging.getLogger("nufed").handlers)
    stream = LogStream(Path("/server/run"), SUBMISSION)
    logging.getLogger("nufed").handlers = before
    for number in range(2):
        print("50 %", end="")
        stream.on_end({"rounds": number})
    reading = Reading(tmp_path)
    reading.read(capsys.readouterr().out.splitlines(keepends=True))
    assert reading.reader.summary == {"rounds": 1}
    assert reading.plain == ["50 %\n"] * 2


def test_another_model_than_was_sent_is_refused(lines: list[str], reading: Reading) -> None:
    """A valid line with other bytes: no model, not even half a one."""
    record = [line for line in lines if MARK in line]
    part = max(i for i, line in enumerate(record) if '"part"' in line)
    text = record[part].removeprefix(MARK).partition(" ")[2].strip().replace("A", "B")
    key = json.loads(record[0].partition("{")[1] + record[0].partition("{")[2])["key"]
    record[part] = f"{MARK}{code(key, text)} {text}\n"
    with pytest.raises(BrokenStream, match=r"model.safetensors .* another checksum"):
        reading.read(record)
    assert not (reading.folder / "model.safetensors").exists()
    assert not (reading.folder / "clients.json").exists()
