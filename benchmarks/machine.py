"""What was measured on: a short name, without host names, and what matters for speed."""

import os
import platform
import re
import subprocess
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
WRITTEN = (":(exclude)docs/benchmarks.md", ":(exclude)benchmarks/results")


def facts() -> dict[str, str | int | None]:
    """Return the machine's processors; the GPU is None where there is none."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"cpu": _cpu(), "cores": _cores(), "gpu": gpu}


def name() -> str:
    """Return a short name made from the GPU, or else the CPU, and the number of cores."""
    about = facts()
    text = f"{about['gpu'] or about['cpu']} {about['cores']} cores"
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def commit() -> str | None:
    """Return the commit of this checkout, marked where files differ from it; None outside one.

    What is written while rows are measured is no difference.
    """
    try:
        differs = _git("status", "--porcelain", "--untracked-files=no", "--", ".", *WRITTEN)
        return _git("rev-parse", "--short", "HEAD") + ("-dirty" if differs else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _cores() -> int:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu() -> str:
    """Return the CPU's model as the system names it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        match = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE)
        if match:
            return match[1]
    return platform.processor() or platform.machine()
