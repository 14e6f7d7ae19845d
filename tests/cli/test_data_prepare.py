"""`nufed-data prepare`: each column's fate is said; what cannot be used is refused, in a line."""

import errno
import json
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

from nufed.cli import run
from nufed.cli.adapt import main as adapt
from nufed.cli.data import main
from nufed.client_app.from_run import personalize
from nufed.conf.errors import InputError
from nufed.tasks.rows import Rows
from tests.cli.in_process import run_here

Prepare = Callable[..., str]
SIZES = [1, 3, 30, 60, 200]


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Work in a folder of its own, with lines as long as they are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def prepare(capsys: pytest.CaptureFixture[str]) -> Prepare:
    """Return a function that runs the command and returns what it prints."""

    def called(*words: str) -> str:
        capsys.readouterr()
        main(["prepare", *words])
        return capsys.readouterr().out

    return called


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Prepare:
    """Return a function that runs a command that fails, and returns its line; nothing is left."""

    def called(*words: str) -> str:
        before = sorted(tmp_path.iterdir())
        os.environ.pop("HYDRA_FULL_ERROR", None)  # of a command before
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main(["prepare", *words])
        (line,) = capsys.readouterr().err.splitlines()
        assert stopped.value.code == 2
        assert line.startswith("nufed-data: ")
        assert sorted(tmp_path.iterdir()) == before
        return line

    return called


def wards(file: str = "wards.csv") -> None:
    """Write wards of very unequal size, that want opposite answers; the third has one alone."""
    random = np.random.default_rng(1)
    lines = ["ward;age;city;note\x1b[31m;result"]
    for ward, size in enumerate(SIZES):
        for i in range(size):
            age = random.normal(50, 10)
            ill = ward == 2 or ((age > 50) == (ward % 2 == 0) and i > 0)
            city = ["Ulm", "Köln"][i % 2]
            lines.append(
                f"w{ward};{age if random.random() > 0.1 else ''};{city};a;{'ill' if ill else 'ok'}"
            )
    lines += ["w1;50;Ulm;a;"] * 2
    Path(file).write_text("\n".join(lines))


def command(output: str, program: str) -> list[str]:
    """Return the words of a command that is printed."""
    (line,) = [each for each in output.splitlines() if each.startswith(f"  {program} ")]
    return shlex.split(line)[1:]


