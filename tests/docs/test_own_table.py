"""docs/own-data.md, a table as it is: it works as written, also for a ward that comes later."""

import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nufed.cli.data import main as nufed_data
from nufed.client_app.from_run import personalize
from nufed.tasks.table_files import MISSING
from tests.docs.pages import run, sections, shown, the_run

pytestmark = pytest.mark.docs

TEXT = sections("own-data.md")


def test_a_table_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = run(TEXT["A table as it is"], tmp_path)
    assert [line for line in shown(TEXT["A table as it is"]) if line not in printed] == []
    accuracy = the_run(tmp_path).summary["new"]["accuracy"]
    assert accuracy[-1] > accuracy[0] + 0.2
    assert "personal model: " in printed
    assert len(re.findall(r"^P21\d{3} (?:ill|well)$", printed, re.MULTILINE)) == 24
    monkeypatch.chdir(tmp_path)
    nufed_data(["prepare", "ward-21.csv", "like=visits.json"])
    _require_the_features_of_prepare(runpy.run_path("elsewhere.py"))
    of_table, of_rows = (
        personalize("runs/visits", f"ward-21.{kind}", steps=2).curve["loss"]
        for kind in ("csv", "npz")
    )
    assert of_table == of_rows


def _require_the_features_of_prepare(elsewhere: dict[str, Any]) -> None:
    """What the page does to a row by itself is what was done to those that were trained on."""
    x = np.stack([elsewhere["encode"](row) for row in elsewhere["rows"] if row["result"]])
    with np.load("ward-21.npz") as found:
        np.testing.assert_allclose(x, found["x"], rtol=0, atol=1e-6)
    assert elsewhere["MISSING"] == {*MISSING}
    row = elsewhere["rows"][0] | {"age": " NA", "smoker": "TRUE", "town": "Rom"}
    age, _ = elsewhere["table"]["numbers"]
    filled = (age["fill"] - age["mean"]) / age["scale"]
    encoded = elsewhere["encode"](row)
    np.testing.assert_allclose(encoded[[0, 2, 3]], [filled, 1, 1], atol=1e-6)
    assert encoded[4:].sum() == 0, "no such town"
