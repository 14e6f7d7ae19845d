"""What the README tells people to type works as written."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from conf.compose import compose_config
from tasks.task import build
from tests.helpers import read_run

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


@pytest.mark.docs
def test_the_snippets_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The function, then one's own data, checked, trained on and adapted to, as a reader would."""
    function, data, _ = PYTHON
    exec(compile(function, "README", "exec"), names := {})
    assert names["gradient"]["w"].shape == names["personal"]["w"].shape == (3,)

    subprocess.run([sys.executable, "-c", data], cwd=tmp_path, check=True)
    (check,) = [line for line in SHELL if line.startswith("nufed-data ")]
    own_data, with_metric, compared = (c for c in COMMANDS if "dataset.path" in c)
    for command in (check, f"{own_data} rounds=2"):
        type_in(command, tmp_path)
    monkeypatch.chdir(tmp_path)
    build(compose_config(shlex.split(with_metric)[1:]))
    assert compared.startswith("nufed -m ")
    (file,) = (tmp_path / "runs").rglob("summary.json")
    run = read_run(file.parent)
    assert run.summary["parameters"] == 8 * 100 + 100 + 202
    (adapt,) = [line for line in SHELL if line.startswith("nufed-adapt ")]
    assert re.search(r"checkpoint=runs/npz-nufed/[\d-]{10}_[\d-]{8} ", adapt)
    type_in(re.sub(r"checkpoint=\S+", f"checkpoint={run.folder}", adapt), tmp_path)
    assert (tmp_path / "personal.safetensors").is_file()


def type_in(line: str, folder: Path) -> None:
    """Carry out a command of ours."""
    name, *words = shlex.split(line)
    command = [str(Path(sys.executable).parent / name), *words]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def test_the_options_listed_are_the_options_there_are() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", TEXT, re.MULTILINE))
    for group, text in rows.items():
        for file in (ROOT / "conf" / group).glob("*.yaml"):
            assert f"`{file.stem}`" in text, f"{group}={file.stem}"


@pytest.mark.docs
def test_the_table_is_the_one_that_the_demo_prints(tmp_path: Path) -> None:
    """To 0.05: other processors round otherwise, and fifty rounds let it grow."""
    command = [str(Path(sys.executable).parent / "nufed"), f"hydra.run.dir={tmp_path / 'demo'}"]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    for text, printed in zip(numbers(TEXT), numbers(done.stdout), strict=True):
        assert text == pytest.approx(printed, abs=0.05)


def numbers(text: str) -> list[list[float]]:
    """Return the figures of a table's rows of means."""
    rows = re.findall(r"^│ .*mean +│(.*)│$", text, re.MULTILINE)
    assert len(rows) == 4, "trained and untrained, of two kinds of clients"
    return [[float(cell) for cell in row.split("│")] for row in rows]
