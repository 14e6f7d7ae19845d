"""docs/own-data.md, from raw files to a comparison and a model of one's own, works as written."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.docs.pages import run, sections, shown
from tests.helpers import read_run

pytestmark = pytest.mark.docs

TEXT = sections("own-data.md")


def test_from_raw_files_to_a_comparison(tmp_path: Path) -> None:
    """What the page shows is what is printed; accuracies to 0.1, as other processors round."""
    run(TEXT["Raw files"], tmp_path)
    run(TEXT["One file"], tmp_path)
    found = run(TEXT["Look at it first"], tmp_path)
    assert [line for line in shown(TEXT["Look at it first"]) if line not in found] == []

    compared = run(TEXT["Train and compare"], tmp_path)
    printed = rows(compared[compared.index("the sweep") :])
    expected = rows("\n".join(shown(TEXT["Train and compare"])))
    assert len(expected) == 6
    assert [words for words, _ in printed] == [words for words, _ in expected]
    for (_, mine), (_, theirs) in zip(printed, expected, strict=True):
        assert mine == pytest.approx(theirs, abs=0.1)

    run(TEXT["Your own model"], tmp_path)
    runs = [read_run(file.parent) for file in sorted((tmp_path / "runs").rglob("summary.json"))]
    assert len(runs) == 4
    assert 4 * 16 + 16 + 16 * 2 + 2 in [run.summary["parameters"] for run in runs]

    found = run(TEXT["A pretrained model"], tmp_path)
    assert [line for line in shown(TEXT["A pretrained model"]) if line not in found] == []
    before = load_file(tmp_path / "pretrained" / "model.safetensors")
    newest = max((tmp_path / "runs").rglob("model.safetensors"), key=lambda f: f.stat().st_mtime)
    after = load_file(newest)
    assert torch.equal(after["0.frozen.weight"], before["0.weight"])
    assert torch.equal(after["2.frozen.bias"], before["2.bias"])


def rows(table: str) -> list[tuple[list[str], list[float]]]:
    """Return a table's rows, each as its words and its numbers."""
    cells = [line.strip("│").split("│") for line in table.splitlines() if line.startswith("│")]
    return [([c.strip() for c in row[:3]], [float(c) for c in row[3:]]) for row in cells]
