"""docs/own-data.md, the sequence: it works as written, and is learnt."""

from pathlib import Path

import pytest

from tests.docs.pages import run, sections, the_run

pytestmark = pytest.mark.docs

TEXT = sections("own-data.md")


def test_a_sequence(tmp_path: Path) -> None:
    """Without fine-tuning nobody can know a cipher; after it nearly all is read."""
    run(TEXT["A sequence"], tmp_path)
    accuracy = the_run(tmp_path).summary["new"]["accuracy"]
    assert accuracy[0] < 0.4 < 0.9 < accuracy[-1]
