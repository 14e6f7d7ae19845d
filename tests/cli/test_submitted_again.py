"""A run that failed before our app said anything is submitted once more; one that began is not."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from nufed.cli.engines import deployment
from nufed.cli.follower import FAILED, LOG
from nufed.cli.submitted import Submitted
from nufed.conf.errors import RunStopped
from nufed.server_app.terminal import Terminal
from tests.cli.test_attach import COMPLETED, CONFIG, SUBMISSION
from tests.server_app.test_log_stream import logged

MISSING = "ServerApp failed with exception: Cannot find pyproject.toml in /home/apps/nufed"


class SuperLink:
    """One whose runs have these logs, in this order."""

    name = "lab:8000"

    def __init__(self, *logs: tuple[list[str], str]) -> None:
        self.logs, self.submitted = logs, 0

    def submit(self, app: Path, run_config: object) -> str:
        assert (app / "pyproject.toml").exists()
        self.submitted += 1
        return str(self.submitted)

    def log(self, run_id: str) -> Iterator[str]:
        yield from self.logs[int(run_id) - 1][0]

    def status(self, run_id: str) -> tuple[str, str]:
        status = self.logs[int(run_id) - 1][1]
        return status, MISSING if status == FAILED else ""


def launched(link: SuperLink, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Submit to it; return what the terminal says."""
    monkeypatch.setattr(deployment, "connect", lambda engine, scratch: link)
    said = io.StringIO()
    folder.mkdir()
    deployment.launch(CONFIG, folder, Terminal(file=said))
    return " ".join(said.getvalue().split())


def test_a_run_that_never_began_is_submitted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other's app was half unpacked; its run folder is that of the run which began."""
    link = SuperLink((["INFO : starting\n"], FAILED), (logged(SUBMISSION, capsys), COMPLETED))
    said = launched(link, tmp_path / "run", monkeypatch)
    assert link.submitted == 2
    assert "Cannot find pyproject.toml in /home/apps/nufed; it never began, so it is" in said
    found = Submitted.of(tmp_path / "run")
    assert found is not None
    assert found.run_id == "2"
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["rounds"] == 1
    assert (tmp_path / "run" / LOG).read_text().startswith("INFO : starting\n")


def test_one_that_never_begins_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = SuperLink(*2 * [(list[str](), FAILED)])
    with pytest.raises(RunStopped, match=r"^Cannot find pyproject.toml in /home/apps/nufed$"):
        launched(link, tmp_path / "run", monkeypatch)
    assert link.submitted == 2


@pytest.mark.parametrize("lines", [2, 6])
def test_one_that_began_is_not_submitted_again(
    lines: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it did, it would do twice."""
    link = SuperLink((logged(SUBMISSION, capsys)[:lines], FAILED))
    with pytest.raises(RunStopped, match=r"^Cannot find pyproject.toml in /home/apps/nufed"):
        launched(link, tmp_path / "run", monkeypatch)
    assert link.submitted == 1
