"""What the README tells people to type works as written."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
SHELL = [
    line.split("  #")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
]
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = [line for line in SHELL if line.split()[:1] == ["nufed"]]


def test_there_are_commands() -> None:
    """All of them are understood: tests/docs/test_commands.py."""
    assert len(COMMANDS) >= 9
    assert {"make demo", "make test"} <= {line.split("  ")[0] for line in SHELL}


def test_the_function_needs_nothing_but_its_arguments() -> None:
    exec(compile(PYTHON[0], "README", "exec"), names := {})
    assert names["gradient"]["w"].shape == names["personal"]["w"].shape == (3,)


def test_the_options_listed_are_the_options_there_are() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", TEXT, re.MULTILINE))
    for group, text in rows.items():
        for file in (ROOT / "conf" / group).glob("*.yaml"):
            assert f"`{file.stem}`" in text, f"{group}={file.stem}"


@pytest.mark.docs
def test_make_demo_prints_the_table() -> None:
    """To 0.05: other processors round otherwise, and fifty rounds let it grow."""
    done = subprocess.run(["make", "demo"], cwd=ROOT, check=True, capture_output=True, text=True)
    (folder,) = re.findall(r"^run folder: (.*)$", done.stdout, re.MULTILINE)
    shutil.rmtree(ROOT / folder)
    for text, printed in zip(numbers(TEXT), numbers(done.stdout), strict=True):
        assert text == pytest.approx(printed, abs=0.05)


def numbers(text: str) -> list[list[float]]:
    """Return the figures of a table's rows of means."""
    rows = re.findall(r"^│ .*mean +│(.*)│$", text, re.MULTILINE)
    assert len(rows) == 4, "trained and untrained, of two kinds of clients"
    return [[float(cell) for cell in row.split("│")] for row in rows]
