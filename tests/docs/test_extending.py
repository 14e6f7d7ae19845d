"""docs/extending.md: what it adds works as written, all of it beside each other."""

import csv
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nufed.conf.convert import read_config
from nufed.server_app.parts import parts
from nufed.strategies.roster import Roster
from nufed.tasks.partitions import Partition
from tests.docs.pages import ROOT, run, sections, shown
from tests.helpers import RunResult, distance, read_run

pytestmark = pytest.mark.docs

TEXT = sections("extending.md")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which all that the page shows was done."""
    here = tmp_path_factory.mktemp("reader")
    adds = ("A rule", "A sampler", "A schedule", "An algorithm", "A tracker", "A callback")
    for section in adds:
        run(TEXT[section], here)
    run(TEXT["Try them"].replace("rounds=20", "rounds=2"), here)
    return here


def of_all(folder: Path) -> RunResult:
    """Return the run of all that the page adds but the two methods."""
    (summary,) = folder.glob("runs/digits-fomaml/*/summary.json")
    return read_run(summary.parent)


@pytest.mark.parametrize("name", ["fedprox", "ditto"])
def test_the_methods_are_those_that_come_with_nufed(folder: Path, name: str) -> None:
    """Their models, and what is measured of clients, but for rounding: stacks may differ."""
    (summary,) = folder.glob(f"runs/digits-sweep/*/*_my_{name}_*/summary.json")
    mine = read_run(summary.parent)
    line = f"nufed algorithm={name} rounds=2 hydra.run.dir=ours/{name}"
    run(f"```sh\n{line}\n```", folder)
    ours = read_run(folder / "ours" / name)
    assert distance(mine.model, ours.model) < 1e-5
    for group in ("participating", "new"):
        curves = [each.rows[-1][group]["loss"] for each in (mine, ours)]
        assert curves[0] == pytest.approx(curves[1], rel=1e-4)


def test_the_run_is_of_all_of_them(folder: Path) -> None:
    done = of_all(folder)
    config = read_config((done.folder / "config.yaml").read_text())
    a = config.algorithm
    assert (a["name"], a["nu"]) == ("fomaml", 3)
    assert (a["mode"], a["batch"]["query"]) == ("first_order", None)
    assert a["tau"] == 5, "of nufed.yaml, which it builds on"
    assert config.rule == {"_target_": "rules.WithoutLongest"}
    assert config.sampler == {"_target_": "samplers.InTurn", "stride": 10}
    assert config.schedule["beta"]["_target_"] == "schedules.root"
    with (done.folder / "accuracy.csv").open() as file:
        lines = [(int(k), float(accuracy)) for k, accuracy in csv.reader(file)]
    evaluated = [row for row in done.rows if "new" in row]
    assert lines == [(row["round"], row["new"]["accuracy"][-1]) for row in evaluated]
    assert len(lines) == 2


def test_the_callback_has_its_section_and_tensorboard_its_curves(folder: Path) -> None:
    done = of_all(folder)
    page = (done.folder / "report.html").read_text()
    losses = [row["train_loss"] for row in done.rows[1:]]
    halved = [i for i, loss in enumerate(losses, 1) if loss < losses[0] / 2]
    assert "When the loss was halved" in page
    assert re.search(rf"half of the first loss</th>\s*<td[^>]*>{[*halved, 'never'][0]}</td>", page)
    assert (done.folder / "tensorboard").is_dir()


def test_the_longest_update_is_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A weighted mean of the others, in closed form."""
    monkeypatch.syspath_prepend(str(folder))
    from rules import Shorter

    rule = Shorter()
    for size, weight in ((1.0, 1.0), (100.0, 5.0), (4.0, 2.0)):
        rule.add({"w": torch.tensor([size, 0.0])}, weight)
    mean = rule.value(torch.float64)["w"]
    assert mean.tolist() == [(1 * 1 + 2 * 4) / 3, 0.0]


def test_clients_come_in_turn_and_beta_falls(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    found = parts(read_config((of_all(folder).folder / "config.yaml").read_text()))
    roster = Roster(0, 0.0, Partition.elsewhere(25))
    roster.participating = list(range(25))
    assert found["sampler"].sample(roster, 3, 6) == [0, 20, 21, 22, 23, 24]
    assert found["schedule"]["beta"](4) == 0.5


def test_a_mistyped_option_is_answered_with_the_readers_own(folder: Path) -> None:
    line = "nufed --config-dir mine rule=without_longst"
    name, *words = shlex.split(line)
    done = subprocess.run(
        [str(Path(sys.executable).parent / name), *words],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.endswith("no such option; did you mean without_longest?\n")


def test_what_it_says_to_copy_is_there() -> None:
    assert shown(TEXT["A rule"]) == []
    for name in ("krum", "robust"):
        assert (ROOT / "strategies" / "rules" / f"{name}.py").is_file()
