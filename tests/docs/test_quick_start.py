"""docs/quick-start.md: from nothing to a personal model, as written but for shorter runs."""

import re
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.docs.pages import run, sections
from tests.helpers import read_run

pytestmark = pytest.mark.docs

TEXT = sections("quick-start.md")
ORDER = (
    "Your data, in one file",
    "Train",
    "The report",
    "One step ahead, or five?",
    "A model for a newcomer",
)
FEWER = {"hydra.run.dir": "rounds=6 hydra.run.dir", "seed=range(3)": "seed=range(2)"}


def test_from_nothing_to_a_personal_model(tmp_path: Path) -> None:
    printed = dict[str, str]()
    for section in ORDER:
        text = TEXT[section]
        for whole, part in FEWER.items():
            text = text.replace(whole, part)
        text = text.replace("hydra.sweep.dir", "rounds=2 hydra.sweep.dir")
        printed[section] = run(text, tmp_path)

    checked, trained, report, compared, adapted = printed.values()
    assert "1,200 rows of 30 clients" in checked
    assert re.search(r"^  nufed dataset=npz dataset.path=mine.npz$", checked, re.MULTILINE)

    first = read_run(tmp_path / "runs/first")
    assert first.summary["rounds"] == 6
    assert first.summary["clients"] == {"participating": 24, "new": 6}
    assert "alpha = " in trained
    assert [
        kind for kind in ("participating (24), mean", "new (6), mean") if kind not in trained
    ] == []
    page = tmp_path / "runs/first/report.html"
    assert report.splitlines()[-1] == f"report: {page}"

    assert len(list((tmp_path / "runs/compared").rglob("summary.json"))) == 4
    assert "algorithm=per_fedavg (2)" in compared
    assert (tmp_path / "runs/compared/comparison.html").is_file()

    assert "30 rows to fine-tune on, 10 held out" in adapted
    personal, shared = load_file(tmp_path / "personal.safetensors"), first.model
    assert any(not personal[name].equal(shared[name]) for name in shared)


def test_what_is_shown_has_the_form_of_what_is_printed() -> None:
    """A line of a table: as many figures as there are steps."""
    rows = re.findall(
        r"^│ (?:participating|new) \(\d+\), mean +│(.*)│$", TEXT["Train"], re.MULTILINE
    )
    assert [len(row.split("│")) for row in rows] == [6, 6]
    assert all(0 < float(cell) < 1 for row in rows for cell in row.split("│"))


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_completion_can_be_had_in_the_shells_named(shell: str, tmp_path: Path) -> None:
    assert f"install={shell}" in TEXT["Install"]
    printed = run(f"```sh\nnufed --shell-completion install={shell}\n```", tmp_path)
    assert f"hydra_{shell}_completion" in printed
