"""A page of docs/, tried out: its blocks, section by section, as a reader would."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests import forked
from tests.helpers import RunResult, read_run

ROOT = Path(__file__).parents[2]
JOBLIB = "hydra/launcher=joblib"  # its processes do not end within a fork


def sections(page: str) -> dict[str, str]:
    """Return the sections of a page, heading -> text."""
    _, *parts = re.split(r"^## (.*)$", (ROOT / "docs" / page).read_text(), flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def environment() -> dict[str, str]:
    """Return the environment of a reader who has activated `.venv`."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "COLUMNS": "100"}


def run(text: str, folder: Path) -> str:
    """Write the files of a section, run its commands, and return what they print.

    A block of Python or YAML begins with the name of its file; a block of commands is run line by
    line as it stands.
    """
    printed = ""
    for language, block in re.findall(r"```(python|yaml|sh)\n(.*?)```", text, re.DOTALL):
        if language != "sh":
            name = re.match(r"(?:# @package .*\n)?# ([\w/]+\.(py|yaml))\n", block)
            assert name is not None
            (folder / name[1]).parent.mkdir(parents=True, exist_ok=True)
            (folder / name[1]).write_text(block)
        else:
            for line in block.replace("\\\n", " ").splitlines():
                printed += type_in(shlex.split(line, comments=True), folder)
    return printed


def type_in(words: list[str], folder: Path, **env: str) -> str:
    """Carry out a command, and return what it prints; fail if it does."""
    there = environment() | env
    if not words:
        return ""
    if words[0] in forked.PROGRAMS and JOBLIB not in words:
        done = forked.run(words, folder, there)
    else:
        ended = subprocess.run(words, cwd=folder, env=there, capture_output=True, text=True)
        done = forked.Done(ended.returncode, ended.stdout, ended.stderr)
    assert done.status == 0, done.out + done.err
    return done.out


def shown(text: str) -> list[str]:
    """Return the lines that a section shows as printed."""
    return [
        line
        for block in re.findall(r"```text\n(.*?)```", text, re.DOTALL)
        for line in block.splitlines()
    ]


def the_run(folder: Path) -> RunResult:
    """Return the one run that was made."""
    (summary,) = (folder / "runs").rglob("summary.json")
    return read_run(summary.parent)
