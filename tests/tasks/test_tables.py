"""Tables as features: what is applied is scikit-learn's own transform, also after JSON."""

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from nufed.conf.errors import InputError
from nufed.tasks import table_files
from nufed.tasks.datasets.npz import read
from nufed.tasks.table_columns import told
from nufed.tasks.table_files import Table, read_table
from nufed.tasks.table_fit import FREQUENT, MOST, fit, frame, grouped, transformer
from nufed.tasks.table_transform import Description, Prepared, apply, clients, read_description

FEATURES = ["age", "dose", "smoker", "city", "code", "many", "level"]
Written = Callable[[str], Path]


def text(n: int = 400) -> str:
    """Return a CSV with gaps, rare and many categories, codes, and quotes."""
    random = np.random.default_rng(3)
    lines = ["patient,ward,age,dose,smoker,city,code,many,level,seen,site,held_out,result"]
    for i in range(n):
        age = "" if random.random() < 0.1 else f"{random.normal(50, 15):.1f}"
        dose = f"{random.integers(1, 9) * 1e-6:g}"
        smoker = random.choice(["true", "false", "NA"], p=[0.3, 0.6, 0.1])
        city = random.choice(['"Ulm, old"', "Köln", "Rare", "NULL"], p=[0.5, 0.39, 0.005, 0.105])
        code, many = f"0{random.integers(3)}", f"m{i % 60}"
        level = random.choice([1, 2]) if i % 400 else ""
        seen, held = f"2024-01-{i % 28 + 1:02}", int(i % 4 == 0)
        result = "" if i % 50 == 7 else ["well", "ill"][int(random.random() < 0.4)]
        lines.append(
            f"P{i},ward {i % 7},{age},{dose},{smoker},{city},{code},{many},{level},{seen},A,"
            f"{held},{result}"
        )
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    file = tmp_path_factory.mktemp("table") / "wards.csv"
    file.write_text(text())
    return read_table(file)


@pytest.fixture(scope="module")
def of(table: Table) -> Description:
    return fit(table, client="ward", target="result", test="held_out")


@pytest.fixture(scope="module")
def prepared(of: Description, table: Table) -> Prepared:
    return apply(of, table, "wards.json")


@pytest.fixture
def written(tmp_path: Path) -> Written:
    def write(content: str) -> Path:
        (tmp_path / "mine.csv").write_text(content)
        return tmp_path / "mine.csv"

    return write


def test_what_is_applied_is_scikit_learns_own_transform(
    table: Table, of: Description, prepared: Prepared
) -> None:
    """Fitted on train rows alone, and applied to all; columns are in the order of the groups."""
    columns = {name: told(table, name) for name in FEATURES}
    there = np.array([entry is not None for entry in table["result"].to_pylist()])
    train = there & np.array([entry == "0" for entry in table["held_out"].to_pylist()])
    of_train = {name: c._replace(values=c.values[train]) for name, c in columns.items()}
    theirs = transformer(grouped(of_train)).fit(frame(of_train))
    x = theirs.transform(frame(columns))[there]
    assert prepared.rows.x.dtype == np.float32
    np.testing.assert_allclose(prepared.rows.x, x, rtol=1e-6, atol=1e-6)
    assert x.shape == (392, len(of.features))
    assert of.counts.fitted == train.sum()
    means = x[train[there]].mean(0)
    np.testing.assert_allclose(means[:3], 0, atol=1e-6)
    assert abs(x[:, 0].mean()) > 1e-3, "of all rows it is another mean"


def test_each_kind_of_column_is_what_it_should_be(of: Description, prepared: Prepared) -> None:
    assert [each.name for each in of.numbers] == ["age", "dose", "level"]
    assert [each.indicator for each in of.numbers] == [True, False, False], "of train rows"
    assert [(each.name, each.indicator) for each in of.booleans] == [("smoker", True)]
    city, code, many = of.texts
    assert city.categories == ("Köln", "Ulm, old", None)
    assert city.other
    assert code.categories == ("00", "01", "02")
    assert not code.other
    assert len(many.categories) == MOST - 1
    assert prepared.missing["level"] == 1
    why = {each.name: each.why for each in of.left_out}
    assert why == {
        "patient": f"holds {of.counts.fitted:,} texts, no two of them alike: ids or prose",
        "seen": "holds dates; give numbers, such as days since one",
        "site": "is 'A' in every train row",
    }
    assert of.features[:6] == ("age", "dose", "level", "smoker", "age missing", "smoker missing")
    assert of.features[6:10] == ("city=Köln", "city=Ulm, old", "city missing", "city other")
    assert of.target.classes == ("ill", "well")
    assert prepared.without_target == 8
    assert prepared.rows.client is not None
    assert prepared.rows.client[:7].tolist() == [f"ward {i}" for i in range(7)]


