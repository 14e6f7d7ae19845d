"""docs/quick-start.md, one step ahead or five: as written, but for fewer rounds and seeds."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import run, sections
from tests.helpers import read_run

pytestmark = pytest.mark.docs

TEXT = sections("quick-start.md")
FEWER = {"seed=range(3)": "seed=range(1)", "hydra.sweep.dir": "rounds=2 hydra.sweep.dir"}


def test_two_methods_are_compared(tmp_path: Path) -> None:
    run(TEXT["Your data, in one file"].split("```sh")[0], tmp_path)
    subprocess.run([sys.executable, "make.py"], cwd=tmp_path, check=True)
    text = TEXT["One step ahead, or five?"]
    for whole, part in FEWER.items():
        assert whole in text
        text = text.replace(whole, part)
    printed = run(text, tmp_path)
    folder = tmp_path / "runs/compared"
    runs = [read_run(file.parent) for file in sorted(folder.rglob("summary.json"))]
    assert len(runs) == 2
    assert runs[0].rows[-1]["train_loss"] != runs[1].rows[-1]["train_loss"]
    assert printed.splitlines()[-1] == f"comparison: {folder / 'comparison.html'}"
    table = printed.split("over the first")[-1]
    for words in ("algorithm=per_fedavg", "algorithm=nufed", "participating", "new"):
        assert words in table
