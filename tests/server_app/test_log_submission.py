"""What a run's log begins with: all that one needs to follow it, or nothing that is believed."""

import hashlib
import json
import logging
from base64 import b64encode
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nufed.conf.compose import compose_config, theirs
from nufed.conf.convert import to_json
from nufed.server_app.log_files import BrokenStream
from nufed.server_app.log_records import MARK, code
from nufed.server_app.log_stream import PART, LogStream, log_streams
from nufed.server_app.log_submission import LARGEST, Submission

KEY = "ab" * 32
CONFIG = compose_config(["name=mine", "algorithm.alpha=0.1", "algorithm.beta=0.2"])
MANY = replace(CONFIG, evaluation=replace(CONFIG.evaluation, new_clients=list(range(10_000))))


@pytest.fixture(autouse=True)
def _handlers() -> Any:
    log = logging.getLogger("nufed")
    before = list(log.handlers)
    yield
    log.handlers = before


def log_of(submission: Submission, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return how the log of a run begins."""
    capsys.readouterr()
    print("Flower says something first")
    LogStream(Path("/server/run"), submission)
    return capsys.readouterr().out.splitlines(keepends=True)


@pytest.mark.parametrize("config", [CONFIG, MANY])
def test_it_arrives_as_it_was_submitted(config: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A long list in several lines, of which none is longer than another part's."""
    submission = Submission(to_json(config), "mine/now-1f")
    lines = log_of(submission, capsys)
    assert Submission.of(lines) == submission
    assert Submission.of([line for line in lines for _ in range(2)]) == submission
    assert max(map(len, lines)) < 1.4 * PART
    assert (sum('"part"' in line for line in lines) > 1) == (config is MANY)
    records = [line for line in lines if line.startswith(MARK)]
    for lost in range(len(records)):
        rest = [line for line in lines if line is not records[lost]]
        assert Submission.of(rest) is None, "to be read again"


@pytest.mark.parametrize(
    ("run_config", "resume", "run_dir"),
    [
        ({"run-dir": "mine/now-1f"}, "/a/run", "mine/now-1f"),
        ({}, "mine/old", "mine/old"),
        ({"run-dir": ""}, None, "mine/2026-01-02_03-04-05"),
    ],
)
def test_the_servers_folder_is_named_so_that_the_run_can_go_on_there(
    run_config: dict[str, Any],
    resume: str | None,
    run_dir: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As it was asked for; else as the server named it."""
    folder = Path("/server/mine/2026-01-02_03-04-05")
    assert log_streams(run_config, CONFIG, folder) == []
    log_streams(run_config | {"log-stream": True}, replace(CONFIG, resume=resume), folder)
    submission = Submission.of(capsys.readouterr().out.splitlines(keepends=True))
    assert submission is not None
    assert submission.run_dir == run_dir


def test_it_is_read_as_a_run_folders_configuration() -> None:
    assert theirs(to_json(CONFIG), "it") == CONFIG


def record(number: int, kind: str, value: object, key: str = KEY) -> str:
    """Return a record, as who has the key can write it."""
    text = json.dumps({"n": number, kind: value})
    return f"{MARK}{code(key, text)} {text}\n"


def sent(content: bytes, **facts: object) -> list[str]:
    """Return a log that begins with such content, of which other things may be said."""
    said = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} | facts
    part = record(2, "part", b64encode(content).decode())
    return [record(0, "key", KEY), record(1, "submission", said), part]


GOOD = Submission(to_json(CONFIG), "mine/now-1f").to_bytes()


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (sent(GOOD, bytes=LARGEST + 1), "has 2,097,153 bytes, at most 2,097,152"),
        (sent(GOOD, bytes=10**15)[:2], "has 1,000,000,000,000,000 bytes, at most"),
        (sent(GOOD, bytes=-1), "is longer than it was to be"),
        (sent(GOOD, bytes="9"), "bytes is '9', not a whole number"),
        (sent(GOOD, sha256="0" * 64), "another checksum"),
        (sent(GOOD, more=1), "has an unknown 'more'"),
        (sent(b"\xff\xfe"), "codec can't decode"),
        (sent(b"[" * 100_000), "nested too deep"),
        (sent(b"[]"), "is a list of 0, not an object"),
        (sent(b'{"config": {}, "run_dir": "x"}'), "config is an object of 0, not text"),
        (sent(b'{"config": "a: 1"}'), "has no 'run_dir'"),
        ([*sent(GOOD)[:2], record(2, "part", "???")], "is damaged"),
        ([*sent(GOOD)[:2], record(2, "part", 7)], "is damaged"),
        ([*sent(GOOD)[:2], record(2, "row", {"round": 0})], "is 'row', where what was submitted"),
        ([sent(GOOD)[0], record(1, "start", {})], "is 'start', where what was submitted is to be"),
        ([sent(GOOD)[0], record(1, "part", "QQ==")], "is 'part', where"),
    ],
)
def test_what_is_no_submission_is_refused(lines: list[str], said: str) -> None:
    """Though who wrote it has the key; what is too large, before any of it is read."""
    assert Submission.of(sent(GOOD)) is not None
    with pytest.raises(BrokenStream) as caught:
        Submission.of(lines)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 300


def test_lines_of_others_submit_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """A SuperNode's words have no right code, wherever they stand after the first record."""
    submission = Submission(to_json(CONFIG), "mine/now-1f")
    lines = log_of(submission, capsys)
    first = next(i for i, line in enumerate(lines) if line.startswith(MARK))
    evil = Submission(to_json(replace(CONFIG, name="evil")), "x").to_bytes()
    forged = sent(evil)
    for place in range(first + 1, len(lines) + 1):
        assert Submission.of([*lines[:place], *forged, *lines[place:]]) == submission
    assert Submission.of([lines[first], *forged]) is None
