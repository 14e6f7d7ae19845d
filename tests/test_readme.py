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
    for n in (40, 10):
        (says,), (said,) = (re.findall(rf"for (\d+) of {n}\s", t) for t in (TEXT, done.stdout))
        assert abs(int(says) - int(said)) <= 3


@pytest.mark.docs
def test_federation_pays_where_it_is_said_to(tmp_path: Path) -> None:
    said_of = r'`(nufed partition=\S+ partition\S+)` ends with "Federation\s+pays'
    (words,) = re.findall(said_of, TEXT)
    program, *rest = words.split()
    command = [ROOT / ".venv/bin" / program, *rest, "tracking=none", "hydra.run.dir=run"]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    pays = r"^Federation pays: .* for (\d+) of 80 .*?by ([\d.]+)"
    (found,) = re.findall(pays, done.stdout, re.MULTILINE)
    (said,) = re.findall(r"for (\d+) of 80 participating clients, by ([\d.]+)", TEXT)
    assert abs(int(found[0]) - int(said[0])) <= 8
    assert float(found[1]) == pytest.approx(float(said[1]), abs=0.05)


def numbers(text: str) -> list[list[float]]:
    """Return the figures of a table's rows of means."""
    named = "(?:.*mean|personal models.*|its most.*|alone.*|pooled.*)"
    rows = re.findall(rf"^│ {named} +│(.*)│$", text, re.MULTILINE)
    assert len(rows) == 4 + 5, "trained and untrained, of two kinds of clients; and baselines"
    return [[float(cell) for cell in row.split("│")] for row in rows]
