"""docs/python.md: its blocks in one session, as a reader types them, but for shorter runs."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from safetensors.torch import load_file

from tests.docs.pages import ROOT

pytestmark = pytest.mark.docs

TEXT = (ROOT / "docs/python.md").read_text()
README = (ROOT / "README.md").read_text()
FEWER = {
    "rounds=20": "rounds=2",
    '["round"] == 20': '["round"] == 2',
    '"rounds": 20': '"rounds": 2',
}


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what the blocks left, what each printed under its first line."""
    here, names = tmp_path_factory.mktemp("reader"), dict[str, Any]()
    printed = names["printed"] = list[str]()
    names["print"] = lambda *what: printed.append(" ".join(map(str, what)))
    names["here"] = here
    text = TEXT
    for whole, fewer in FEWER.items():
        text = text.replace(whole, fewer)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        patch.syspath_prepend(str(here))
        for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
            if file := re.match(r"# (\w+\.py)\n", block):
                (here / file[1]).write_text(block)
            else:
                exec(compile(block, "docs/python.md", "exec"), names)
    return names


def test_the_readme_shows_the_same() -> None:
    (block,) = re.findall(r"```python\n(import nufed\n.*?)```", README, re.DOTALL)
    for line in filter(None, block.splitlines()):
        assert line.partition("  #")[0] in TEXT


def test_the_run_is_seen_as_shown(session: dict[str, Any]) -> None:
    sentence, last, curve, everyone, of_ward, table, error = session["printed"]
    assert "10 new clients are at" in sentence
    assert "personal models are better than what clients do best alone" in sentence
    assert re.fullmatch(
        r"Personal\(\S+, client 7: 5 steps, α=0\.3; .* on 8 rows held out\)", of_ward
    )
    assert re.findall(r"^\d+ +(\d)", last, re.MULTILINE) == [*"012345"]
    assert len(curve.split(",")) == 6
    assert everyone.split()[:3] == ["client", "k", "gain"]
    assert "┃ over the first ┃" in table
    assert f"print(error)  # {error}\n" in TEXT


def test_what_it_writes_is_there(session: dict[str, Any]) -> None:
    here: Path = session["here"]
    layers = load_file(here / "newcomer.safetensors")
    assert layers.keys() == {"1.weight", "1.bias", "3.weight", "3.bias"}
    assert "2 runs side by side" in (here / "comparison.html").read_text()
    assert len([*here.glob("runs/*/*/report.html")]) == 4
    assert len([*(here / "everyone").glob("*.safetensors")]) == 50


def test_the_runs_have_the_model_and_the_arrays(session: dict[str, Any]) -> None:
    one, other = session["runs"]
    assert one.config.model == other.config.model == {"_target_": "mine.Net", "width": 16}
    assert one.model[1].in_features == 8
    assert one.config.dataset["path"] == other.config.dataset["path"]
    assert [each.config.algorithm["name"] for each in (one, other)] == ["fedavg", "nufed"]
    assert list(session["table"]["group"]) == ["participating", "new"] * 2


def test_a_table_is_known_from_the_rows_to_what_is_exported(session: dict[str, Any]) -> None:
    """And both columns of it count: the scores are those of the rows that were prepared."""
    rows, here = session["rows"], session["here"]
    features = json.loads(str(rows.table[0]))["features"]
    assert features == ["age", "age missing", "town=Köln", "town=Ulm"]
    model = onnxruntime.InferenceSession(here / "ward.onnx")
    assert json.loads(model.get_modelmeta().custom_metadata_map["features"]) == features
    (scores,) = model.run(["outputs"], {"x": rows.x[rows.client == 7]})
    np.testing.assert_allclose(session["scores"].numpy(), scores, atol=1e-5)
