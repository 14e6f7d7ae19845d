"""An interrupt at any time, also in the midst of an import, ends a command in one line."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nufed.cli import start
from tests.forked import LIMIT_S

ROOT = Path(__file__).parents[2]

SCRIPT = """
import signal, sys
from nufed.cli.start import _main
sys.path.insert(0, {here!r})
sys.argv = ["/somewhere/nufed"]
signal.signal(signal.SIGINT, {handler})
print(repr(_main("slow")()))
"""
SLOW = """
import os, signal
try:
    os.kill(os.getpid(), signal.SIGINT)
except BaseException:  # as in the midst of an import that tries another
    pass
def main():
    return signal.getsignal(signal.SIGINT)
"""


@pytest.mark.parametrize(
    ("handler", "status", "out", "err"),
    [
        ("signal.default_int_handler", 130, "", "nufed: interrupted\n"),
        ("signal.SIG_IGN", 0, f"{signal.SIG_IGN!r}\n", ""),
    ],
)
def test_an_interrupt_while_a_command_is_imported(
    tmp_path: Path, handler: str, status: int, out: str, err: str
) -> None:
    """A job in the background ignores it, as its shell has it."""
    (tmp_path / "slow.py").write_text(SLOW)
    script = SCRIPT.format(here=str(tmp_path), handler=handler)
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=LIMIT_S)
    assert (done.returncode, done.stdout, done.stderr) == (status, out, err)


@pytest.mark.parametrize(
    ("line", "module", "left"),
    [
        ("nufed", "run", ""),
        ("nufed seed=3 name=ls", "run", "seed=3 name=ls"),
        ("nufed -m seed=3,4", "run", "-m seed=3,4"),
        ("nufed ls engine.superlink=prod", "ls", "engine.superlink=prod"),
        ("nufed attach ls", "attach", "ls"),
        ("nufed engine=deployment engine.superlink=a:1 attach 7", "attach", None),
        ("nufed attach --help", "attach", "--help"),
    ],
)
def test_a_command_of_nufeds_is_found_among_its_words(
    line: str, module: str, left: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also behind those that a container says first."""
    called = list[tuple[str, list[str]]]()
    monkeypatch.setattr(
        start, "_main", lambda name: lambda: called.append((name, sys.argv[1:].copy()))
    )
    monkeypatch.setattr(sys, "argv", line.split())
    start.nufed()
    words = "engine=deployment engine.superlink=a:1 7" if left is None else left
    assert called == [(f"nufed.cli.{module}", words.split())]
