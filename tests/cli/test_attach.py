"""`nufed attach` and `nufed ls` in this process: what a SuperLink says is data."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from nufed.cli import attach, ls, watching
from nufed.cli.submitted import Submitted
from nufed.cli.superlink import Listed
from nufed.conf.compose import compose_config
from nufed.conf.convert import to_json
from nufed.conf.errors import InputError
from nufed.conf.text import printable
from nufed.server_app.checkpoint import alone
from nufed.server_app.log_submission import Submission
from tests.server_app.test_log_stream import ROWS, Link, logged

PLACE = "engine.superlink=127.0.0.1:8000"
CONFIG = compose_config(
    [
        *("engine=deployment", "engine.superlink=10.0.0.1:8000", "engine.insecure=true"),
        *("name=mine", "dataset=quadratics", "algorithm.alpha=0.1", "algorithm.beta=0.2"),
    ]
)
SUBMISSION = Submission(to_json(CONFIG), "mine/2026-01-02_03-04-05-ab12cd34")
COMPLETED = "finished:completed"


class SuperLink(Link):
    """One that has a run."""

    def __init__(self, lines: list[str], status: str = COMPLETED) -> None:
        super().__init__(lines)
        self.status_now = status

    def find(self, run_id: str) -> Listed | None:
        listed = Listed(run_id, "nufed", self.status_now, datetime(2026, 1, 2), 3.0, "why")
        return listed if run_id == "7" else None

    def log(self, run_id: str) -> Iterator[str]:  # type: ignore[override]
        yield from self.lines

    def status(self, run_id: str) -> tuple[str, str]:
        return self.status_now, "why"


@pytest.fixture
def said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Return what attaches to a SuperLink with a log, in an empty folder; status, out and err."""
    monkeypatch.chdir(tmp_path)

    def run(lines: list[str] | Submission, *words: str, status: str = COMPLETED) -> Any:
        if isinstance(lines, Submission):
            lines = logged(lines, capsys)
        link = SuperLink(lines, status)
        monkeypatch.setattr(watching, "connect", lambda engine, scratch: link)
        os.environ.pop("HYDRA_FULL_ERROR", None)
        code = 0
        try:
            attach.main(words or ["7", PLACE])
        except SystemExit as ended:
            code = int(ended.code or 0)
        return code, *capsys.readouterr()

    return run


def submission(change: Callable[[dict[str, Any]], object], **more: Any) -> Submission:
    """Return what was submitted, its configuration changed."""
    values = asdict(CONFIG)
    change(values)
    return Submission(json.dumps(values | more), SUBMISSION.run_dir)


def test_a_run_gets_its_folder_where_that_of_its_submitter_would_be(
    said: Callable[..., Any], tmp_path: Path
) -> None:
    """With what is called here, and the way there, as it was typed here; nothing is written over.

    Its own time is kept; by a run whose folder on the server has none, the time of now is.
    """
    status, out, err = said(SUBMISSION)
    assert status == 0, err
    run = tmp_path / "runs" / CONFIG.name / "2026-01-02_03-04-05"
    assert Submitted.of(run) == Submitted("lab:8000", "7", SUBMISSION.run_dir)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["round"] for row in rows] == [row["round"] for row in ROWS]
    config = watching.find_config(run, "it").config
    typed = watching.composed([PLACE])
    assert config.engine == CONFIG.engine | {key: typed.engine[key] for key in watching.OF_THE_WAY}
    assert list(config.tracking) == ["tensorboard"]
    assert "Flower run 7 on lab:8000" in out

    status, out, err = said(SUBMISSION)
    assert (status, err) == (0, "")
    assert f"run 7 has a folder here: {run.relative_to(tmp_path)}\n" in out
    assert "run 7 is over, and runs/" in out
    (run / "submitted.json").write_text('{"superlink": "a:1", "run_id": "8", "run_dir": "x"}')
    assert said(SUBMISSION)[0] == 0
    assert Submitted.of(run.with_name(f"{run.name}-2")) is not None
    assert Submitted.of(run) == Submitted("a:1", "8", "x")


