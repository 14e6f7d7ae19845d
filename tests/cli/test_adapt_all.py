"""`nufed-adapt clients=all`: each client's model as one gets it alone, and a table; or nothing."""

import csv
import json
import re
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import load_file

from nufed.cli.adapt import main
from nufed.cli.adapt_all import TABLE, Outcome, Served
from nufed.cli.adapt_all_text import sentence, table
from nufed.cli.client_files import file_names
from nufed.client_app import personalize
from nufed.conf.compose import of_run
from nufed.server_app.report.statistics import interval
from nufed.server_app.terminal import Terminal
from nufed.strategies.roster import choose_new_clients
from nufed.tasks.ids import ClientIds
from tests.cli.test_adapt import refusal
from tests.client_app.conftest import Small
from tests.client_app.conftest import small as small
from tests.helpers import distance

Run = Callable[..., Small]
IDS = ["a/b", "..", "Zoë", "amy", "Amy", "=1+1", "\x1b[2J", "x" * 300]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def rows_of(folder: Path) -> dict[str, dict[str, str]]:
    """Return the table, by the clients' ids."""
    with (folder / TABLE).open(encoding="utf-8", newline="") as file:
        return {row["client"]: row for row in csv.DictReader(file)}


def test_each_has_the_model_that_it_gets_alone(
    small: Run, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever its id; who has one row stays at k=0, who cannot be served is named with why.

    What is refused or exists stays.
    """
    run = small("name=ours", "algorithm.nu=2", "evaluation.steps=2")
    given = np.load(run.file)
    owner = np.array([*np.repeat(np.array(IDS), 7), *["alone"], *["two"] * 3])
    own = here / "own.npz"
    owner[:7] = "lost"
    x = np.where((owner == "lost")[:, None, None], 3e38, given["x"])
    np.savez(own, x=x, y=given["y"], client=owner)
    words = [f"checkpoint={run.folder}", "data=own.npz", "clients=all"]
    capsys.readouterr()
    main([*words, "out=made/all"])
    out = capsys.readouterr().out
    found = rows_of(here / "made/all")
    assert found.keys() == {"lost", *IDS[1:], "alone", "two"}
    files = {row["file"] for row in found.values()} - {""}
    assert len(files) == 9
    assert {file.name for file in (here / "made/all").iterdir()} == {*files, TABLE}
    assert [file.name for file in (here / "made").iterdir()] == ["all"], "no draft is left"
    for each in (*IDS[1:4], "two"):
        alone = personalize(run.folder, own, client=each)
        row = found[each]
        model = here / "made/all" / row["file"]
        assert distance(load_file(model), alone.params) == 0
        with safe_open(model, "pt") as file:
            facts = file.metadata()
        assert (facts["steps"], facts["chosen_of"]) == (row["k"], "5")
        assert int(row["k"]) == alone.how.steps
        points = [float(row[f"accuracy_{at}"]) for at in ("0", "k", "nu")]
        curve = alone.curve["accuracy"]
        assert points == pytest.approx([curve[k] for k in (0, alone.how.steps, 2)])
        assert float(row["loss_gain"]) == pytest.approx(alone.gain("loss"))
        assert alone.choice is not None
        assert float(row["train_loss_best_gain"]) == pytest.approx(alone.choice.gain.mean)
        if len(alone.test_rows) > 1:
            assert float(row["loss_gain_se"]) == pytest.approx(alone.changes["loss"].error)
    one = found["alone"]
    assert (one["k"], one["train_rows"], one["train_loss_best_k"]) == ("0", "1", "")
    shared = load_file(run.folder / "model.safetensors")
    assert distance(load_file(here / "made/all" / one["file"]), shared) == 0
    assert "left at k=0: client alone: with 1 train row there is none to choose by" in out
    assert "loss on the rows held out is not finite" in found["lost"]["error"]
    assert "left out: client lost: data: the trained model's loss" in out
    assert "\x1b" not in out, "an id steers no terminal"
    left = sum(row["k"] == "0" for row in found.values()) - 1
    gains = [float(row["accuracy_gain"]) for row in found.values() if row["accuracy_gain"]]
    better, worse = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
    said = f"better for {better} of 8 clients and worse for {worse}; {left} "
    assert said in out
    assert f"Mean gain in accuracy: {interval(gains).text(3)}; of ν=2 for all, " in out
    assert f"personal models: {here / 'made/all'} (9 clients; figures in {TABLE})" in out

    before = {file.name: file.read_bytes() for file in (here / "made/all").iterdir()}
    assert f"{here / 'made/all'}: is there already; delete" in refusal(
        [*words, "out=made/all"], capsys
    )
    assert before == {file.name: file.read_bytes() for file in (here / "made/all").iterdir()}
    assert "own.npz: is there already" in refusal([*words, "out=own.npz"], capsys)
    assert "cannot be written (File exists)" in refusal([*words, "out=own.npz/all"], capsys)
    assert "is one model's file" in refusal([*words, "out=a.safetensors"], capsys)
    assert "clients=new: who takes part" in refusal([*words[:2], "clients=new"], capsys)
    limits, caught = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    try:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        assert "full: cannot be written (File too large)" in refusal([*words, "out=full"], capsys)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, caught)
    capsys.readouterr()
    main([*words[:2], "client=alone", "out=alone"])
    said = capsys.readouterr().out
    assert "left at k=0: with 1 train row there is none to choose by" in said
    assert "It is not known how good this model is" in said
    only = owner == "lost"
    np.savez(own, x=x[only], y=given["y"][only], client=owner[only])
    assert "no client can be served; data: the trained model's loss" in refusal(words, capsys)
    assert {file.name for file in here.iterdir()} == {"own.npz", "made", "alone"}


def test_of_the_runs_own_data_rows_are_held_out_as_in_training(
    small: Run, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the run measured of each client in the end is what the table has; new ones are told."""
    run = small("algorithm.nu=2", "evaluation.steps=2", "evaluation.new_clients=0.4")
    capsys.readouterr()
    main([f"checkpoint={run.folder}", "clients=all"])
    out = capsys.readouterr().out
    found = rows_of(here / "personal")
    measured = json.loads((run.folder / "clients.json").read_text())
    for group in ("participating", "new"):
        members = {each: row for each, row in found.items() if row["group"] == group}
        assert [*members] == [str(each) for each in measured[group]["client"]]
        for name, at, k in (("loss", "0", 0), ("loss", "nu", 2), ("accuracy", "nu", 2)):
            curves = [curve[k] for curve in measured[group][name]]
            values = [float(row[f"{name}_{at}"]) for row in members.values()]
            assert values == pytest.approx(curves, rel=1e-5)
        assert f"of {len(members)} {group} clients" in out
    assert out.index("participating clients and worse") < out.index("new clients and worse")
    new = choose_new_clients(ClientIds(5), 0.4, of_run(run.folder, "run").seed)
    main([f"checkpoint={run.folder}", "clients=new", "out=new", "steps=1"])
    assert rows_of(here / "new").keys() == {str(10 * (number + 1)) for number in new}
    assert {row["k"] for row in rows_of(here / "new").values()} == {"1"}
    assert "left at k=0" not in capsys.readouterr().out
    line = refusal([f"checkpoint={run.folder}", "clients=all", "test_fraction=0.5"], capsys)
    assert "test_fraction=0.5: the run's own data are split as in training" in line
    assert "has no rows of it; it has client 10" in refusal(
        [f"checkpoint={run.folder}", "client=11"], capsys
    )


def test_names_of_files_are_safe_and_no_two_alike() -> None:
    ids: list[Any] = [*IDS, "amy-", ".hidden", "-rf", "é" * 90, "é" * 91, "a.b", -5, 2**64 - 1]
    names = file_names(ids)
    assert len({name.lower() for name in names}) == len(ids)
    assert all(re.fullmatch(r"[\w%~][\w%~.-]{0,99}", name, re.ASCII) for name in names)
    known = dict(zip(ids, names, strict=True))
    assert known["a/b"] == "a%2Fb"
    assert known[".."] == "%2E."
    assert known["Zoë"] == "Zo%C3%AB"
    assert known["a.b"] == "a.b"
    assert known[-5] == "%2D5"
    assert known["amy"].startswith("amy-")
    forged = [known["amy"], "amy", "Amy"]
    assert len({name.lower() for name in file_names(forged)}) == 3
    assert file_names([7]) == ["7"]


def test_many_clients_are_told_in_few_lines() -> None:
    """Those with the least and the most gain; and the sentence, figure by figure."""
    served = [
        Served(i, "new", 9, int(i > 9), True, i == 3, 0.5, 0.5 + gain, 0.75, gain, 0.1)
        for i, gain in enumerate([0.0] * 10 + [-0.25] * 5 + [0.5] * 25)
    ]
    outcome = Outcome("accuracy", False, 5, True, served, [])
    mean = interval([each.gain or 0.0 for each in served]).text(3)
    assert sentence(outcome, served) == (
        "Personal models are better for 25 of 40 new clients and worse for 5; 10 are better left "
        f"at k=0 (1 of them in doubt). Mean gain in accuracy: {mean}; of ν=5 for all, "
        "+0.250 [+0.250, +0.250]."
    )
    console = Terminal(width=80)
    with console.capture() as captured:
        console.print(table(outcome))
    lines = captured.get().splitlines()
    assert sum(" ± 0.100" in line for line in lines) == 12
    assert sum("-0.250 ± " in line for line in lines) == 5
    assert any("… 28 more" in line for line in lines)
    unmeasured = [each._replace(gain=None) for each in served[:1]]
    assert sentence(outcome, unmeasured) == (
        "1 new client: no rows are held out to measure models on; 1 is better left at k=0."
    )
