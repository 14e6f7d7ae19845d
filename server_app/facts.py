"""What the summary of a run says whatever happens in its rounds."""

import re
import resource
import sys
from pathlib import Path
from typing import Any

from nufed.conf.versions import git_commit, versions
from nufed.server_app.tracking import RunInfo
from nufed.tasks.measures import lower_is_better


def facts(info: RunInfo) -> dict[str, Any]:
    """Return what a summary says whatever happens in the rounds."""
    return {
        "rounds": 0,
        "clients": {"participating": info.participating, "new": info.new},
        "parameters": sum(info.size),
        "trained_parameters": info.size.trained,
        "seed": info.config.seed,
        "versions": versions(),
        "git_commit": git_commit(),
        "lower_is_better": sorted(lower_is_better(info.config.task)),
    }


def peak_rss_mb() -> float:
    """Return the most memory that this process ever held."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count what the process that started this one held
        (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())
        return int(peak) / (1 << 10)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)