def test_out_names_a_new_folder(said: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    words = "7", PLACE, "out=mine"
    status, _, err = said(SUBMISSION, *words)
    assert (status, err) == (2, "nufed attach: out=mine: is not empty; name a new folder\n")
    assert said(SUBMISSION, "7", PLACE, "out=a/b")[0] == 0
    assert Submitted.of(tmp_path / "a/b") is not None
    status, out, _ = said(SUBMISSION, "out=a/b", "7", PLACE)
    assert status == 0
    assert "run 7 has a folder here: a/b" in out
    assert not (tmp_path / "runs").exists()
    with alone(tmp_path / "a/b"):
        (tmp_path / "a/b/summary.json").unlink()
        status, _, err = said(SUBMISSION, "a/b")
        assert status == 2
        assert "is going on in another process; wait for it, or follow the run into " in err
    Submitted("old:1", "7", "x").note_down(tmp_path / "a/b")
    assert said(SUBMISSION, "a/b", PLACE)[0] == 0
    assert (tmp_path / "a/b/summary.json").exists()
    assert Submitted.of(tmp_path / "a/b") == Submitted("lab:8000", "7", "x"), "or it is sent again"


def model(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda values: values.update(model={"_target_": name})


def test_code_of_who_submitted_it_is_not_called(said: Callable[..., Any], tmp_path: Path) -> None:
    """Unless it is trusted here: what the configuration itself says of that counts for nothing.

    Their trackers and callbacks are not even looked at: those are called that were typed here.
    """
    call = {"theirs": {"_target_": "subprocess.getoutput", "cmd": "touch called"}}
    theirs = submission(model("mine.Net"), trust=["mine"], tracking=call, callbacks=call)
    status, _, err = said(theirs)
    assert status == 2
    assert err == (
        "nufed attach: run 7: its model._target_ is mine.Net, code that is not NuFed's; if you "
        "trust it, add trust=mine\n"
    )
    assert list(tmp_path.iterdir()) == []
    assert said(theirs, "7", PLACE, "trust=mine", "tracking=none", "out=run")[0] == 0
    config = watching.find_config(tmp_path / "run", "it").config
    assert (config.tracking, config.callbacks) == ({}, None)
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (model("subprocess.getoutput"), "its model._target_ is subprocess.getoutput"),
        (lambda v: v["engine"].update(launcher="os.system"), "its engine.launcher is os.system"),
        (lambda v: v["task"].update(loss="os.system"), "its task.loss is os.system"),
        (lambda v: v["algorithm"].update(_target_="os.system"), "its algorithm._target_ is os.sys"),
        (lambda v: v["algorithm"].update(nu=-1), "nu=-1: "),
        (lambda v: v.update(name="../../x"), "its name '../../x' is none for a folder in runs"),
        (lambda v: v.update(name="/tmp/x"), "its name '/tmp/x' is none for"),
        (lambda v: v.update(name="\x1b[2Jx"), "its name '\\x1b[2Jx' is none for"),
        (lambda v: v.update(name="a" * 300), "aaa is none for a folder in runs; name one as out=…"),
        (lambda v: v.update(engine=5), "engine=5: "),
        (lambda v: v.update(rounds="\x1b[2J\r"), "cannot be read"),
        (lambda v: v.update(evil=1), "evil"),
    ],
)
def test_a_hostile_configuration_is_refused_in_one_line(
    change: Callable[[dict[str, Any]], object],
    named: str,
    said: Callable[..., Any],
    tmp_path: Path,
) -> None:
    status, _, err = said(submission(change), "7", PLACE)
    assert status == 2
    assert named in err
    assert err.count("\n") == 1
    assert printable(err, lines=True) == err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [1, 1]\nb: [*a, *a]",
        "name: !!python/object/apply:os.system [touch called]",
        "[" * 100,
        "\x1b]8;;http://evil\x07",
        "",
    ],
)
def test_a_text_that_is_none_is_refused_in_one_line(
    text: str, said: Callable[..., Any], tmp_path: Path
) -> None:
    status, _, err = said(Submission(text, "x"))
    assert status == 2
    assert err.startswith("nufed attach: run 7: its configuration cannot be read (")
    assert err.count("\n") == 1
    assert printable(err, lines=True) == err
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_says_nothing_of_itself(said: Callable[..., Any], tmp_path: Path) -> None:
    status, _, err = said(["plain\n"], status="finished:failed")
    assert status == 2
    assert err == (
        "nufed attach: run 7: is over, and its log does not say what it was (why); it never began, "
        "or nufed did not submit it\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "no run was named; name a run folder, or the id of a run"),
        (["7", "8"], "8: is one too many; name a run folder, or the id"),
        (["7", "ot=x"], "ot: no such key; did you mean out?"),
        (["7", "rounds=3"], "rounds: no such key; "),
        (["7", "engine=ray"], "engine: no such key; "),
        (["7", "hydra.run.dir=x"], "hydra.run.dir: no such key; "),
        (["7"], "engine.superlink: has no value; give one as engine.superlink=…"),
        (["run", "out=x"], "out=x: is for a run without a folder here"),
        (["run"], "run: is not there; name the folder of a run"),
    ],
)
def test_what_cannot_be_typed(words: list[str], line: str, said: Callable[..., Any]) -> None:
    if not words:
        with pytest.raises(InputError, match=line):
            attach.read(words)
        return
    status, _, err = said([], *words)
    assert status == 2
    assert err.startswith(f"nufed attach: {line}")
    assert err.count("\n") == 1


