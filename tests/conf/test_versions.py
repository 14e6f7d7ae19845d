"""What a bug report has to name, in one line that every command prints."""

import subprocess
import sys
from importlib.metadata import version

import pytest

from nufed.cli import start
from nufed.conf.versions import HOME, git_commit, versions

COMMANDS = ("nufed", "adapt", "certify", "report", "keys", "data")


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_tells_the_versions_at_once(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [command, "--version"])
    getattr(start, command)()
    line = capsys.readouterr().out
    assert line.startswith(f"nufed {version('nufed')}")
    assert line.count("\n") == 1
    for package in ("flwr", "torch", "numpy", "hydra-core", "ray"):
        assert f", {package} {version(package)}" in line
    assert f"python {sys.version.split()[0]}" in line


def test_they_are_told_without_what_takes_a_second_to_import() -> None:
    script = (
        "import sys; sys.argv = ['nufed', '--version']; from nufed.cli.start import nufed; nufed();"
        "print([name for name in ('torch', 'hydra', 'flwr', 'ray') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[1] == "[]"


def test_what_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nufed.conf.versions.PACKAGES", ("no-such-package",))
    assert versions() == {"python": sys.version.split()[0], "no-such-package": None}


def test_the_commit_is_that_of_the_checkout() -> None:
    if not (HOME / ".git").exists():
        pytest.skip("no checkout")
    words = ["git", "-C", str(HOME), "rev-parse", "HEAD"]
    assert git_commit() == subprocess.run(words, capture_output=True, text=True).stdout.strip()
