"""A run from Python is the run of the command: the same bits, whatever was given as an object."""

import json
import logging
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import nufed
from nufed import Run
from nufed.conf import objects
from nufed.conf.compose import compose_config
from nufed.tasks.task import build
from tests import forked
from tests.api.conftest import SMALL, Arrays
from tests.helpers import Row, distance, read_run

TIMES = "train_s", "train_cpu_s"


def rows_of(folder: Path) -> list[Row]:
    """Return what a run measured, but for its seconds."""
    return [{k: v for k, v in row.items() if k not in TIMES} for row in read_run(folder).rows]


def assert_the_same(a: Path, b: Path) -> None:
    """To the last bit."""
    assert rows_of(a) == rows_of(b)
    mine, theirs = read_run(a).model, read_run(b).model
    assert mine.keys() == theirs.keys()
    assert all(mine[name].equal(theirs[name]) for name in mine)


@pytest.fixture(scope="module")
def typed(here: Path) -> Path:
    """The run of the command: rows and module by their files."""
    words = f"{SMALL} dataset=npz dataset.path=rows.npz model=custom model._target_=nets.Net"
    done = forked.run(["nufed", *words.split(), "hydra.run.dir=typed"], here)
    assert done.status == 0, done.err
    return here / "typed"


@pytest.fixture(scope="module")
def run(here: Path, arrays: Arrays, nets: ModuleType) -> Run:
    """The same from Python: the class and the arrays themselves."""
    return nufed.train(SMALL, model=nets.Net, data=arrays, folder=here / "run", progress=False)


def test_a_class_and_arrays_give_the_bits_of_the_command(run: Run, typed: Path) -> None:
    assert_the_same(run.folder, typed)


def test_what_can_be_imported_is_recorded_by_its_name(run: Run, here: Path) -> None:
    assert run.config.model == {"_target_": "nets.Net"}
    words = "checkpoint=run data=own.npz steps=2 out=adapted"
    done = forked.run(["nufed-adapt", *words.split()], here)
    assert done.status == 0, done.err
    mine = run.personalize(here / "own.npz", steps=2).params
    theirs = load_file(here / "adapted/personal.safetensors")
    assert all(mine[name].equal(theirs[name]) for name in ("head.weight", "head.bias"))


def test_the_file_of_the_arrays_is_one_for_all_runs(run: Run, arrays: Arrays) -> None:
    file = Path(run.config.dataset["path"])
    with np.load(file, allow_pickle=False) as kept:
        assert all(np.array_equal(kept[name], each) for name, each in arrays._asdict().items())
    from nufed.api.data import data_words

    before = file.stat()
    as_torch = {"x": torch.from_numpy(arrays.x), "y": arrays.y, "client": [*arrays.client]}
    assert data_words(as_torch) == ["dataset=npz", f"dataset.path={file}"]
    assert file.stat() == before
    assert [each.name for each in file.parent.iterdir()] == [file.name], "no draft is left"


