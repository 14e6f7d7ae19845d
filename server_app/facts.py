"""What the summary of a run says whatever happens in its rounds."""

import re
import resource
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from nufed.conf.compose import HOME
from nufed.server_app.tracking import RunInfo
from nufed.tasks.measures import lower_is_better

PACKAGES = ("nufed", "flwr", "torch", "numpy")


def facts(info: RunInfo) -> dict[str, Any]:
    """Return what a summary says whatever happens in the rounds."""
    return {
        "rounds": 0,
        "clients": {"participating": info.participating, "new": info.new},
        "parameters": sum(info.size),
        "trained_parameters": info.size.trained,
        "seed": info.config.seed,
        "versions": {
            "python": sys.version.split()[0],
            **{name: _version(name) for name in PACKAGES},
        },
        "git_commit": _git_commit(),
        "lower_is_better": sorted(lower_is_better(info.config.task)),
    }


def _version(package: str) -> str | None:
    """Return a package's version; None for NuFed itself where only its Flower bundle is there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """Return the commit that this code is of; None outside a checkout of it."""
    if not (HOME / ".git").exists():
        return None
    command = ["git", "-C", str(HOME), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def peak_rss_mb() -> float:
    """Return the most memory that this process ever held."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count what the process that started this one held
        (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())
        return int(peak) / (1 << 10)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)
