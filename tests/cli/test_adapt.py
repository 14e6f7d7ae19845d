"""`nufed-adapt`: what it prints, what it writes (all or nothing), and one line for a mistake."""

import os
import re
import shlex
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from nufed.cli.adapt import FILE, Request, main, request, targets
from nufed.cli.adapt_text import class_names, sentence
from nufed.client_app import personalize
from nufed.conf.text import printable
from nufed.tasks.datasets.digits import read as read_digits
from nufed.tasks.table_transform import FORMAT, Counts, Description, Number, Target
from tests.client_app.conftest import Small
from tests.client_app.conftest import small as small
from tests.client_app.test_export import Branching
from tests.docs.pages import sections
from tests.helpers import RunResult

Run = Callable[..., Small]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def refusal(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line that a command ends in."""
    capsys.readouterr()
    os.environ.pop("HYDRA_FULL_ERROR", None)  # a command sets it for its process
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("nufed-adapt: ")
    assert err.count("\n") == 1
    return err


def test_it_prints_the_curve_and_writes_the_model(
    small: Run, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = small("name=ours")
    capsys.readouterr()
    main([f"checkpoint={run.folder}", f"data={run.file}", "client=30", "steps=3"])
    out = capsys.readouterr().out
    personal = personalize(run.folder, run.file, client=30, steps=3)
    table = [line.strip("│ ").split(" │ ") for line in out.splitlines() if line.startswith("│")]
    points = zip(range(4), *personal.curve.values(), strict=True)
    assert [list(map(float, row)) for row in table] == [
        [pytest.approx(value, abs=6e-4) for value in point] for point in points
    ]
    assert "9 rows to fine-tune on, 3 held out" in out
    assert f"ours/{run.folder.name}: 3 steps, α=0.1, 20 rows each" in out
    assert f"personal model: {here / FILE}\n" in out
    saved = load_file(here / FILE)
    assert saved.keys() == personal.params.keys()
    assert all(torch.equal(saved[name], p) for name, p in personal.params.items())
    assert [file.name for file in here.iterdir()] == [FILE]


def test_exports_go_beside_it_and_nothing_is_overwritten(
    small: Run, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = small()
    words = [f"checkpoint={run.folder / 'model.safetensors'}", f"data={run.file}", "client=10"]
    main([*words, "out=clients/mine.safetensors", "export=pt2"])
    written = sorted((here / "clients").iterdir())
    assert [file.name for file in written] == ["mine.pt2", "mine.safetensors"]
    before = [file.read_bytes() for file in written]
    assert f"exported: {written[0]}; its outputs differ by 0 at most" in capsys.readouterr().out
    line = refusal([*words, "out=clients/mine.safetensors"], capsys)
    assert f"{written[1]}: is there already" in line
    written[1].unlink()
    line = refusal([*words, "out=clients/mine.safetensors", "export=pt2"], capsys)
    assert f"{written[0]}: is there already" in line
    assert written[0].read_bytes() == before[0]


def test_without_an_export_that_was_asked_for_nothing_is_written(
    small: Run, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = small("model=custom", f"model._target_={Branching.__module__}.Branching")
    words = [f"checkpoint={run.folder}", f"data={run.file}", "client=10", "export=pt2"]
    everyone = [words[0], "clients=all", "steps=1", "export=pt2"]
    for typed in (words, everyone):
        assert "export=pt2: the model cannot be exported" in refusal(typed, capsys)
        assert list(here.iterdir()) == []


def test_nothing_held_out_is_said(small: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run = small()
    capsys.readouterr()
    words = [f"checkpoint={run.folder}", f"data={run.file}", "client=10", "test_fraction=0"]
    main([*words, "out=chosen"])
    assert "It is told by the rows held out in turn alone" in capsys.readouterr().out
    main([*words, "steps=2"])
    out = capsys.readouterr().out
    assert "12 rows to fine-tune on, none held out, so nothing is measured" in out
    assert "It is not known how good this model is" in out
    assert "│" not in out


def described_classes(*classes: str) -> str:
    """Return how a table of one column of numbers was made into rows, with such classes."""
    target, column = Target("use", "text", classes), Number("age", 0.0, 0.0, 1.0, False)
    counts = Counts(60, 45, 5, 0)
    of = (FORMAT, "client", target, None, (column,), (), (), (), ("age",), counts)
    return Description(*of).text()


def test_a_worse_model_and_a_single_class_are_said(
    small: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run = small()
    given = dict(np.load(run.file))
    np.savez(run.file, **given | {"y": np.repeat([0, 1, 2, 1, 0], 12)})
    common = [f"checkpoint={run.folder}", f"data={run.file}"]
    main([*common, "client=30", "alpha=3", "steps=45"])
    assert "All rows are of class 2: a constant would be as accurate." in capsys.readouterr().out
    one = personalize(run.folder, run.file, client=30, steps=0)
    assert one.curve["accuracy"][0] < 1
    assert sentence(one).endswith("All rows are of class 2: to say it always would be right.")
    table = described_classes("N", "a \x1b[2Jclass", "Y")
    named = replace(one, task=replace(one.task, data=replace(one.task.data, table=table)))
    assert " All rows are of class Y: to say" in sentence(named)
    assert class_names(table)[1] == printable("a \x1b[2Jclass")
    assert class_names(None) == {}
    np.savez(run.file, **given)
    main([*common, "client=30", "alpha=10", "steps=45", "out=worse"])
    out = capsys.readouterr().out
    assert "Its loss is above the trained model's" in out
    assert len([line for line in out.splitlines() if line.startswith("│")]) == 16, "every third"
    assert "│ 45 │" in out


def test_words_are_read_with_their_types() -> None:
    words = "checkpoint=5 data=a=b.npz steps=2 alpha=1e-2 batch=null test_fraction=null client=7"
    assert request(words.split()) == {
        **{"checkpoint": "5", "data": "a=b.npz", "steps": 2, "alpha": 0.01, "batch": None},
        **{"client": "7", "clients": None, "test_fraction": None, "device": "cpu"},
        **{"out": None, "export": ""},
    }
    assert "batch" not in request(["checkpoint=a", "data=b"]), "as in the run"


def test_out_is_a_file_or_a_folder(here: Path) -> None:
    (here / "odd.safetensors").mkdir()
    for out, file in {
        FILE: FILE,
        "own": f"own/{FILE}",
        "own/7.safetensors": "own/7.safetensors",
        "odd.safetensors": f"odd.safetensors/{FILE}",
        str(here): FILE,
    }.items():
        exports = [(here / file).with_suffix(suffix) for suffix in (".pt2", ".onnx")]
        assert targets(out, ["pt2", "onnx", "pt2"]) == [here / file, *exports]


MISTAKES = {
    "nothing": ([], "checkpoint: has no value; give one as checkpoint=…"),
    "no data": (["checkpoint=x"], "checkpoint=x: is not there; name the folder of a run"),
    "some clients": (
        ["checkpoint=x", "clients=7"],
        "clients=7: must be all | participating | new;",
    ),
    "both": (["checkpoint=x", "clients=all", "client=7"], "clients=all: and client=7 besides; le"),
    "word": (["runs/x"], "runs/x: write key=value, as in checkpoint=runs/… data=mine.npz"),
    "key": (["chekpoint=x"], "chekpoint: no such key; did you mean checkpoint?"),
    "type": (["checkpoint=x", "steps=many"], "steps=many: must be an integer, or auto"),
    "number": (["alpha=big"], "alpha=big: must be a number"),
    "null": (["checkpoint=null"], "checkpoint: has no value"),
    "run": (["checkpoint=no", "data=x.npz"], "checkpoint=no: is not there; name the folder"),
    "format": (["checkpoint=x", "data=x", "export=tflite"], "export=tflite: must be onnx | pt2"),
    "out": (["checkpoint=x", "data=x", "out=a.onnx"], "write a.safetensors, and export=onnx goes"),
}


@pytest.mark.parametrize(("words", "line"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_ends_in_one_line(
    words: list[str], line: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert line in refusal(words, capsys)
    assert list(here.iterdir()) == []


def test_mistakes_in_the_data_or_the_place_end_in_one_line(
    small: Run, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = small()
    words = [f"checkpoint={run.folder}", f"data={run.file}"]
    assert f"data={run.file}: holds the rows of 5 clients; name one" in refusal(words, capsys)
    assert "data=no.npz: no such file" in refusal([words[0], "data=no.npz"], capsys)
    (here / "file").touch()
    line = refusal([*words, "client=10", "out=file"], capsys)
    assert f"{here / 'file'}: cannot be written (File exists); name another folder" in line


def test_of_two_mistakes_that_in_what_is_read_is_told(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else one would delete a good model, and then learn that a path was mistyped."""
    (here / "personal.safetensors").write_text("mine")
    assert "checkpoint=runs/frist: is not there" in refusal(
        ["checkpoint=runs/frist", "data=own.npz"], capsys
    )
    assert (here / "personal.safetensors").read_text() == "mine"


def test_help_has_examples_that_can_be_typed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    examples = capsys.readouterr().out.partition("examples:")[2].splitlines()
    typed = [shlex.split(line)[1:] for line in examples if "nufed-adapt" in line]
    assert len(typed) == 4
    assert all(request(words)["data"] == "mine.npz" for words in typed)


def test_the_page_on_personal_models_works_as_written(
    train: Callable[..., RunResult], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its blocks, one after another, with an untrained model of digits and one client's file."""
    text = (Path(__file__).parents[2] / "docs/personal-models.md").read_text()
    digits, random = read_digits(), np.random.default_rng(0)
    rows = random.permutation(len(digits.y))[:40]
    np.savez(here / "own.npz", x=digits.x[rows], y=digits.y[rows])
    np.savez(here / "others.npz", x=digits.x, y=digits.y, client=np.arange(len(digits.y)) // 60)
    others = ["dataset=npz", "dataset.path=others.npz", "evaluation.new_clients=0.2", "rounds=0"]
    steps = ["algorithm.alpha=0.03", "algorithm.beta=0.1", "algorithm.nu=1", "evaluation.steps=1"]
    train([*others, *steps]).folder.rename(here / "run")
    (one,) = re.findall(r"^nufed-adapt (.*)$", text.partition("\n## ")[0], re.MULTILINE)
    section = sections("personal-models.md")["All clients at once"]
    everyone, of_run = re.findall(r"^nufed-adapt (.*)$", section, re.MULTILINE)
    main(shlex.split(one))
    assert capsys.readouterr().out.count("exported: ") == 2
    for command, clients in ((everyone, 30), (of_run, 6)):
        main(shlex.split(command))
        assert f"({clients} clients; figures in clients.csv)" in capsys.readouterr().out
    names: dict[str, Any] = {}
    outputs = []
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, "personal-models.md", "exec"), names)
        outputs += [np.asarray(names["scores"].tolist())] if "scores" in names else []
    assert len(names["personal"].curve["accuracy"]) == 4
    assert names["everything"].curve == {}
    accuracy = (names["classes"].numpy() == digits.y[rows])[names["personal"].test_rows].mean()
    assert accuracy == pytest.approx(names["personal"].curve["accuracy"][-1])
    assert (here / "three.safetensors").is_file()
    with torch.no_grad():
        wanted = names["net"](torch.from_numpy(digits.x[rows])).numpy()
    assert len(outputs) == 2
    for scores in outputs:
        np.testing.assert_allclose(scores, wanted, atol=1e-5)
    keys = text.partition("| key | by default |")[2].partition("\n\n")[0]
    known = set(
        re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in keys.split("\n")[2:]))
    )
    assert known == {field.name for field in fields(Request)} - {"checkpoint", "data"}
