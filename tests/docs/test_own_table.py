"""docs/own-data.md, a table as it is: it works as written, also for a ward that comes later."""

from pathlib import Path

import numpy as np
import pytest

from tests.docs.pages import run, sections, shown, the_run

pytestmark = pytest.mark.docs

TEXT = sections("own-data.md")


def test_a_table_as_it_is(tmp_path: Path) -> None:
    printed = run(TEXT["A table as it is"], tmp_path)
    assert [line for line in shown(TEXT["A table as it is"]) if line not in printed] == []
    accuracy = the_run(tmp_path).summary["new"]["accuracy"]
    assert accuracy[-1] > accuracy[0] + 0.2
    assert "ward-21.csv: 23 rows of 1 client, 8 features, as visits.json has them" in printed
    assert "personal model: " in printed
    with np.load(tmp_path / "visits.npz") as first, np.load(tmp_path / "ward-21.npz") as later:
        assert first["x"].shape[1] == later["x"].shape[1] == 8
