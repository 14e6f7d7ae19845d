"""A folder for each run by default, also where several start in the same second."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hydra import compose
from omegaconf import DictConfig, OmegaConf

from nufed.cli.folders import NewFolders, remove_empty
from nufed.conf.compose import composing
from nufed.conf.files import new_folder


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def config(*words: str) -> DictConfig:
    """Return the configuration as Hydra has it when a run starts."""
    with composing():
        return compose("config", list(words), return_hydra_config=True)


def test_many_that_ask_at_once_each_have_their_own() -> None:
    wanted = Path("runs/name/2026-01-01_12-00-00")
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(lambda _: new_folder(wanted), range(16)))
    names = {folder.name for folder in made}
    assert names == {wanted.name, *(f"{wanted.name}-{n}" for n in range(2, 17))}
    assert all(folder.is_dir() for folder in made)


def test_runs_of_the_same_second_have_folders_of_their_own() -> None:
    """The second reading of one configuration has the same time in it, as another process may."""
    first = config("name='mine=0'")
    second = first.copy()
    OmegaConf.copy_cache(first, second)
    for each in (first, second):
        NewFolders().on_run_start(each)
    one, other = (Path(each.hydra.run.dir) for each in (first, second))
    assert one.parent == other.parent == Path("runs/mine=0")
    assert other.name == f"{one.name}-2"
    remove_empty(other)
    assert one.is_dir()
    remove_empty(one)
    assert not Path("runs").exists()


def test_the_jobs_of_a_sweep_are_told_of_its_folder() -> None:
    first = config("dataset=quadratics")
    second = first.copy()
    OmegaConf.copy_cache(first, second)
    for each in (first, second):
        NewFolders().on_multirun_start(each)
    time = Path(first.hydra.sweep.dir).name
    assert second.hydra.overrides.hydra == [f"hydra.sweep.dir=runs/quadratics-sweep/{time}-2"]
    assert second.hydra.sweep.dir == f"runs/quadratics-sweep/{time}-2"


def test_a_folder_that_was_named_is_that_one() -> None:
    named = config("hydra.run.dir='mine (1)'")
    for _ in range(2):
        NewFolders().on_run_start(named)
        assert named.hydra.run.dir == "mine (1)"