def test_from_a_table_to_a_model_and_a_newcomer(
    prepare: Prepare, refused: Prepare, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    wards()
    output = prepare("wards.csv", "client=ward", "target=result")
    lines = output.splitlines()
    assert lines[0] == "wards.csv: 294 rows of 5 clients, 4 features"
    assert "! columns are taken to be separated by ';'" in lines
    assert "! 2 rows without 'result' are left out" in lines
    assert "medians, means, scales, categories are of all rows, those among them that" in output
    assert "! 2 clients have one class only (w0, w2), and the command keeps them" in lines
    assert r"note\x1b[31m" in output
    assert "\x1b[31m" not in output
    assert "left out: is 'a' in every train row" in output
    assert "2 classes, ill = 0, ok = 1" in output

    words = command(output, "nufed")
    with np.load("wards.npz") as found:
        assert found["x"].dtype == np.float32
        assert np.unique(found["client"], return_counts=True)[1].tolist() == SIZES
        missing = int(found["x"][:, 1].sum())
    assert [line for line in lines if "│ age " in line and f"│ {missing:>7} │" in line]
    main(command(output, "nufed-data"))  # what is said to be looked at can be
    assert "294 rows of 5 clients" in capsys.readouterr().out
    words += ["rounds=2", "baselines=none", "tracking=none"]
    words += ["algorithm.alpha=0.1", "algorithm.beta=0.1", "evaluation.steps=1", "model=logistic"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["nufed", *words, f"hydra.run.dir={tmp_path / 'run'}"])
        patch.setenv("HYDRA_FULL_ERROR", "0")
        run._prepare.cache_clear()
        done = run_here()
    assert done.status == 0, done.err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["rounds"] == 2
    assert summary["parameters"] == 4 * 2 + 2

    _of_the_table_itself(tmp_path / "run", capsys)
    Path("new.csv").write_text("age,city,result\n50,Ulm,ill\n,Paris,ok\n")
    output = prepare("new.csv", "like=wards.json", "out=new.npz")
    assert "new.csv: 2 rows of 1 client, 4 features, as wards.json has them" in output
    assert "! there is no column 'ward': the rows are taken for one client's" in output
    assert "! 1 row has a 'city' that is no category: 0 in all of its features" in output
    assert command(output, "nufed-adapt") == ["checkpoint=RUN", "data=new.npz"]
    assert not Path("new.json").exists()
    with np.load("new.npz") as found:
        assert sorted(found) == ["table", "x", "y"]
        assert str(found["table"][0]) == Path("wards.json").read_text()
        assert found["x"][:, 1:].tolist() == [[0, 0, 1], [1, 0, 0]]

    of_new = {
        "city,result\nUlm,ill\n": "new.csv: has no column 'age', which wards.json takes",
        "age,city,result\n1,Ulm,dead\n": "column 'result' holds 'dead' in row 0, which is no class",
        "age,city,result\n1,Ulm,ok\nold,Ulm,ok\n": "column 'age' holds 'old' in row 1, and should",
    }
    for content, said in of_new.items():
        Path("new.csv").write_text(content)
        assert said in refused("new.csv", "like=wards.json", "out=third.npz")
    assert "wards.csv: is no description" in refused("new.csv", "like=wards.csv", "out=third.npz")


def _of_the_table_itself(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A newcomer's CSV is made into rows as the run's was; names go with the exported model."""
    text = Path("wards.csv").read_text().splitlines()
    Path("w4.csv").write_text("\n".join([text[0], *(each for each in text if "w4;" in each)]))
    adapt(["checkpoint=run", "data=w4.csv", "steps=2", "out=own", "export=onnx,pt2"])
    assert "WARNING" not in capsys.readouterr().err
    with np.load("wards.npz") as found:
        x, y = (found[name][found["client"] == "w4"] for name in ("x", "y"))
        table = str(found["table"][0])
    personal = personalize(run, Rows(x, y), steps=2)
    assert load_file("own/personal.safetensors").keys() == personal.module.state_dict().keys()
    for name, tensor in load_file("own/personal.safetensors").items():
        torch.testing.assert_close(tensor, personal.module.state_dict()[name], rtol=0, atol=0)
    session = onnxruntime.InferenceSession("own/personal.onnx")
    of_onnx = session.get_modelmeta().custom_metadata_map
    of_pt2 = dict.fromkeys(of_onnx, "")
    torch.export.load("own/personal.pt2", extra_files=of_pt2)
    for said in (of_onnx, of_pt2):
        assert json.loads(said["features"]) == ["age", "age missing", "city=Köln", "city=Ulm"]
        assert json.loads(said["classes"]) == ["ill", "ok"]
        assert said["table"] == table
    (scores,) = session.run(None, {"x": x})
    np.testing.assert_allclose(scores, personal.predict(x).numpy(), atol=1e-5)

    other = json.loads(table) | {"client": "another"}
    np.savez("other.npz", x=x, y=y, table=np.array([json.dumps(other)]))
    with pytest.raises(InputError, match=r"data=other\.npz: was prepared in another way than the"):
        personalize(run, "other.npz")
    np.savez("other.npz", x=x[:, :3], y=y, table=np.array([table]))
    with pytest.raises(InputError, match=r"has shape \(3,\), and table names 4 features"):
        personalize(run, "other.npz")
    np.savez("other.npz", x=x, y=y, table=np.array(["{}"]))
    with pytest.raises(InputError, match=r"data=other\.npz: table: is no description of a table"):
        personalize(run, "other.npz")


GOOD = "c,x,t,y\n1,0.5,a,0\n1,1.5,a,1\n2,2.5,b,0\n2,3.5,b,1\n"
USUAL = ["t.csv", "client=c", "target=y"]
REFUSED: dict[str, tuple[str | bytes, list[str], str]] = {
    "no id": ("c,x,y\na,1,0\n,2,1\n", USUAL, "t.csv: column 'c' does not say whose row 1 is"),
    "no such column": (GOOD, ["t.csv", "client=c", "target=z"], "target=z: t.csv has no such col"),
    "twice": ("c,x,x,y\n1,2,3,0\n", USUAL, "t.csv: has two columns 'x'; rename one"),
    "no UTF-8": (b"c,x,y\n1,K\xf6ln,0\n", USUAL, "t.csv: is no text in UTF-8 (byte 9); save it"),
    "null characters": (b"c,x,y\n1,\x00,0\n", USUAL, "is no text (it holds null characters)"),
    "ragged": ("c,x,y\n1,2\n", USUAL, "t.csv: is no readable CSV (CSV parse error: Expected 3"),
    "one column": ("c\n1\n", USUAL, "t.csv: has one column; separate columns by a comma"),
    "no rows": ("c,x,y\n", USUAL, "t.csv: holds no rows"),
    "empty": ("", USUAL, "t.csv: has one column"),
    "infinite": ("c,x,y\n1,2,0\n2,-inf,1\n", USUAL, "column 'x' is -inf in row 1; drop the row"),
    "commas": ('c,x,y\n1,"2,5",0\n', USUAL, "has numbers with a comma, such as '2,5'; write them"),
    "too large": ("c,x,y\n1,1e300,0\n2,-1e300,1\n", USUAL, "too large to square; scale it down"),
    "no feature": ("c,x,y\n1,5,0\n1,5,1\n", USUAL, "no column is left to be a feature (x: is 5 in"),
    "for two purposes": (GOOD, ["t.csv", "client=c", "target=c"], "target=c: is client=c too"),
    "dropped too": (GOOD, [*USUAL, "drop=[t,y]"], "drop=y: is target=y too; name another"),
    "no split": ("c,x,h,y\n1,2,,0\n1,3,1,1\n", [*USUAL, "test=h"], "whether row 0 is for testing"),
    "a strange split": (GOOD, [*USUAL, "test=x"], "give [N] booleans"),
    "all for testing": ("c,x,h,y\n1,2,1,0\n1,3,1,1\n", [*USUAL, "test=h"], "is for training"),
    "a client's all for testing": (
        "c,x,h,y\na,2,1,0\na,3,1,1\nb,4,0,1\nb,5,0,0\n",
        [*USUAL, "test=h"],
        "client a has no train row (2 rows, all for testing); give it one",
    ),
    "no target": (GOOD, ["t.csv", "client=c"], "target: has no value; name its column"),
    "no table": (GOOD, ["client=c", "target=y"], "name a table, a CSV file"),
    "not there": (GOOD, ["u.csv", "client=c", "target=y"], "u.csv: cannot be read"),
    "no kind of table": (GOOD, ["u.xls", "client=c", "target=y"], "u.xls: is no .csv, .tsv or .pa"),
    "two tables": (GOOD, ["u.csv", *USUAL], "t.csv: name one table, beside key=value"),
    "an unknown key": (GOOD, [*USUAL, "tagret=y"], "tagret: no such key; did you mean target?"),
    "a task": (GOOD, [*USUAL, "task=regression"], "task=regression: must be classes | real"),
    "a key twice": (GOOD, [*USUAL, "client=x"], "client: comes twice; give it once"),
    "no .npz": (GOOD, [*USUAL, "out=t.csv"], "out=t.csv: must end in .npz"),
    "it is there": (
        GOOD,
        [*USUAL, "out=there.npz"],
        "there.json: is there already; say overwrite=true",
    ),
    "overwritten": (GOOD, [*USUAL, "overwrite=yes"], "overwrite=yes: must be true | false"),
    "both": (GOOD, ["t.csv", "like=there.json", "target=y"], "target=y: there.json says it alread"),
    "no description": (GOOD, ["t.csv", "like=none.json"], "none.json: cannot be read"),
}


@pytest.mark.parametrize(("content", "words", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_used_ends_in_one_line(
    refused: Prepare, content: str | bytes, words: list[str], said: str
) -> None:
    Path("t.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    Path("there.json").touch()
    assert said in refused(*words)


def test_both_files_are_replaced_or_neither(
    prepare: Prepare, refused: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the disk is full when the second is to take its place."""

    def features() -> tuple[list[str], int]:
        with np.load("t.npz") as found:
            return json.loads(Path("t.json").read_text())["features"], found["x"].shape[1]

    Path("t.csv").write_text(GOOD)
    prepare(*USUAL)
    assert "t.npz, t.json: are there already; say overwrite=true, or name" in refused(*USUAL)
    assert features() == (["x"], 1)
    Path("t.csv").write_text("c,x,z,y\n1,0.5,1,0\n1,1.5,3,1\n2,2.5,5,0\n2,3.5,9,1\n")
    whole = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if target.name == "t.npz":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return whole(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        assert "cannot be written (No space left" in refused(*USUAL, "overwrite=true")
    assert features() == (["x"], 1)
    prepare(*USUAL, "overwrite=true")
    assert features() == (["x", "z"], 2)
    Path("t.npz").unlink()
    Path("t.npz").mkdir()
    assert "t.npz: is no file, and is not replaced" in refused(*USUAL, "overwrite=true")


def test_a_split_of_ones_own_and_a_real_target(
    prepare: Prepare, capsys: pytest.CaptureFixture[str]
) -> None:
    """The scale is of train rows, and told where errors are in it.

    A column without a name, as pandas writes its index, is left.
    """
    lines = [
        f"{i},c{i % 8},{i}.5,{'test' if i // 8 % 4 == 3 else 'train'},{i * i + 0.25}"
        for i in range(80)
    ]
    Path("t.csv").write_text("\n".join([",c,x,split,y", *lines]))
    output = prepare("t.csv", "client=c", "target=y", "test=split", "drop=[]")
    assert "! 1 column without a name is left out" in output
    assert "of all rows" not in output
    assert "16 rows for testing" in output
    train = np.array([i * i + 0.25 for i in range(80) if i // 8 % 4 != 3])
    assert f"(y − {train.mean():.4g}) / {train.std():.4g}" in output
    with np.load("t.npz") as found:
        assert found["test"].tolist() == [i // 8 % 4 == 3 for i in range(80)]
        assert found["x"].shape == (80, 1)
        np.testing.assert_allclose(found["y"][~found["test"]].std(), 1, rtol=1e-6)
    assert "dataset.one_class" not in output
    words = ["dataset=npz", "dataset.path=t.npz", "model=linear", "rounds=1", "tracking=none"]
    words += ["baselines=none", "algorithm.alpha=0.01", "algorithm.beta=0.01"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["nufed", *words, "hydra.run.dir=run"])
        patch.setenv("HYDRA_FULL_ERROR", "0")
        run._prepare.cache_clear()
        done = run_here()
    assert done.status == 0, done.err
    mean, scale = train.mean(), train.std()
    unit = f"y is y as (y − {mean:.4g}) / {scale:.4g}: an error of 0.1 is {0.1 * scale:.3g} of it"
    assert unit in done.err.splitlines()
    capsys.readouterr()
    for client in ("client=c1", "clients=all"):
        adapt(["checkpoint=run", "data=t.npz", client, "steps=1"])
        assert unit in capsys.readouterr().out.splitlines()
