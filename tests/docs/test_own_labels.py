"""docs/own-data.md, several labels a row: it works as written, and is learnt."""

from pathlib import Path

import pytest

from tests.docs.pages import run, sections, the_run

pytestmark = pytest.mark.docs

TEXT = sections("own-data.md")


def test_several_labels_a_row(tmp_path: Path) -> None:
    """Each client has labels of its own: fine-tuning finds them, as far as 30 rows tell."""
    printed = run(TEXT["Several labels a row"], tmp_path)
    assert "2 classes at each of [3] places" in printed
    accuracy = the_run(tmp_path).summary["new"]["accuracy"]
    assert accuracy[-1] > accuracy[0] + 0.02
