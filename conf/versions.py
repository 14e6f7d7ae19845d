"""The versions that a bug report, and the summary of a run, have to name."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import nufed

HOME = Path(nufed.__file__).parents[1]
"""The folder that NuFed is imported from: of a checkout, of a Flower app, or of all packages."""
PACKAGES = ("nufed", "flwr", "torch", "numpy", "hydra-core", "ray")
"""What a figure may depend on. torch's says for which CUDA it was built."""


def versions() -> dict[str, str | None]:
    """Return the versions of Python and of these packages; None for what is not installed.

    That is so of NuFed itself where only its Flower bundle is there.
    """
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def git_commit() -> str | None:
    """Return the commit that this code is of; None outside a checkout of it."""
    if not (HOME / ".git").exists():
        return None
    command = ["git", "-C", str(HOME), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def line() -> str:
    """Return all of it in one line."""
    found = versions()
    commit = git_commit()
    ours = f"nufed {found.pop('nufed')}{f' ({commit[:12]})' if commit else ''}"
    there = [f"{name} {each}" for name, each in found.items() if each]
    return ", ".join([ours, *there, platform.platform()])


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
