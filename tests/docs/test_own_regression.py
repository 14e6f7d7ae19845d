"""docs/own-data.md, the regression: it works as written, and is learnt."""

from pathlib import Path

import pytest

from tests.docs.pages import run, sections, the_run

pytestmark = pytest.mark.docs

TEXT = sections("own-data.md")


def test_a_regression(tmp_path: Path) -> None:
    """R² is no mean over rows, and stands for the loss in the table."""
    for section in ("Raw files", "One file"):
        run(TEXT[section], tmp_path)
    run("```sh\npython raw.py\npython prepare.py\n```", tmp_path)
    printed = run(TEXT["A regression"], tmp_path)
    assert "r2 on held-out rows" in printed
    r2 = the_run(tmp_path).summary["new"]["r2"]
    assert r2[0] < 0.3 < 0.6 < r2[-1] < 1