def test_a_folder_that_no_superlink_has_the_run_of(
    said: Callable[..., Any], tmp_path: Path
) -> None:
    assert said(SUBMISSION, "7", PLACE, "out=run")[0] == 0
    (tmp_path / "run/submitted.json").unlink()
    status, _, err = said(SUBMISSION, "run")
    assert status == 2
    assert err == (
        "nufed attach: run: follows no run of a SuperLink; go on with it by: nufed "
        f"resume={tmp_path}/run\n"
    )
    Submitted("lab:8000", "9", "x").note_down(tmp_path / "run")
    status, _, err = said(SUBMISSION, "run")
    assert status == 2
    assert "engine.superlink=lab:8000: knows no run 9; what came of it is in run" in err


def test_the_states_of_runs() -> None:
    known = ["pending", "starting", "running", "finished:completed", "finished:failed"]
    words = ["pending", "starting", "running", "finished", "failed"]
    assert [ls.state(status) for status in known] == words


FLOWERS = {
    "run-id": "7",
    "fab-name": "nufed",
    "status": "running",
    "status-details": "N/A",
    "running-at": "2026-01-02 03:04:05Z",
    "elapsed": 61.5,
}


def test_runs_are_read_as_flower_lists_them() -> None:
    run = Listed.of(FLOWERS)
    assert (run.run_id, run.status, run.elapsed, run.details) == ("7", "running", 61.5, "")
    assert run.began is not None
    assert run.began.isoformat() == "2026-01-02T03:04:05+00:00"
    assert Listed.of(FLOWERS | {"running-at": "N/A"}).began is None


@pytest.mark.parametrize(
    "changed",
    [{"run-id": "--help"}, {"run-id": 7}, {"status": None}, {"elapsed": "1"}, {"running-at": "x"}],
)
def test_what_is_no_list_of_runs_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Listed.of(FLOWERS | changed)


def test_a_list_shows_what_a_run_is_called_as_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not as commands to a terminal; a folder that cannot be read is told of, and costs no list."""
    monkeypatch.chdir(tmp_path)
    good = Path("runs", "good" * 50)
    for folder in (good, Path("runs/bad")):
        folder.mkdir(parents=True)
    Submitted("lab:8000", "7", "x").note_down(good)
    (tmp_path / "runs/bad/submitted.json").write_text("{")
    (good / "config.yaml").write_text("[")

    class Lab(SuperLink):
        def runs(self) -> list[Listed]:
            return [
                Listed.of(FLOWERS | more) for more in ({"fab-name": "\x1b[2J"}, {"run-id": "9"})
            ]

    monkeypatch.setattr("nufed.cli.superlink.connect", lambda engine, scratch: Lab([]))
    ls.main([PLACE])
    out, err = capsys.readouterr()
    assert printable(out, lines=True) == out
    (first, second) = (line for line in out.splitlines() if "running" in line)
    assert str(good) in first, "on one line, for other programs"
    assert " 9 " in second
    assert "runs/bad/submitted.json: cannot be read; delete it" in err
    assert f"{good}: config.yaml cannot be read" in err
