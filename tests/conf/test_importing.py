"""Modules of a person's own are found, whatever they are called; or it is said where they go."""

import importlib
import os
import sys
from pathlib import Path

import pytest

from nufed.conf.compose import compose_config, from_run_config
from nufed.conf.convert import to_json
from nufed.conf.errors import InputError
from nufed.conf.importing import give_way, let_import
from nufed.conf.versions import HOME


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return another folder with a NuFed, and have the import path for ourselves."""
    (tmp_path / "nufed").mkdir()
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(HOME)])
    return tmp_path


def test_a_checkout_on_the_import_path_goes_behind_theirs_and_stays_before_another_nufed(
    elsewhere: Path,
) -> None:
    app, theirs, other = str(HOME), "/theirs", str(elsewhere)
    sys.path[:] = [app, theirs, other, "/last"]
    give_way(HOME)
    assert sys.path == [theirs, app, other, "/last"]
    sys.path[:] = [app, theirs, "/last"]
    give_way(HOME)
    assert sys.path == [theirs, "/last", app]


def test_what_holds_the_package_alone_stays_where_it_is(elsewhere: Path) -> None:
    sys.path[:] = before = [str(elsewhere), "/theirs"]
    give_way(elsewhere)
    assert sys.path == before


def test_a_server_finds_their_tasks_and_not_the_folder_of_the_app_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tasks.py").write_text("Net = 'theirs'\n")
    monkeypatch.setattr(sys, "path", [str(HOME), str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "tasks", raising=False)
    own = compose_config(["model=custom", "model._target_=tasks.Net"])
    try:
        from_run_config({"config": to_json(own)}, ["tasks"])
        assert importlib.import_module("tasks").Net == "theirs"
    finally:
        sys.modules.pop("tasks", None)


def test_a_trusted_module_that_is_not_on_a_machine_is_named_with_the_remedy() -> None:
    sent = {"config": to_json(compose_config(["model=custom", "model._target_=absent.Net"]))}
    with pytest.raises(InputError) as e:
        from_run_config(sent, ["absent"])
    assert str(e.value) == (
        "run-config config: there is no module absent here, which its model._target_ names; "
        "put it on the PYTHONPATH of this SuperLink or SuperNode"
    )


def test_where_one_is_is_no_place_to_import_from_unless_code_of_ones_own_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", os.getcwd())])
    (tmp_path / "lying_here.py").write_text("Net = None\n")
    let_import(compose_config([]))
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("lying_here")
    let_import(compose_config(["model=custom", "model._target_=lying_here.Net"]))
    assert importlib.import_module("lying_here").Net is None
    assert sys.path[-1] == str(tmp_path)
