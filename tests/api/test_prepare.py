"""A table from Python: the rows of the command, and a run that takes such tables ever after."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pyarrow as pa
import pytest
import torch
from safetensors import safe_open

import nufed
from nufed import Personal, Run
from nufed.tasks.rows import Rows
from tests import forked
from tests.api.conftest import SMALL

NAMED = {"client": "ward", "target": "result"}


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Return wards with text, gaps and a date, in which a city is rare."""
    random = np.random.default_rng(0)
    n = 240
    age = random.normal(50, 10, n)
    return pd.DataFrame(
        {
            "ward": np.arange(n) % 8,
            "age": np.where(random.random(n) < 0.1, np.nan, age),
            "city": random.choice(["Ulm", "Köln", None], n),
            "smoker": random.choice([True, False], n),
            "seen": pd.Timestamp("2024-03-01") + pd.to_timedelta(np.arange(n), "D"),
            "result": np.where(age + 8 * random.normal(size=n) > 50, "ill", "well"),
        }
    )


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, frame: pd.DataFrame) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("wards")
    frame.to_csv(folder / "wards.csv", index=False)
    frame[frame.ward == 1].to_csv(folder / "one.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("NUFED_DATA", str(folder / "data"))
        words = ["nufed-data", "prepare", "wards.csv", "client=ward", "target=result"]
        done = forked.run(words, folder)
        assert done.status == 0, done.err
        yield folder


@pytest.fixture(scope="module")
def rows(here: Path) -> Rows:
    return nufed.prepare("wards.csv", **NAMED)


@pytest.fixture(scope="module")
def run(here: Path, rows: Rows) -> Run:
    words = f"{SMALL} model=logistic baselines=simple"
    return nufed.train(words, data=rows, folder="run", progress=False)


@pytest.fixture(scope="module")
def personal(run: Run, frame: pd.DataFrame) -> Personal:
    return run.personalize(frame[frame.ward == 1], steps=2)


def assert_equal(one: Rows, other: Rows) -> None:
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_rows_are_those_of_the_command(rows: Rows, frame: pd.DataFrame) -> None:
    """Whether the table is a file, a DataFrame or Arrow's; and so of others that are made alike."""
    with np.load("wards.npz") as theirs:
        assert_equal(rows, Rows(**{"test": None, **theirs}))
    assert_equal(nufed.prepare(frame, **NAMED), rows)
    assert_equal(nufed.prepare(pa.table(frame), **NAMED), rows)
    some = frame[:60].drop(columns="ward")
    for like in (rows, "wards.json", Path("wards.json")):
        again = nufed.prepare(some, like=like)
        assert_equal(again, rows._replace(x=rows.x[:60], y=rows.y[:60], client=None))
    assert "ageless" not in nufed.prepare(frame.assign(ageless=1.5), drop="age", **NAMED).__repr__()
    assert repr(rows) == (
        "Rows(x float32 [240, 6], y int64 [240], client int64 [240], made of a table)"
    )


def test_what_is_left_out_is_said(frame: pd.DataFrame, caplog: pytest.LogCaptureFixture) -> None:
    found = nufed.prepare(frame, drop=["age"], **NAMED)
    assert [each.getMessage() for each in caplog.records] == [
        "table: column 'seen' is left out: holds dates; give numbers, such as days since one"
    ]
    assert found.table is not None
    assert "age" not in json.loads(str(found.table[0]))["features"]


def test_a_run_of_such_rows_takes_tables(run: Run, rows: Rows, personal: Personal) -> None:
    """Whatever form they have, the personal model is one; the description is with the model."""
    assert rows.table is not None
    assert rows.client is not None
    with safe_open(run.folder / "model.safetensors", "pt") as archive:
        assert json.loads(archive.metadata()["data"])["table"] == str(rows.table[0])
    mine = rows.client == 1
    given = Rows(rows.x[mine], rows.y[mine], rows.client[mine], None, rows.table)
    for form in (given, "one.csv", Path("one.csv")):
        assert run.personalize(form, steps=2).curve == personal.curve
    of_all = (run.personalize(rows, client=1), nufed.personalize(run, "wards.csv", client=1))
    assert of_all[0].curve == of_all[1].curve
    other = json.dumps(json.loads(str(rows.table[0])) | {"client": "another"})
    with pytest.raises(nufed.InputError, match=r"^data: was prepared in another way than the run"):
        run.personalize(given._replace(table=np.array([other])))


def test_predictions_are_those_of_the_features(
    personal: Personal, rows: Rows, frame: pd.DataFrame
) -> None:
    """No target is needed, and torch has nothing to warn of in arrays that none may write to."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = personal.predict(rows.x)
        frozen = rows.x.copy()
        frozen.flags.writeable = False
        given = ("wards.csv", frame.drop(columns=["result", "ward"]), frozen, torch.tensor(rows.x))
        for each in (*given, rows.x.astype(">f4")):
            assert personal.predict(each).equal(expected)
    assert expected.shape == (240, 2)


NO_ROWS: list[tuple[Any, str]] = [
    ("own.npz", "own.npz: names a file; give rows x, as numpy.load(file)['x'], or a table"),
    (pd.DataFrame({"age": [1.0]}), "x: has no column 'smoker', which the run takes"),
    ([["a"]], "x: is an array of <U1; give numbers"),
    (np.zeros((3, 2)), "x: has shape [3, 2], and a row of the run's [6]; give [N, 6]"),
    (np.float64(1), "x: has shape [], and a row"),
]


@pytest.mark.parametrize(("x", "line"), NO_ROWS, ids=lambda each: str(each)[:20])
def test_what_cannot_be_predicted_of_is_named(personal: Personal, x: Any, line: str) -> None:
    with pytest.raises(nufed.InputError) as e:
        personal.predict(x)
    assert str(e.value).startswith(line)
    assert "\n" not in str(e.value)


def test_a_model_is_saved_as_its_file_is_called(personal: Personal, rows: Rows) -> None:
    personal.save("own.onnx")
    session = onnxruntime.InferenceSession("own.onnx")
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == ["ill", "well"]
    (scores,) = session.run(["outputs"], {"x": rows.x})
    np.testing.assert_allclose(scores, personal.predict(rows.x).numpy(), atol=1e-5)
    personal.save("own.pt2")
    outputs = torch.export.load("own.pt2").module()(torch.tensor(rows.x))
    torch.testing.assert_close(outputs.detach(), personal.predict(rows.x))
    for name in ("own.pt", "own"):
        with pytest.raises(nufed.InputError, match=rf"^{name}: must end in .safetensors, .onnx or"):
            personal.save(name)
        assert not Path(name).exists()


def test_what_is_shown_is_short(run: Run, personal: Personal) -> None:
    accuracy = personal.curve["accuracy"]
    said = f"client 1: 2 steps, α=0.1; loss {personal.curve['loss'][0]:.3g} before, "
    assert said in repr(personal)
    assert f"accuracy {accuracy[0]:.3g} before, {accuracy[2]:.3g} after on 8 rows h" in repr(
        personal
    )
    assert len(repr(personal)) < 200
    assert "personal models are better than what clients do best alone" in repr(run)
    assert "\n" not in repr(run)


MISTAKES: list[tuple[Any, dict[str, Any], str]] = [
    (pd.DataFrame({"a": [1], "b": [2]}), {"client": "a"}, "target: has no value; name its column"),
    (
        pd.DataFrame({"a": [1], "b": [2]}),
        {"client": "a", "target": "c"},
        "target=c: table has no s",
    ),
    (
        pd.DataFrame({"a": [1, "x"], "b": [2, 3]}),
        NAMED,
        "table: is no table of columns of one type",
    ),
    (pd.DataFrame(), NAMED, "table: holds no rows"),
    (
        pd.DataFrame([[1, 2]], columns=["a", "a"]),
        NAMED,
        "table: is no table of columns of one type each (Dupl",
    ),
    (np.zeros((2, 2)), NAMED, "table: is a ndarray; give a CSV or Parquet file, or a pandas."),
    ("no.csv", NAMED, "no.csv: cannot be read"),
    ("no.npz", NAMED, "no.npz: is no .csv, .tsv or .parquet; name a table"),
    (
        "wards.csv",
        {"like": "wards.json", "target": "result"},
        "target=result: like says it already",
    ),
    ("wards.csv", {"like": Rows(np.zeros(1), np.zeros(1))}, "like: were not made of a table; give"),
    ("wards.csv", NAMED | {"task": "regression"}, "task=regression: must be classes | real"),
]


@pytest.mark.parametrize(("table", "given", "line"), MISTAKES, ids=lambda each: str(each)[:30])
def test_a_table_that_cannot_be_used_is_named(
    here: Path, table: Any, given: dict[str, Any], line: str
) -> None:
    with pytest.raises(nufed.InputError) as e:
        nufed.prepare(table, **given)
    assert str(e.value).startswith(line)
    assert "\n" not in str(e.value)


def test_who_gives_a_table_as_data_is_told_of_prepare(here: Path, frame: pd.DataFrame) -> None:
    """However it is given: a file, columns, or arrays of text."""
    x, y = frame[["age", "city"]].to_numpy(object), frame["result"]
    numbers = np.zeros((240, 2))
    for data in ("wards.csv", frame, (x, np.zeros(240, int), frame.ward), (numbers, y, frame.ward)):
        with pytest.raises(nufed.InputError, match=r"nufed\.prepare") as e:
            nufed.train(data=data, folder="none", progress=False, tracking="none")
        assert "\n" not in str(e.value)
    with pytest.raises(
        nufed.InputError, match=r"wards\.csv: is a table, and no \.npz; nufed-data p"
    ):
        nufed.train("dataset=npz dataset.path=wards.csv", folder="none", progress=False)
    with pytest.raises(nufed.InputError, match=r"by nufed-data prepare$"):
        nufed.train("dataset=wards.csv", folder="none", progress=False)
    assert not Path("none").exists()