def test_of_json_the_same_comes_bit_by_bit(
    table: Table, of: Description, prepared: Prepared, tmp_path: Path
) -> None:
    file = tmp_path / "wards.json"
    file.write_text(of.text())
    again = read_description(str(file))
    assert again == of
    for one, other in zip(apply(again, table, "").rows, prepared.rows, strict=True):
        np.testing.assert_array_equal(one, other)
    assert "P17" not in file.read_text()
    assert "Rare" not in file.read_text(), "rare texts may be somebody's"


def test_new_rows_are_made_alike(of: Description, written: Written) -> None:
    """By hand: an unknown city is among the others, an unknown code 0 everywhere."""
    row = "a,ward 99,,2e-6,NA,Paris,77,m1,1,x,A,1,well,7"
    found = apply(of, read_table(written(f"{text(1).splitlines()[0]},more\n{row}\n")), "wards.json")
    (x,) = found.rows.x
    value = dict(zip(of.features, x.tolist(), strict=True))
    age, dose, _ = of.numbers
    assert value["age"] == pytest.approx((age.fill - age.mean) / age.scale, abs=1e-6)
    assert value["dose"] == pytest.approx((2e-6 - dose.mean) / dose.scale, rel=1e-6)
    ones = {"age missing", "smoker missing", "city other", "many=m1"}
    assert {name for name, v in value.items() if v == 1 and name != "level"} == ones
    assert sum(v for name, v in value.items() if name.startswith("code")) == 0
    assert found.unknown == {"city": 1, "code": 1, "many": 0}
    assert found.ignored == ("more",)
    assert found.rows.y.tolist() == [1]
    assert found.rows.client is not None
    assert found.rows.client.tolist() == ["ward 99"]


def test_a_newcomers_file_may_lack_client_and_split(of: Description, written: Written) -> None:
    names = text(1).splitlines()[0].replace(",ward", "").replace(",held_out", "")
    found = apply(of, read_table(written(f"{names}\na,50,1e-6,true,Köln,01,m1,1,x,A,ill\n")), "")
    assert found.rows.client is None
    assert found.rows.test is None


def test_parquet_is_read_by_its_types(tmp_path: Path) -> None:
    """Text stays text there, NaN and null are missing, dates and lists are left out."""
    columns = {
        "who": pa.array([1, 1, 2, 2] * 5),
        "digits": pa.array(["1", "1", "2", None] * 5),
        "real": pa.array([1.0, np.nan, 3.0, None] * 5),
        "flag": pa.array([True, False, None, True] * 5),
        "day": pa.array(np.datetime64("2024-01-01") + np.arange(20)),
        "list": pa.array([[1]] * 20),
        "coded": pa.array(["a", "b", "b", "a"] * 5).dictionary_encode(),
        "y": pa.array([0.5, 1.5, None, 2.5] * 5),
    }
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    of = fit(table, client="who", target="y")
    assert of.features == (
        *("real", "flag", "real missing", "digits=1", "digits missing", "coded=a", "coded=b"),
    )
    assert [each.name for each in of.left_out] == ["day", "list"]
    found = apply(of, table, "")
    assert found.rows.client is not None
    assert found.rows.client.tolist() == [1, 1, 2] * 5
    std = np.std([0.5, 1.5, 2.5])
    np.testing.assert_allclose(found.rows.y[:3], [-1 / std, 0, 1 / std], rtol=1e-6)
    np.savez(tmp_path / "t.npz", **{k: v for k, v in found.rows._asdict().items() if v is not None})
    assert read(str(tmp_path / "t.npz")).y.dtype == np.float32


