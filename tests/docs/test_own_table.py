"""docs/own-data.md, a table as it is: it works as written, also for a ward that comes later."""

import re
from pathlib import Path

import pytest

from nufed.cli.data import main as nufed_data
from nufed.client_app.from_run import personalize
from tests.docs.pages import run, sections, shown, the_run

pytestmark = pytest.mark.docs

TEXT = sections("own-data.md")


def test_a_table_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = run(TEXT["A table as it is"], tmp_path)
    assert [line for line in shown(TEXT["A table as it is"]) if line not in printed] == []
    accuracy = the_run(tmp_path).summary["new"]["accuracy"]
    assert accuracy[-1] > accuracy[0] + 0.2
    assert "personal model: " in printed
    assert re.search(r"\{'age': 55\.\d+, 'platelets': 2465\d\d\.\d+\} (ill|well)\n", printed)
    monkeypatch.chdir(tmp_path)
    nufed_data(["prepare", "ward-21.csv", "like=visits.json"])
    of_table, of_rows = (
        personalize("runs/visits", f"ward-21.{kind}", steps=2).curve["loss"]
        for kind in ("csv", "npz")
    )
    assert of_table == of_rows
