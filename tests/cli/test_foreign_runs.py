"""A run folder that somebody else made is data: what it names is not called, nor obeyed."""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from nufed.cli import adapt, certify, report, run
from nufed.cli.run import main as nufed
from nufed.client_app import personalize
from nufed.client_app.app import app as client_app
from nufed.conf.compose import compose_config
from nufed.conf.convert import to_json
from nufed.conf.errors import InputError
from nufed.conf.text import printable
from nufed.server_app.app import app as server_app
from nufed.simulation.grid import run_in_process

SOURCE = """\
from torch import nn

class Net(nn.Linear):
    def __init__(self):
        super().__init__(3, 2)
"""
CODES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
HOSTILE = "\x1b]8;;http://evil\x07a\x1b[2J\r\b\u202egnp.exe\x9b31m\ud83d"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with mine.py, rows.npz and `run`, which trained a mine.Net on them."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "mine.py").write_text(SOURCE)
    random, n = np.random.default_rng(0), 48
    rows = {"x": random.normal(size=(n, 3)).astype(np.float32), "y": random.integers(2, size=n)}
    np.savez(folder / "rows.npz", **rows, client=np.arange(n) // 12)
    np.savez(folder / "one.npz", **{key: value[:12] for key, value in rows.items()})
    words = [
        *("dataset=npz", f"dataset.path={folder / 'rows.npz'}", "model=custom"),
        *("model._target_=mine.Net", "rounds=1", "evaluation.new_clients=[3]", "algorithm.nu=1"),
        *("algorithm.alpha=0.1", "algorithm.beta=0.1", "evaluation.steps=1", "tracking=none"),
        *("diagnostics.every=1", "baselines=none"),
    ]
    run_config = {"config": to_json(compose_config(words)), "run-dir": str(folder / "run")}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        run_in_process(server_app, client_app, run_config)
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Be in a folder with mine.py, the rows, and a copy of the run: `run`, as it was left."""
    shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(made))])
    yield tmp_path / "here"
    sys.modules.pop("mine", None)


def theirs(here: Path, change: Callable[[dict[str, Any]], object] = lambda config: None) -> Path:
    """Turn the run into one of somebody else's, its configuration changed."""
    config = yaml.safe_load((here / "run/config.yaml").read_text())
    change(config)
    (here / "run/config.yaml").write_text(yaml.safe_dump(config))
    return here / "run"


ADAPT = (adapt.main, ["checkpoint=run", "data=one.npz", "steps=1"])
CERTIFY = (certify.main, ["run"])
REPORT = (report.main, ["run"])
RESUME = (None, ["resume=run", "rounds=2"])
COMMANDS = {"adapt": ADAPT, "certify": CERTIFY, "resume": RESUME}


def said(command: Any, *more: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a command in this process; return its exit status."""
    main, words = command
    os.environ.pop("HYDRA_FULL_ERROR", None)
    run._prepare.cache_clear()
    monkeypatch.setattr(sys, "argv", ["nufed", *words, *more])
    try:
        nufed() if main is None else main([*words, *more])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@pytest.mark.parametrize("name", COMMANDS)
def test_code_of_theirs_is_called_once_it_is_trusted(
    name: str, here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    theirs(here)
    assert said(COMMANDS[name], monkeypatch=monkeypatch) == 2
    line = capfd.readouterr().err
    assert line.count("\n") == 1
    assert "its model._target_ is mine.Net, code that is not NuFed's; if you trust it, add " in line
    assert line.endswith("trust=mine\n")
    assert "mine" not in sys.modules
    assert said(COMMANDS[name], "trust=other", monkeypatch=monkeypatch) == 2
    assert said(COMMANDS[name], "trust=mine", monkeypatch=monkeypatch) == 0
    assert "mine" in sys.modules


@pytest.mark.parametrize("name", COMMANDS)
def test_ones_own_run_needs_no_word(name: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert said(COMMANDS[name], monkeypatch=monkeypatch) == 0


def test_python_is_asked_too(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs(here)
    with pytest.raises(InputError, match="trust=mine"):
        personalize("run", "one.npz")
    assert personalize("run", "one.npz", trust=["mine"], steps=1).how.steps == 1


def at(*path: str) -> Callable[[dict[str, Any]], None]:
    """Return what puts a command that would leave a file into a configuration."""

    def change(config: dict[str, Any]) -> None:
        config["model"] = {"_target_": "nufed.tasks.models.logistic", "bias": True}
        node = config
        for key in path[:-1]:
            node[key] = node.get(key) or {}
            node = node[key]
        node[path[-1]] = (
            "subprocess.getoutput"
            if path[-1] in ("launcher", "loss")
            else {"_target_": "subprocess.getoutput", "cmd": "touch called"}
        )

    return change


PLACES = {
    "model": at("model"),
    "an argument": at("model", "bias"),
    "a loss": at("task", "loss"),
    "a metric": at("task", "metrics", "m"),
    "a strategy": at("strategy"),
    "an optimizer": at("strategy", "optimizer"),
    "a partitioner": at("partition", "partitioner"),
    "data": at("dataset"),
    "a tracker": at("tracking", "mine"),
    "a tracker of an older run": at("tracking"),
    "a callback": at("callbacks"),
    "a launcher": at("engine", "launcher"),
}


@pytest.mark.parametrize("place", PLACES)
def test_what_would_run_a_command_is_called_by_none(
    place: str, here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    theirs(here, PLACES[place])
    for command in COMMANDS.values():
        assert said(command, monkeypatch=monkeypatch) == 2
        line = capfd.readouterr().err
        assert line.count("\n") == 1
    said(REPORT, monkeypatch=monkeypatch)
    assert not (here / "called").exists()


def hostile(here: Path) -> None:
    """Put control characters wherever a text can stand in the run's files."""

    def change(config: dict[str, Any]) -> None:
        config["model"] = {"_target_": "torch.nn.Linear", "in_features": 3, "out_features": 2}
        config["name"] = config["partition"]["name"] = config["algorithm"]["name"] = HOSTILE
        config["strategy"]["weighting"] = HOSTILE

    folder = theirs(here, change)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rows[-1]["failures"] = [{"client": 0, "reason": HOSTILE}]
    for row in rows:
        for group in ("participating", "new"):
            for end in ("", "_std", "_worst_decile", "_bottom"):
                if group in row:
                    row[group][HOSTILE + end] = row[group].pop(f"accuracy{end}")
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    clients = json.loads((folder / "clients.json").read_text())
    clients["names"] = [HOSTILE] * 4
    for group in ("participating", "new"):
        clients[group][HOSTILE] = clients[group].pop("accuracy")
    (folder / "clients.json").write_text(json.dumps(clients))
    summary = json.loads((folder / "summary.json").read_text())
    versions = {HOSTILE: HOSTILE}
    told = {"stopped": HOSTILE, "versions": versions, "git_commit": HOSTILE}
    (folder / "summary.json").write_text(json.dumps(summary | told))


@pytest.mark.parametrize("name", ["adapt", "certify", "resume", "report", "compare"])
def test_no_text_of_theirs_steers_the_terminal(
    name: str, here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    hostile(here)
    compare = (report.main, ["run", "out=all.html"])
    command = COMMANDS | {"report": REPORT, "compare": compare}
    assert said(command[name], monkeypatch=monkeypatch) in (0, 2)
    out, err = capfd.readouterr()
    assert len(out + err) > 40
    assert not CODES.search(out + err)
    if name in ("report", "compare"):
        page = (here / ("run/report.html" if name == "report" else "all.html")).read_text()
        assert not CODES.search(page)
        assert "\\x1b" in page


def test_a_metric_of_theirs_is_not_looked_up(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a run without a summary, which would say which way is up: the module has an effect."""

    def change(config: dict[str, Any]) -> None:
        config["task"] = {"metrics": {"zen": "this.s"}}

    theirs(here, change)
    (here / "run/summary.json").unlink()
    sys.modules.pop("this", None)
    assert said(REPORT, monkeypatch=monkeypatch) == 0
    assert "this" not in sys.modules


@pytest.mark.parametrize("row", [7, [], {"round": "x"}, {"participating": 7}, {"failures": 7}])
def test_rows_of_no_run_end_in_one_line(
    row: object, here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """HYDRA_FULL_ERROR=1 shows the traceback still."""
    with (here / "run/metrics.jsonl").open("a") as file:
        file.write(f"{json.dumps(row)}\n")
    assert said(REPORT, monkeypatch=monkeypatch) == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert "run/metrics.jsonl: cannot be read (" in err


def test_prepared_rows_stay_in_their_folder(
    here: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever the data set and the partition are called."""
    monkeypatch.setenv("NUFED_DATA", str(tmp_path / "data/deep"))

    def change(config: dict[str, Any]) -> None:
        config["dataset"]["name"], config["partition"]["name"] = "../up", "/../../../up"
        config["model"] = {"_target_": "nufed.tasks.models.logistic", "bias": True}

    theirs(here, change)
    said(CERTIFY, monkeypatch=monkeypatch)
    assert [each.name for each in (tmp_path / "data").iterdir()] == ["deep"]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["data", "here"]
    assert [each.name[:6] for each in (tmp_path / "data/deep").iterdir()] == ["___up-"]


@pytest.mark.parametrize("name", [f"{HOSTILE[:-1]}.npz", "a\nnufed: all is well.npz"])
def test_nor_does_a_name_that_was_typed(
    name: str, here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for main, words in (
        (adapt.main, ["checkpoint=run", f"data={name}"]),
        (adapt.main, [f"checkpoint={name}", "data=one.npz"]),
        (certify.main, [name]),
        (report.main, [name]),
        (certify.main, [f"--{name}"]),
        (None, [f"dataset={name}"]),
        (None, [f"resume={name}"]),
        (None, [f"nothing={name}"]),
    ):
        assert said((main, words), monkeypatch=monkeypatch) == 2
        err = capfd.readouterr().err
        assert err.count("\n") == 1
        assert not CODES.search(err)


def test_a_file_of_theirs_steers_it_neither(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Clients' ids in a data file."""
    with np.load("rows.npz") as rows:
        ids = np.array([f"{HOSTILE[:-1]}{i}" for i in rows["client"]])
        np.savez("named.npz", x=rows["x"], y=rows["y"], client=ids)
    assert said((adapt.main, ["checkpoint=run", "data=named.npz"]), monkeypatch=monkeypatch) == 2
    err = capfd.readouterr().err
    assert "\\x1b" in err
    assert not CODES.search(err)


def test_the_environment_stays_here(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "hunter2")

    def change(config: dict[str, Any]) -> None:
        config["name"] = "${oc.env:A_SECRET}"
        config["model"]["deep"] = ["${oc.env:A_SECRET}", "${", "${cwd:}"]

    theirs(here, change)
    assert said(REPORT, monkeypatch=monkeypatch) == 0
    page = (here / "run/report.html").read_text()
    assert "hunter2" not in page
    assert "${oc.env:A_SECRET}" in page
    assert str(here) not in page.replace(str(here / "rows.npz"), "")


LINKED = ["config.yaml", "metrics.jsonl", "summary.json", "clients.json", "model.safetensors"]
LINKED += ["certificate.svg", "report.html", ".report.html", "tracking.json", "checkpoint"]


@pytest.mark.parametrize("file", LINKED)
def test_a_link_in_a_run_folder_is_refused(
    file: str, here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = here / "secret"
    there = here / "run" / file
    if there.exists():
        there.rename(secret)
    else:
        secret.write_text("mine alone")
    before = secret.read_bytes() if secret.is_file() else b""
    there.symlink_to(secret)
    for command in (*COMMANDS.values(), REPORT):
        assert said(command, monkeypatch=monkeypatch) == 2
        line = capfd.readouterr().err
        assert line.count("\n") == 1
        assert f"{file}: is a symbolic link" in line
    assert (secret.read_bytes() if secret.is_file() else b"") == before


def test_a_run_folder_may_be_reached_through_a_link(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "latest").symlink_to("run")
    words = ["checkpoint=latest", "data=one.npz", "steps=1"]
    assert said((adapt.main, words), monkeypatch=monkeypatch) == 0
    assert said((report.main, ["latest"]), monkeypatch=monkeypatch) == 0


@pytest.mark.parametrize(
    ("file", "commands"),
    [
        ("config.yaml", (ADAPT, REPORT)),
        ("metrics.jsonl", (REPORT,)),
        ("summary.json", (REPORT,)),
        ("clients.json", (REPORT,)),
        ("certificate.svg", (REPORT,)),
        ("model.safetensors", (ADAPT, CERTIFY)),
    ],
)
@pytest.mark.parametrize("kind", ["a FIFO", "a folder"])
def test_what_is_no_file_is_told_of(
    kind: str,
    file: str,
    commands: Any,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """And no command waits for a FIFO's writer."""
    there = here / "run" / file
    there.unlink(missing_ok=True)
    (os.mkfifo if kind == "a FIFO" else os.mkdir)(there)
    for command in commands:
        assert said(command, monkeypatch=monkeypatch) == 2
        line = capfd.readouterr().err
        assert line.count("\n") == 1
        assert f"{file}: is {kind}, not a regular file" in line


@pytest.mark.parametrize("file", ["metrics.jsonl", "summary.json", "clients.json"])
def test_a_record_that_is_too_large_is_not_read(
    file: str, here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    os.truncate(here / "run" / file, 1 << 40)  # a hole of a terabyte: it would take the memory
    assert said(REPORT, monkeypatch=monkeypatch) == 2
    line = capfd.readouterr().err
    assert line.count("\n") == 1
    assert f"{file}: has 1,099,511,627,776 bytes, which is too large; at most 1,073,741,824" in line


SCRIPT = """<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>alert(2)</script>
<foreignObject><iframe src="javascript:alert(3)"/></foreignObject><image href="file:///etc/passwd"/>
</svg>"""


def test_a_certificate_of_theirs_is_a_picture(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser runs no script of what an <img> shows, and loads nothing for it."""
    (here / "run/certificate.svg").write_text(SCRIPT)
    assert said(REPORT, monkeypatch=monkeypatch) == 0
    page = (here / "run/report.html").read_text()
    assert "alert" not in page
    assert '<img class="wide" src="data:image/svg+xml;base64,' in page
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in page


def test_printable_is_what_shows_them() -> None:
    assert not CODES.search(printable(HOSTILE))