def test_threads_of_arrow_have_nothing_of_pythons(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may let go of it last, while Python ends, which aborts the process."""
    theirs, given = csv.read_csv, list[pa.NativeFile]()

    def read_csv(source: pa.NativeFile, **options: object) -> pa.Table:
        given.append(source)
        return theirs(source, **options)

    contents = list[bytes]()
    monkeypatch.setattr("pyarrow.csv.read_csv", read_csv)
    monkeypatch.setattr(table_files, "read_bytes", lambda *_, **__: contents[0])
    contents.append(b"c,x\n1,2\n")
    assert read_table(written("")).rows == 1
    (source,) = given
    assert isinstance(source, pa.NativeFile)
    assert not isinstance(source, pa.PythonFile)
    source.seek(0)
    held = source.read_buffer()
    assert held.to_pybytes() == contents[0]
    assert held.address != np.frombuffer(contents[0], np.uint8).ctypes.data


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_whatever_separates_columns_is_seen(separator: str, written: Written) -> None:
    lines = ['\ufeffa , b,"c d"', *(f"{i},x{i % 2}, y" for i in range(9))]
    table = read_table(written("\r\n".join(lines).replace(",", separator)))
    assert list(table.columns) == ["a", "b", "c d"]
    assert table.separator == separator
    assert told(table, "a").values.tolist() == list(range(9))
    assert told(table, "c d").values.tolist() == ["y"] * 9


def test_ids_are_what_is_written(written: Written) -> None:
    """As of dataset=hf: NA is a name, 007 text, blanks beside a number not of it."""
    table = read_table(written("c,y\nNA,1\n007, 2\n 5,3\n a,4\n"))
    assert table.ids("c") == ["NA", "007", "5", " a"]


@pytest.mark.parametrize(
    ("target", "task", "said"),
    [
        ("0,1,1,0", None, ("0", "1")),
        ("2,10,9,2", "classes", ("2", "9", "10")),
        ("2,10,9,2", None, "holds 3 whole numbers; say task=classes, or task=real where"),
        ("true,false,true,false", None, ("false", "true")),
        ("1.5,2,3,4", None, None),
        ("1,2,3,4", "real", None),
        ("1.5,2,3,4", "classes", "task=classes: target=y of "),
        ("a,b,a,b", "real", "holds texts"),
        ("a,a,a,a", None, "is 'a' in every row"),
        ("5,5,5,5", "real", "is 5 in every train row"),
        ("2024-01-01,2024-01-02,,", None, "holds dates"),
        (",,,", None, "holds no value"),
    ],
)
def test_what_the_target_is(
    target: str, task: str | None, said: str | tuple[str, ...] | None, written: Written
) -> None:
    lines = [f"{i % 2},{i}.5,{y}" for i, y in enumerate(target.split(","))]
    table = read_table(written("\n".join(["c,x,y", *lines])))
    if isinstance(said, str):
        with pytest.raises(InputError, match=said):
            fit(table, client="c", target="y", task=task)
    else:
        assert fit(table, client="c", target="y", task=task).target.classes == said


def spoilt(of: Description, **changes: object) -> str:
    return json.dumps(json.loads(of.text()) | changes)


def test_a_description_from_elsewhere_is_data(of: Description, written: Written) -> None:
    """What is wrong with it is said in one line."""
    number = json.loads(of.text())["numbers"][0]
    wrong = {
        "no JSON": "is no description of a table",
        "[]": "is a list of 0, not an object",
        spoilt(of, format=2): "format is 2, and 1 is known here",
        spoilt(of, extra=1): "has an unknown 'extra'",
        spoilt(of, features=["age"]): "features are not those of its columns",
        spoilt(of, numbers=[number | {"scale": 0}]): "the scale of 'age' is 0.0",
        spoilt(of, numbers=[number | {"mean": "1"}]): "mean is '1', not a number",
        of.text().replace('"fill": ', '"fill": NaN, "was": ', 1): "NaN is no n",
    }
    for content, said in wrong.items():
        file = written(content)
        with pytest.raises(InputError) as error:
            read_description(str(file))
        assert said in str(error.value)
        assert "\n" not in str(error.value)


def test_frequent_is_what_scikit_learn_counts(written: Written) -> None:
    """A category of five rows is one, of four it is among the others."""
    texts = ["a"] * FREQUENT + ["b"] * (FREQUENT - 1) + ["c"] * 9
    table = read_table(
        written("w,t,y\n" + "".join(f"1,{t},{i % 2}\n" for i, t in enumerate(texts)))
    )
    (found,) = fit(table, client="w", target="y").texts
    assert found.categories == ("a", "c")
    assert found.other


def test_numbers_that_may_be_ids_are_kept_and_told(
    written: Written, caplog: pytest.LogCaptureFixture
) -> None:
    """Of whole numbers in every row another; not of fractions, nor where two are alike."""
    lines = [f"{i % 3},{900 + 7 * i},{i}.5,{i // 2},{i % 2}" for i in range(40)]
    table = read_table(written("\n".join(["w,id,x,n,y", *lines])))
    assert fit(table, client="w", target="y").features == ("id", "x", "n")
    (said,) = [record.getMessage() for record in caplog.records]
    assert "column 'id' has a whole number of its own in every row" in said
    assert said.endswith("if it is an id, say drop=[id]")
    assert fit(table, client="w", target="y", drop=["id"]).features == ("x", "n")


def test_parquet_numbers_of_every_type_are_numbers(tmp_path: Path) -> None:
    columns = {
        "decimal": pa.array([Decimal("1.50"), None, Decimal("-2.25")]),
        "half": pa.array(np.array([1, 2, 3], np.float16)),
        "large": pa.array([2**64 - 1, 0, 1], pa.uint64()),
        "who": pa.array([b"a", b"b", b"b"]),
    }
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    values = {name: told(table, name).values.tolist() for name in ("half", "large")}
    assert values == {"half": [1.0, 2.0, 3.0], "large": [2.0**64, 0.0, 1.0]}
    np.testing.assert_array_equal(told(table, "decimal").values, [1.5, np.nan, -2.25])
    assert clients(table, "who").tolist() == ["a", "b", "b"]
