"""The Flower app that `nufed` submits: our packages, also where NuFed has no checkout."""

import shutil
from pathlib import Path

import nufed
from nufed.conf.compose import CONFIG_DIR

PARTS = ("client_app", "conf", "server_app", "simulation", "strategies", "tasks", "theory")


def lay_out(folder: Path) -> Path:
    """Copy the package into a folder, with the `pyproject.toml` that makes it an app.

    The package alone lies there: the app's folder is the first of the import path, and users have a
    tasks.py or a conf/ of their own.
    """
    ours = folder / "nufed"
    ours.mkdir()
    shutil.copy(nufed.__file__, ours)
    ignore = shutil.ignore_patterns("__pycache__")
    for part in PARTS:
        shutil.copytree(CONFIG_DIR.parent / part, ours / part, ignore=ignore)
    shutil.copy(CONFIG_DIR / "flower_app.toml", folder / "pyproject.toml")
    return folder
