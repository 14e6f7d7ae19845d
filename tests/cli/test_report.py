"""`nufed-report` as a person meets it, and what a run and a sweep leave without being asked."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from nufed.cli.report import main
from tests import forked
from tests.cli.test_command import nufed
from tests.helpers import RunResult
from tests.server_app.report.helpers import SMALL, read_page

Train = Callable[..., RunResult]


def test_a_run_leaves_its_report_and_the_command_in_it_repeats_the_run(tmp_path: Path) -> None:
    """In a folder of one's own, by the shell: every bit of the model."""
    done = nufed(*SMALL, "algorithm.alpha=0.25", "name='it\\'s mine'", cwd=tmp_path)
    assert done.status == 0, done.err
    run = Path(re.findall(r"^run folder: (.*)$", done.out, re.MULTILINE)[0])
    assert f"report: {run / 'report.html'}\n" in done.out
    (line,) = re.findall(r"^nufed .*", read_page(run / "report.html").text, re.MULTILINE)[-1:]
    again = tmp_path / "again"
    env = os.environ | {"PATH": f"{forked.scripts()}{os.pathsep}{os.environ['PATH']}"}
    line = f"{line} hydra.run.dir=again"
    subprocess.run(line, shell=True, cwd=tmp_path, env=env, check=True)
    model = "model.safetensors"
    assert (again / model).read_bytes() == (run / model).read_bytes()


def test_the_report_of_a_run_is_made_anew(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(SMALL)
    capsys.readouterr()
    main([str(run.folder)])
    assert capsys.readouterr().out == f"report: {run.folder / 'report.html'}\n"
    assert "The same again" in read_page(run.folder / "report.html").text


def test_runs_are_compared_where_one_wants_it(
    train: Train,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = [train([*SMALL, f"algorithm.tau={tau}"]) for tau in (1, 2)]
    names = [str(run.folder) for run in runs]
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    main([*names, "out=ours.html", "target=0.01"])
    out = capsys.readouterr().out
    assert out.endswith(f"comparison: {tmp_path / 'ours.html'}\n")
    for run, label in zip(runs, ("algorithm.tau=1 (1)", "algorithm.tau=2 (1)"), strict=True):
        after = out[out.index(label) :]
        for kind in ("participating", "new"):
            (value,) = re.findall(rf"{kind} +│ +([\d.e-]+)", after)[:1]
            assert float(value) == pytest.approx(run.summary[kind]["loss"][-1], rel=6e-3)
    assert "at most 0.01 loss" in read_page(tmp_path / "ours.html").text
    main([*names])
    assert (tmp_path / "comparison.html").exists()


def test_a_folder_of_runs_has_its_comparison_in_it(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [train([*SMALL, f"seed={seed}"]) for seed in (0, 1)]
    folder = runs[0].folder.parent
    main([str(folder)])
    assert f"comparison: {folder / 'comparison.html'}" in capsys.readouterr().out


MISTAKES = {
    "folder": (["nowhere"], "nowhere: is not there; name the folder of a run or a sweep"),
    "nothing": (["out=x.html"], "no run was named; say nufed-report runs/…"),
    "option": (["nowhere", "aim=3"], "aim=3: no such folder or option; choose one of out, target"),
    "target": (["RUN", "target=high"], "target=high: must be a number, such as 0.9"),
    "out": (["RUN", "out=/proc/none/x.html"], "/proc/none/x.html: cannot be written (No such file"),
    "words": ([], "the following arguments are required"),
}


@pytest.mark.parametrize(("words", "line"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_ends_in_one_line(
    words: list[str], line: str, train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    if "RUN" in words:
        words = [str(train(SMALL).folder) if word == "RUN" else word for word in words]
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(words)
    out, err = capsys.readouterr()
    assert stopped.value.code == 2
    assert err.startswith("nufed-report: ")
    assert line in err
    assert err.count("\n") == 1
    assert out == ""


@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl", "summary.json", "clients.json"])
def test_a_damaged_run_ends_in_one_line(
    name: str, train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(SMALL)
    (run.folder / name).write_text("[1,\n")
    test_a_mistake_ends_in_one_line([str(run.folder)], name, lambda _: run, capsys)


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.count("  nufed-report runs/") == 4