def test_a_class_of_a_notebook(
    run: Run, here: Path, nets: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of `__main__`: the same run, which another process cannot make sense of, and says so."""

    class Own(nets.Net):
        pass

    Own.__module__, Own.__qualname__ = "__main__", "Own"
    monkeypatch.setattr(sys.modules["__main__"], "Own", Own, raising=False)
    own = nufed.train(SMALL, model=Own, data=here / "rows.npz", folder=here / "own", progress=False)
    assert_the_same(own.folder, run.folder)
    assert own.config.model == {"_target_": "__main__.Own"}
    assert isinstance(own.model, Own)
    line = (
        "__main__.Own: was given as an object in another Python session; define it in a module "
        "(mine.py) and train with that one, or give it again: nufed.load(folder, model=…)"
    )
    done = forked.run(["nufed-adapt", "checkpoint=own", "data=own.npz"], here)
    assert (done.status, done.err) == (2, f"nufed-adapt: {line}\n")
    monkeypatch.delattr(sys.modules["__main__"], "Own")
    with pytest.raises(nufed.InputError) as e:
        own.model  # noqa: B018
    assert str(e.value) == line
    page = (own.folder / "report.html").read_text()
    assert "model was given as an object in a Python session" in page
    assert "__main__.Own" not in page.split("The same again")[1]


@pytest.fixture(scope="module")
def net(nets: ModuleType, here: Path) -> nn.Module:
    """Return a module that holds what the seed draws for its class."""
    words = f"{SMALL} dataset=npz model=custom model._target_=nets.Net".split()
    drawn = build(compose_config([*words, f"dataset.path={here}/rows.npz"])).module
    made: nn.Module = nets.Net((4,), 2)
    made.load_state_dict(drawn.state_dict())
    return made


@pytest.fixture(scope="module")
def given(net: nn.Module, here: Path) -> Run:
    """The run of a module itself."""
    return nufed.train(
        SMALL, model=net, data=f"{here}/rows.npz", folder=here / "given", progress=False
    )


def test_a_module_trains_from_what_it_holds_and_stays_as_it_is(
    given: Run, run: Run, net: nn.Module
) -> None:
    assert_the_same(given.folder, run.folder)
    after = given.model
    assert not after.training
    assert net.training
    for name in ("below.weight", "below.bias", "scale"):
        assert net.state_dict()[name].equal(after.state_dict()[name])
    assert (net.head.weight - after.head.weight).abs().max() > 0.01


def test_the_same_module_of_two_seeds_is_one_group(given: Run, net: nn.Module, here: Path) -> None:
    other = nufed.train(
        SMALL, model=net, data=f"{here}/rows.npz", folder=here / "seed1", progress=False, seed=1
    )
    assert other.config.model == given.config.model
    found = nufed.compare([given, other.folder])
    assert list(found.table["seeds"]) == [2, 2]
    ends = [read_run(each.folder).summary["new"]["accuracy"][-1] for each in (given, other)]
    (new,) = found.table[found.table["group"] == "new"]["accuracy"]
    assert new == pytest.approx(np.mean(ends))
    assert "over_first" not in found.table
    assert "accuracy" in repr(found)
    assert "<iframe srcdoc=" in found.report._repr_html_()


def test_a_module_that_was_changed_is_another(net: nn.Module) -> None:
    from nufed.api.model import model_words

    before = model_words(net)
    assert model_words(net) == before
    with torch.no_grad():
        net.head.bias += 1
    changed = model_words(net)
    assert changed != before
    net.head.weight.requires_grad_(False)
    assert model_words(net) not in (before, changed)
    with torch.no_grad():
        net.head.bias -= 1
    net.head.weight.requires_grad_(True)


def test_another_session_takes_the_module_again(
    given: Run, net: nn.Module, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing of it is there but the folder; the run can be loaded, and goes on."""
    before = given.model.state_dict()
    assert given.summary["rounds"] == 2
    monkeypatch.setattr(objects, "_kept", {})
    with pytest.raises(nufed.InputError, match=r"^Net: was given as an object in another Python"):
        nufed.load(given.folder).model  # noqa: B018
    with pytest.raises(nufed.InputError, match=r"^Net: was given as an object in another Python"):
        nufed.train(resume=given, rounds=3, progress=False)
    after = nufed.load(given, model=net).model.state_dict()
    assert all(after[name].equal(before[name]) for name in before)
    monkeypatch.setattr(objects, "_kept", {})
    more = nufed.train("rounds=3", resume=given, model=net, progress=False)
    assert capsys.readouterr() == ("", "")
    assert more.folder == given.folder
    assert [row["round"] for row in read_run(given.folder).rows] == [0, 1, 2, 3]
    assert given.summary == more.summary


def test_arguments_of_a_model_are_keys_where_text_can_say_them(nets: ModuleType) -> None:
    from nufed.api.model import model_words

    named = ["model=custom", "model._target_=nets.Net", "+model.width=3"]
    assert model_words(partial(nets.Net, width=3)) == named
    assert model_words({"_target_": "nets.Net", "width": 3}) == named
    assert model_words({"_target_": nets.Net, "width": 3}) == named
    assert model_words({"hidden": [3]}) == ["model.hidden=[3]"]
    assert model_words("cnn") == ["model=cnn"]
    (_, odd) = model_words(partial(nets.Net, width=object()))
    assert odd.startswith("model._target_=nufed.conf.objects.partial_")


def test_what_is_seen_of_a_run_is_what_it_left(run: Run, arrays: Arrays) -> None:
    left = read_run(run.folder)
    assert run.summary == left.summary
    curves = run.curves
    assert list(curves.columns[:3]) == ["round", "group", "k"]
    for row in (left.rows[0], left.rows[-1]):
        of = curves[(curves["round"] == row["round"]) & (curves["group"] == "new")]
        assert list(of["accuracy_std"]) == row["new"]["accuracy_std"]
        assert list(of["k"]) == [0, 1, 2]
    assert list(run.rounds["train_loss"]) == [row["train_loss"] for row in left.rows[1:]]
    each = run.clients
    ends = each[(each["group"] == "participating") & (each["k"] == 2)]["accuracy"]
    assert ends.mean() == pytest.approx(left.summary["participating"]["accuracy"][-1], abs=1e-6)
    state = run.model.state_dict()
    assert state.keys() == left.model.keys()
    assert all(state[name].equal(left.model[name]) for name in state)
    assert run.report.html == (run.folder / "report.html").read_text()
    assert repr(run).startswith(f"Run('{run.folder}'): After 2 fine-tuning steps, 2 new clients")


def test_without_pandas_tables_are_dictionaries(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run.curves
    monkeypatch.setattr("nufed.api.tables.find_spec", lambda name: None)
    columns = run.curves
    assert list(columns) == list(whole.columns)
    assert all(np.array_equal(columns[name], whole[name]) for name in columns)


def test_rows_are_personalized_as_their_file(run: Run, here: Path, arrays: Arrays) -> None:
    mine, theirs = (
        run.personalize(list(arrays.x[:16]), torch.from_numpy(arrays.y[:16]), steps=3),
        nufed.personalize(run.folder, here / "own.npz", steps=3),
    )
    assert mine.curve == theirs.curve
    assert mine.predict(arrays.x).equal(theirs.predict(arrays.x))
    held = np.arange(16) % 2 == 0
    told = run.personalize(arrays.x[:16], arrays.y[:16], test=held, steps=1)
    assert sorted(told.test_rows) == [*np.flatnonzero(held)]
    with pytest.raises(nufed.InputError, match=r"rows x and y, or the file"):
        run.personalize(arrays.x)
    with pytest.raises(nufed.InputError, match=r"^data: x has NaN"):
        run.personalize(arrays.x[:16] * np.nan, arrays.y[:16])


def test_all_clients_get_the_models_of_the_command(run: Run, here: Path) -> None:
    found = run.personalize_all(here / "everyone", steps=2)
    words = "checkpoint=run clients=all steps=2 out=of_command"
    done = forked.run(["nufed-adapt", *words.split()], here)
    assert done.status == 0, done.err
    mine, theirs = (sorted((here / f).iterdir()) for f in ("everyone", "of_command"))
    assert [file.name for file in mine] == [file.name for file in theirs]
    for a, b in zip(mine, theirs, strict=True):
        if a.suffix == ".csv":
            assert a.read_bytes() == b.read_bytes()
        else:
            assert distance(load_file(a), load_file(b)) == 0, a.name
    written = pd.read_csv(here / "everyone/clients.csv")
    assert [*found["client"]] == [*written["client"]]
    gained = (written["accuracy_k"] - written["accuracy_0"]).to_numpy()
    np.testing.assert_allclose(found["gain"].to_numpy(float), gained, atol=1e-12)
    assert {*found["group"]} == {"participating", "new"}
    some = run.personalize_all(here / "few", here / "own.npz", steps=0)
    assert len(some) == 1
    assert some["gain"][0] == 0
    with pytest.raises(nufed.InputError, match="is there already"):
        run.personalize_all(here / "few")
    assert not [*here.glob(".nufed-*")]


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"rounds": -1}, "rounds=-1: "),
    ({"algorithm": {"nuu": 2}}, "algorithm.nuu: no such key; did you mean algorithm.nu?"),
    ({"dataset": "fashion"}, "dataset=fashion: no such option; did you mean fashion_mnist?"),
    ({"model": 3}, "model=3: is a int; give a torch.nn.Module"),
    ({"data": ([[1.0]], [0])}, "data: has no client"),
    ({"data": ([[1.0]], [0, 1], [0])}, "data: y has shape (2,), x (1, 1)"),
    ({"data": {"x": [[1.0]], "y": [0], "clients": [0]}}, "data: has x, y, clients; give"),
    ({"data": ([[1.0]], [0], [object()])}, "data: client is an array of Python objects (object)"),
    ({"data": "rows.txt"}, "data=rows.txt: is no .npz"),
    ({"data": "rows.npz", "dataset": "digits"}, "dataset=digits: is said beside data=…"),
    ({"resume": "a", "folder": "b"}, "folder=b: a run that is resumed goes on in its own folder"),
    ({"engine": "ray", "model": lambda: nn.Linear(4, 2)}, "engine=ray: computes in other proc"),
    ({"engine": {"workers": 2}, "model": nn.Linear(4, 2)}, "engine.workers=2: computes in other"),
]


