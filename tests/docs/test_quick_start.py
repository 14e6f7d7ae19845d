"""docs/quick-start.md: from nothing to a newcomer's model, as written but for a shorter run."""

import re
import subprocess
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.docs.pages import ROOT, run, sections, shown
from tests.helpers import read_run

pytestmark = pytest.mark.docs

TEXT = sections("quick-start.md")


def test_from_nothing_to_a_personal_model(tmp_path: Path) -> None:
    checked = run(TEXT["Your data, in one file"], tmp_path)
    assert "1,200 rows of 30 clients" in checked
    assert re.search(
        r"^  nufed dataset=npz dataset.path=mine.npz model=logistic$", checked, re.MULTILINE
    )
    assert shown(TEXT["Your data, in one file"])[0] in checked.splitlines()

    trained = run(TEXT["Train"].replace("hydra.run.dir", "rounds=6 hydra.run.dir"), tmp_path)
    assert "alpha = " in trained, "step sizes chosen unasked are told first"
    assert all(kind in trained for kind in ("participating (24), mean", "new (6), mean"))
    first = read_run(tmp_path / "runs/first")
    assert first.summary["rounds"] == 6

    page = tmp_path / "runs/first/report.html"
    assert f"report: {page}" in trained.splitlines()
    page.unlink()
    assert run(TEXT["The report"], tmp_path) == f"report: {page}\n"
    assert page.is_file()

    adapted = run(TEXT["A model for a newcomer"], tmp_path)
    assert "30 rows to fine-tune on, 10 held out" in adapted
    personal, shared = load_file(tmp_path / "personal.safetensors"), first.model
    assert any(not personal[name].equal(shared[name]) for name in shared)


def test_what_is_shown_has_the_form_of_what_is_printed() -> None:
    """A row of figures, one a step."""
    line = r"^│ (?:participating|new) \(\d+\), mean +│(.*)│$"
    rows = re.findall(line, TEXT["Train"], re.MULTILINE)
    assert [len(row.split("│")) for row in rows] == [6, 6]
    assert all(0 < float(cell) < 1 for row in rows for cell in row.split("│"))


def test_installed_it_completes() -> None:
    """All of the section in one bash, where NuFed is checked out; nothing is left to install."""
    blocks = re.findall(r"```sh\n(.*?)```", TEXT["Install"], re.DOTALL)
    printed = subprocess.check_output(
        ["bash", "-ec", f"{''.join(blocks)}complete -p nufed"], cwd=ROOT, text=True
    )
    assert re.search(r"^complete .*-F \S+ nufed$", printed, re.MULTILINE), printed


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_completion_can_be_had_in_the_shells_named(shell: str, tmp_path: Path) -> None:
    assert f"install={shell}" in TEXT["Install"]
    printed = run(f"```sh\nnufed --shell-completion install={shell}\n```", tmp_path)
    assert f"hydra_{shell}_completion" in printed
