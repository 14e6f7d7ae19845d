"""A person's own callbacks: sections of the report, and the one line that a failure ends in."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from markupsafe import Markup

from nufed.cli import run as command
from nufed.conf.errors import CallbackFailed, InputError
from nufed.server_app.report.page import Section, Table
from nufed.server_app.report.record import Record
from nufed.server_app.report.run_page import write_report
from nufed.server_app.tracking import HOOKS, Callback, Row, State
from nufed.strategies.curves import Evaluation
from tests.cli.in_process import run_here
from tests.helpers import RunResult
from tests.server_app.report.helpers import read_page
from tests.server_app.test_trackers import SMALL, drawn, resume, written

Train = Callable[..., RunResult]
RUN = [*SMALL, "rounds=3", "checkpoint.every=1"]


def own(callback: str, **keys: object) -> str:
    """Return the override that adds a callback of this file."""
    more = "".join(f", {key}: {value}" for key, value in keys.items())
    return f"callbacks={{mine: {{_target_: {__name__}.{callback}{more}}}}}"


class Failing(Callback):
    """Fails at a hook; at one of a round, in round 2."""

    calls = 0

    def __init__(self, folder: Path, hook: str) -> None:
        Failing.calls = 0
        setattr(self, hook, self.fail)

    def fail(self, of: Any) -> None:
        Failing.calls += 1
        raise ZeroDivisionError("one\nby none")

    def on_round(self, row: Row, state: State) -> None: ...


class FailingInRound(Failing):
    """The same in a hook of round 2."""

    def fail(self, of: Any, state: State | None = None) -> None:
        if of["round"] == 2:
            super().fail(of)


class Losses(Callback):
    """A section with the loss of each round and of a client, which is markup in part."""

    def __init__(self, folder: Path, breaks: bool = False) -> None:
        self.report_sections = [self.broken, self.losses] if breaks else [self.losses]
        self.rows: list[list[str]] = []
        self.clients = 0

    def on_round(self, row: Row, state: State) -> None:
        if "train_loss" in row:
            self.rows.append([str(row["round"]), f"{row['train_loss']:.6f}"])

    def on_clients(self, evaluation: Evaluation) -> None:
        self.clients = sum(len(each.clients) for each in evaluation.groups.values())

    def on_end(self, summary: dict[str, Any]) -> None:
        summary["seen"] = len(self.rows)

    def losses(self, run: Record) -> Section:
        text = ["<b>escaped</b>", Markup("<b>as it stands</b>"), f"{self.clients} clients"]
        return Section("My losses", text, tables=[Table(["my round", "my loss"], self.rows)])

    def broken(self, run: Record) -> Section:
        raise KeyError("nothing")


class NoCallback:
    """Has a folder, and no hooks."""

    def __init__(self, folder: Path) -> None: ...


def test_a_section_of_ones_own_is_seen_in_the_report(train: Train) -> None:
    run = train([*RUN, own("Losses")], report=True)
    page = read_page(run.folder / "report.html")
    wanted = [[str(row["round"]), f"{row['train_loss']:.6f}"] for row in run.rows[1:]]
    assert page.table("my round my loss") == wanted
    assert len(wanted) == 3
    assert "<b>escaped</b>" in page.text
    assert "<b>as it stands</b>" not in page.text
    assert ("b", {}) in page.tags
    assert "6 clients" in page.text
    assert run.summary["seen"] == 3, "what it adds to the summary is written"
    again = read_page(write_report(run.folder)).text
    assert "Sections of callbacks.mine are made as the run ends; this page was made anew" in again
    assert "My losses" not in again


def test_a_section_that_fails_is_told_in_its_place_and_ends_the_run(
    train: Train, tmp_path: Path
) -> None:
    with pytest.raises(CallbackFailed) as caught:
        train([*RUN, own("Losses", breaks="true")], report=True)
    line = str(caught.value)
    assert line == ("callbacks.mine: its section of the report failed (KeyError: 'nothing')")
    page = read_page(tmp_path / "run1" / "report.html")
    assert line in page.text
    assert "My losses" in page.text
    assert "The same again" in page.text


@pytest.mark.parametrize("hook", ["on_round", "on_evaluation"])
def test_what_it_raises_in_a_round_ends_the_run_once_that_is_written(
    hook: str, train: Train, tmp_path: Path
) -> None:
    with pytest.raises(CallbackFailed) as caught:
        train([*RUN, own("FailingInRound", hook=hook)])
    folder = tmp_path / "run1"
    assert str(caught.value) == (
        f"callbacks.mine: {hook} failed (ZeroDivisionError: one by none); the model of round 2 is "
        f"in {folder}; go on with: nufed resume={folder}"
    )
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    summary = json.loads((folder / "summary.json").read_text())
    assert [row["round"] for row in rows] == [0, 1, 2]
    assert "new" in rows[2]
    assert drawn(folder) == written(rows), "others have the round too"
    assert (summary["stopped"], summary["resumable"]) == (str(caught.value), True)
    assert "stopped_early" not in summary
    assert Failing.calls == 1
    resume(train, RunResult(folder, rows, summary, {}), "callbacks=null")
    assert "stopped" not in json.loads((folder / "summary.json").read_text())


@pytest.mark.parametrize("hook", ["on_clients", "on_end"])
def test_what_it_raises_at_the_end_is_told_by_all(hook: str, train: Train, tmp_path: Path) -> None:
    with pytest.raises(CallbackFailed) as caught:
        train([*RUN, own("Failing", hook=hook)], report=True)
    folder = tmp_path / "run1"
    start = f"callbacks.mine: {hook} failed (ZeroDivisionError: one by none)"
    assert str(caught.value) == f"{start}; the model of round 3 is in {folder}"
    assert json.loads((folder / "summary.json").read_text())["stopped"] == str(caught.value)
    assert f"This run stopped early: {start}" in read_page(folder / "report.html").text


def test_what_it_raises_at_the_start_leaves_no_run(train: Train, tmp_path: Path) -> None:
    with pytest.raises(CallbackFailed, match=r"^callbacks\.mine: on_start failed"):
        train([*RUN, own("Failing", hook="on_start")])
    assert not (tmp_path / "run1" / "metrics.jsonl").exists()


def test_all_hooks_were_tried() -> None:
    assert set(HOOKS) == {"on_start", "on_round", "on_evaluation", "on_clients", "on_end"}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (own("Absent"), "test_callbacks.Absent: there is no"),
        (own("Losses", colour="red"), "test_callbacks.Losses: "),
        (own("NoCallback"), "must be a subclass of nufed.server_app.tracking.Callback"),
        ("callbacks={_target_: mine.C}", "must be under a name, as callbacks.mine._target_"),
        ("callbacks=[mine.C]", "callbacks=['mine.C']: must be names, each with a _target_"),
    ],
)
def test_one_that_cannot_be_made_is_named_before_the_run(
    override: str, words: str, train: Train, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        train([*RUN, override])
    assert str(caught.value).startswith("callbacks")
    assert words in str(caught.value)
    assert not (tmp_path / "run1").exists()


def test_the_command_ends_in_that_line_with_exit_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*RUN, own("FailingInRound", hook="on_round"), f"hydra.run.dir={tmp_path / 'run'}"]
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setattr(sys, "argv", ["nufed", *words])
    command._prepare.cache_clear()
    done = run_here()
    assert done.status == 2
    (line,) = [each for each in done.err.splitlines() if "callbacks" in each]
    assert line.startswith("nufed: callbacks.mine: on_round failed (ZeroDivisionError: one by no")
    assert "Traceback" not in done.err