@pytest.mark.parametrize(("given", "line"), MISTAKES, ids=lambda m: str(m)[:40])
def test_a_mistake_is_an_error_of_one_line_and_leaves_no_trace(
    given: dict[str, Any], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(nufed.InputError) as e:
        nufed.train(progress=False, tracking="none", **given)
    assert str(e.value).startswith(line)
    assert "\n" not in str(e.value)
    assert e.value._render_traceback_() == [f"InputError: {e.value}"]
    assert list(tmp_path.iterdir()) == []


def test_a_module_that_is_not_for_the_rows(here: Path) -> None:
    with pytest.raises(nufed.InputError, match=r"Linear_\w+: does not take rows of shape \[4\]"):
        nufed.train(
            model=nn.Linear(7, 2), data=here / "rows.npz", folder=here / "no", progress=False
        )
    assert not (here / "no").exists()


def test_the_line_is_the_commands(tmp_path: Path) -> None:
    done = forked.run(["nufed", "algorithm.nuu=2"], tmp_path)
    with pytest.raises(nufed.InputError) as e:
        nufed.train("algorithm.nuu=2", folder=tmp_path / "run")
    assert done.err == f"nufed: {e.value}\n"
    assert list(tmp_path.iterdir()) == []


def test_what_is_shown_is_the_commands_and_the_process_stays_as_it_was(
    here: Path, nets: ModuleType, typed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, threads = logging.getLogger("nufed"), torch.get_num_threads()
    before = log.level, [*log.handlers]
    words = f"{SMALL} rounds=1", {"model.hidden": [3]}
    told = nufed.train(*words, data=here / "rows.npz", folder=here / "told")
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "npz: 10 participating and 2 new clients; 23 parameters; 1 rounds"
    assert said[-1] == f"run folder: {told.folder}"
    assert any(line.startswith("round 1/1  loss ") for line in said)
    assert (log.level, log.handlers) == before
    assert torch.get_num_threads() == threads


def test_importing_it_takes_no_torch() -> None:
    script = (
        "import sys, nufed\n"
        "from nufed import InputError, train\n"
        "print({'torch', 'flwr', 'matplotlib'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


def test_all_that_it_says_it_has_is_there() -> None:
    assert {*nufed.__all__} <= {*dir(nufed)}
    for name in nufed.__all__:
        found = getattr(nufed, name)
        assert found is getattr(sys.modules[found.__module__], name)
    with pytest.raises(AttributeError, match=r"module 'nufed' has no attribute 'trian'"):
        nufed.trian  # noqa: B018


def test_a_folder_that_is_none_of_a_run(tmp_path: Path) -> None:
    with pytest.raises(nufed.InputError, match=r"is not there; name the folder of a run"):
        nufed.load(tmp_path / "absent")
    with pytest.raises(nufed.InputError, match=r"it has no config.yaml"):
        nufed.load(tmp_path)
    with pytest.raises(nufed.InputError, match=r"no run was given"):
        nufed.compare([])


def test_a_folder_that_somebody_wrote_to(run: Run, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    shutil.copytree(run.folder, theirs)
    rows = [json.loads(line) for line in (theirs / "metrics.jsonl").read_text().splitlines()]
    rows[-1]["new"]["k"] = rows[-1]["new"]["k"][:1]
    (theirs / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    with pytest.raises(nufed.InputError, match=r"cannot be read|is not as a run writes it"):
        nufed.load(theirs).curves  # noqa: B018


def test_a_run_that_names_its_model_is_not_given_another(run: Run) -> None:
    with pytest.raises(nufed.InputError, match=r"^model: the run names its own, nets.Net"):
        nufed.load(run, model=nn.Linear(4, 2))


def test_what_a_run_is_made_of_is_text(given: Run) -> None:
    """No object is in the folder: the name alone, which only that process knew."""
    for file in given.folder.iterdir():
        if file.suffix in (".yaml", ".json", ".jsonl"):
            assert b"Linear" not in file.read_bytes()
    assert json.loads((given.folder / "summary.json").read_text())["trained_parameters"] == 14
