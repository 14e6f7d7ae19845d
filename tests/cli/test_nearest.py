"""A word mistyped to any of the commands: one line with the nearest that there is, and status 2."""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from nufed.cli import run

Main = Callable[[], None]
MISTYPED = [
    ("nufed algoritm=fedavg", "algoritm: no such key; did you mean algorithm?"),
    ("nufed algorithm=fedvag", "algorithm=fedvag: no such option; did you mean fedavg?"),
    ("nufed algorithm.aplha=0.1", "algorithm.aplha: no such key; did you mean algorithm.alpha?"),
    ("nufed +algorithm.aplha=0.1", "algorithm.aplha: no such key; did you mean algorithm.alpha?"),
    ("nufed atach 7", "atach: no such command; did you mean nufed attach?"),
    ("nufed lss", "lss: no such command; did you mean nufed ls?"),
    ("nufed nu=1", "nu: no such key; did you mean algorithm.nu?"),
    (
        "nufed alpha=1",
        "alpha: no such key; did you mean algorithm.alpha, partition.partitioner.alpha or "
        "dataset.alpha?",
    ),
    ("nufed algorithm.mode=frist", "algorithm.mode=frist: must be exact | first_order | hessian_"),
    ("nufed dataset=digit", "dataset=digit: no such option; did you mean digits?"),
    ("nufed dataset=../d/a.npz", "dataset=../d/a.npz: names a file; say dataset=npz dataset.path="),
    ("nufed engine=batch", "engine=batch: no such option; did you mean batched?"),
    ("nufed -m hydra/launcher=jobli", "hydra/launcher=jobli: no such option; did you mean joblib?"),
    ("nufed --multirn seed=1", "--multirn: no such option; did you mean --multirun?"),
    ("nufed --rounds 3", "--rounds: no such option; write rounds=…"),
    (
        "nufed dataset.path=a.npz",
        "dataset.path: no such key with the chosen options; it belongs to ",
    ),
    (
        "nufed algorithm.alpha=0,1",
        "algorithm.alpha=0,1: has several values, which are for nufed -m",
    ),
    (
        "nufed model._target_=nufed.tasks.models.mpl",
        "model._target_=nufed.tasks.models.mpl: there is no nufed.tasks.models.mpl; did you mean "
        "nufed.tasks.models.",
    ),
    ("nufed --cfg jop", "jop: no such choice; choose one of job, hydra, all"),
    ("nufed-adapt chekpoint=run", "chekpoint: no such key; did you mean checkpoint?"),
    ("nufed-adapt --data=mine.npz", "--data=mine.npz: no such option; write data=mine.npz"),
    (
        "nufed-certify algorithm.xi=3",
        "algorithm.xi: no such key; algorithm has name, ",
    ),
    ("nufed-certify algorithm.nuu=3", "algorithm.nuu: no such key; did you mean algorithm.nu?"),
    ("nufed +engine.chunk=3", "engine.chunk: no such key; did you mean engine.chunk_size?"),
    ("nufed-certify --epsilom 3", "--epsilom: no such option; did you mean --epsilon?"),
    ("nufed-data chek mine.npz", "chek: no such choice; did you mean check?"),
    ("nufed-keys keys --nods 2", "--nods: no such option; did you mean --nodes?"),
    ("nufed-report --targt 0.9", "--targt: no such option; did you mean target=…?"),
    ("nufed-report runs targt=0.9", "targt=0.9: no such folder or option; did you mean target?"),
]
COMMANDS = sorted({line.split()[0] for line, _ in MISTYPED})


def typed(line: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Carry out a command in this process; return its exit status."""
    name, *words = line.split()
    monkeypatch.setattr(sys, "argv", [name, *words])
    run._prepare.cache_clear()  # the environment that it sets up is taken back after each test
    module = "nufed.cli.run" if name == "nufed" else f"nufed.cli.{name.removeprefix('nufed-')}"
    main: Main = import_module(module).main
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize(("line", "told"), MISTYPED)
def test_the_nearest_is_named(
    line: str, told: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert typed(line, monkeypatch) == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"{line.split()[0]}: {told}")
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(
    command: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert typed(f"{command} --help", monkeypatch) == 0
    help_text = capfd.readouterr().out
    _, examples = help_text.lower().split("examples")
    assert examples.count(f"  {command} ") >= 3


def test_a_module_that_is_another_of_that_name_is_said_to_be_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As where a library has a module `tests` too, which is found before the person's own."""
    (tmp_path / "elsewhere.py").touch()
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    line = "nufed model=custom model._target_=elsewhere.Net"
    assert typed(line, monkeypatch) == 2
    assert capfd.readouterr().err == (
        "nufed: model._target_=elsewhere.Net: there is no elsewhere.Net; "
        f"elsewhere is {tmp_path}/elsewhere.py\n"
    )
