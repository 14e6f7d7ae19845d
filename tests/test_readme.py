"""What the README tells people to type works as written."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cli.certify import subject
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
(CHECK,) = [line for line in SHELL if line.startswith("nufed-data ")]
CERTIFY = [line for line in SHELL if line.startswith("nufed-certify ")]


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 9
    assert {"make demo", "make test"} <= {line.split("  ")[0] for line in SHELL}


@pytest.mark.parametrize("command", [c for c in COMMANDS if "-m" not in c.split()])
def test_every_command_composes(command: str) -> None:
    overrides = [word for word in shlex.split(command)[1:] if word not in ("--cfg", "job")]
    assert compose_config(overrides).rounds > 0


def test_what_is_to_be_certified_is_a_task_or_a_run() -> None:
    """The overrides compose, and the folder is named as `nufed` names those it makes."""
    task, run = (shlex.split(command)[1:] for command in CERTIFY)
    config, folder = subject(task)
    assert (config.algorithm.nu, folder) == (3, None)
    assert re.fullmatch(r"runs/digits-nufed/[\d-]{10}_[\d-]{8}", *run)


def test_flwr_run_overrides_compose() -> None:
    (overrides,) = re.findall(r"overrides=\"([^\"]+)\"", TEXT)
    assert compose_config(shlex.split(overrides)).algorithm.nu == 3


def test_the_snippets_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The function, one's own data and one's own model, each as a reader would try it."""
    function, data, model, trained = PYTHON
    exec(compile(function, "README", "exec"), names := {})
    assert names["gradient"]["w"].shape == names["personal"]["w"].shape == (3,)

    subprocess.run([sys.executable, "-c", data], cwd=tmp_path, check=True)
    (tmp_path / "mine.py").write_text(model)
    (own_data,) = [c for c in COMMANDS if "dataset.path" in c and "-m" in c.split()]
    (own_model,) = [c for c in COMMANDS if "mine.Net" in c]
    words = [str(Path(sys.executable).parent / "nufed-data"), *CHECK.split()[1:]]
    subprocess.run(words, cwd=tmp_path, check=True)
    for command in (own_data, own_model):
        words = [str(Path(sys.executable).parent / "nufed"), *shlex.split(command)[1:]]
        subprocess.run([*words, "rounds=2"], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    for command in (c for c in COMMANDS if "task." in c):
        build(compose_config(shlex.split(command)[1:]))
    runs = [read_run(file.parent) for file in sorted((tmp_path / "runs").rglob("summary.json"))]
    assert [run.summary["parameters"] for run in runs] == [64 * 75 + 10, *[8 * 100 + 100 + 202] * 3]
    check = "assert len(personal.curve['accuracy']) == 6"
    subprocess.run([sys.executable, "-c", f"{trained}\n{check}"], cwd=tmp_path, check=True)
    (adapt,) = [shlex.split(line) for line in SHELL if line.startswith("nufed-adapt ")]
    run = max((tmp_path / "runs").rglob("model.safetensors")).parent
    assert re.fullmatch(r"checkpoint=runs/npz-nufed/[\d-]{10}_[\d-]{8}", adapt[1])
    words = [str(Path(sys.executable).parent / adapt[0]), f"checkpoint={run}", *adapt[2:]]
    subprocess.run(words, cwd=tmp_path, check=True)
    assert (tmp_path / "personal.safetensors").is_file()


def test_the_options_listed_are_the_options_there_are() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", TEXT, re.MULTILINE))
    for group, text in rows.items():
        for file in (ROOT / "conf" / group).glob("*.yaml"):
            assert f"`{file.stem}`" in text, f"{group}={file.stem}"


def test_the_table_is_the_one_that_the_demo_prints(tmp_path: Path) -> None:
    """To 0.05: other processors round otherwise, and fifty rounds let it grow."""
    command = [str(Path(sys.executable).parent / "nufed"), f"hydra.run.dir={tmp_path / 'demo'}"]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    for text, printed in zip(numbers(TEXT), numbers(done.stdout), strict=True):
        assert text == pytest.approx(printed, abs=0.05)


def numbers(text: str) -> list[list[float]]:
    """Return the figures of a table's rows of means."""
    rows = re.findall(r"^│ .*mean +│(.*)│$", text, re.MULTILINE)
    assert len(rows) == 2
    return [[float(cell) for cell in row.split("│")] for row in rows]
