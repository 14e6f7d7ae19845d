"""A project's own client_app.py, tasks.py, conf/ … stay its own: NuFed is one package, `nufed`."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from zipfile import ZipFile

import pytest
from safetensors.torch import load_file

from nufed.simulation.flower_command import kill_all
from tests import forked, own_files, zygote
from tests.forked import LIMIT_S
from tests.test_layers import PARTS, ROOT

COMMANDS = sorted(name for name in zygote.programs() if name.startswith("nufed"))
BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
USE = """
import client_app, conf, nufed.client_app, tasks
from nufed.client_app import personalize
from nufed.client_app.meta_gradient import adapt
print(nufed.__file__, adapt.__module__, client_app.Net.__module__, tasks.Net.__module__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from what it is made of."""
    folder = tmp_path_factory.mktemp("wheel")
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("nufed", *PARTS):
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE", "requirements.txt"):
        shutil.copy(ROOT / name, folder / "source")
    command = [sys.executable, "-c", BUILD, folder]
    subprocess.run(command, cwd=folder / "source", check=True, capture_output=True, timeout=LIMIT_S)
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module", params=["checkout", "wheel"])
def env(request: pytest.FixtureRequest) -> Mapping[str, str]:
    """Return the environment of a command that finds NuFed in the checkout, or installed."""
    if request.param == "checkout":
        return os.environ
    wheel = request.getfixturevalue("wheel")
    site = wheel.parent / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    command = [*pip, "--target", site, wheel]
    subprocess.run(command, check=True, capture_output=True, timeout=LIMIT_S)
    return os.environ | {"PYTHONPATH": str(site)}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return own_files.lay_out(tmp_path / "project")


def test_the_wheel_holds_every_file_of_every_part(wheel: Path) -> None:
    kinds = {".py", ".toml", ".yaml"}
    ours = {
        f"nufed/{file.relative_to(ROOT).as_posix()}"
        for part in PARTS
        for file in (ROOT / part).rglob("*")
        if file.suffix in kinds
    }
    there = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert there == ours | {"nufed/__init__.py", "nufed/py.typed"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_starts_there(command: str, env: Mapping[str, str], project: Path) -> None:
    done = forked.run([command, "--help"], project, env)
    assert (done.status, done.err) == (0, "")
    assert command in done.out


def test_a_configuration_is_composed_of_our_files(env: Mapping[str, str], project: Path) -> None:
    done = forked.run(["nufed", "--cfg", "job"], project, env)
    assert (done.status, done.err) == (0, "")
    assert "launcher: nufed.cli.engines.batched.launch" in done.out
    assert "foo" not in done.out


@pytest.mark.parametrize("module", ["client_app", "tasks"])
def test_ones_own_model_is_trained_and_read_again(
    module: str, env: Mapping[str, str], project: Path
) -> None:
    own = f"model._target_={module}.Net"
    for words in (
        ["nufed-data", "check", "rows.npz"],
        ["nufed", *own_files.RUN, own, "hydra.run.dir=run"],
        ["nufed-adapt", "checkpoint=run", "data=one.npz", "steps=1"],
        ["nufed-certify", "run"],
        ["nufed-report", "run"],
    ):
        done = forked.run(words, project, env)
        assert done.status == 0, done.out + done.err
    for file in ("run/model.safetensors", "personal.safetensors"):
        assert set(load_file(project / file)) == {f"{module}.weight", f"{module}.bias"}


@pytest.mark.parametrize("env", ["wheel"], indirect=True)
def test_the_demo_needs_no_checkout(env: Mapping[str, str], tmp_path: Path) -> None:
    """All of it but 49 rounds: data, training, what clients have alone, tables, report."""
    done = forked.run(["nufed", "rounds=1", "hydra.run.dir=run"], tmp_path, env)
    assert done.status == 0, done.out + done.err
    assert "alone, linear model" in done.out
    assert (tmp_path / "run/report.html").is_file()


@pytest.mark.parametrize("env", ["wheel"], indirect=True)  # it takes the seconds of real imports
def test_a_script_there_imports_both(env: Mapping[str, str], project: Path) -> None:
    (project / "use.py").write_text(USE)
    command = [sys.executable, "use.py"]
    done = subprocess.run(
        command, cwd=project, env=env, capture_output=True, text=True, timeout=LIMIT_S
    )
    said = "nufed.client_app.meta_gradient client_app tasks\n"
    assert (done.stdout, done.stderr) == (f"{env['PYTHONPATH']}/nufed/__init__.py {said}", "")


@pytest.mark.flower
@pytest.mark.parametrize("engine", [["engine.workers=2", "engine.chunk_size=2"], ["engine=ray"]])
def test_processes_of_other_engines_find_it_too(
    engine: list[str], env: Mapping[str, str], project: Path
) -> None:
    words = ["nufed", *own_files.RUN, "model._target_=tasks.Net", *engine, "hydra.run.dir=run"]
    done = forked.run(words, project, env)
    assert done.status == 0, done.out + done.err
    assert set(load_file(project / "run/model.safetensors")) == {"tasks.weight", "tasks.bias"}


@pytest.mark.flower
def test_a_checkout_that_flower_runs_finds_it_too(project: Path, tmp_path: Path) -> None:
    """There the folder tasks/ of the app is the first of the import path."""
    home = tmp_path / "flwr"
    home.mkdir()
    overrides = " ".join([*own_files.RUN, "model._target_=tasks.Net"])
    overrides = overrides.replace("rows.npz", str(project / "rows.npz"))
    config = f'overrides="{overrides}" run-dir="run"'
    here = {"FLWR_HOME": str(home), "NUFED_RUNS": str(tmp_path)}
    here |= {"PYTHONPATH": str(project), "NUFED_TRUST": "tasks"}
    words = ["flwr", "run", str(ROOT), "--stream", "--run-config", config]
    try:
        done = forked.run(words, project, os.environ | here)
    finally:
        kill_all(home)  # the SuperLink that `flwr run` starts would stay
    assert (tmp_path / "run/summary.json").is_file(), done.out + done.err
    assert set(load_file(tmp_path / "run/model.safetensors")) == {"tasks.weight", "tasks.bias"}
