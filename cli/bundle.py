"""The Flower app that `nufed` submits: our packages, also where NuFed has no checkout."""

import shutil
from pathlib import Path

from conf.compose import CONFIG_DIR

PACKAGES = ("client_app", "conf", "server_app", "simulation", "strategies", "tasks", "theory")


def lay_out(folder: Path) -> Path:
    """Copy the packages into a folder, with the `pyproject.toml` that makes it an app."""
    source = CONFIG_DIR.parent
    ignore = shutil.ignore_patterns("__pycache__")
    for package in PACKAGES:
        shutil.copytree(source / package, folder / package, ignore=ignore)
    shutil.copy(CONFIG_DIR / "flower_app.toml", folder / "pyproject.toml")
    return folder
