"""What a container may do, as a process inside it finds out."""

import json
from typing import Any

from tests.compose.stack import Stack

MEMORY = 1536 << 20  # bytes, of each container
LOOK = """
import errno, json, tempfile
from pathlib import Path

def refusal(folder):
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        return errno.errorcode[error.errno]

def first(*names):
    return int(next(path for path in map(Path, names) if path.exists()).read_text())

lines = (line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
mounts = (line.split()[1:4] for line in Path("/proc/self/mounts").read_text().splitlines())
groups = "/sys/fs/cgroup/"
print(json.dumps({
    "status": {name: value.strip() for name, value in lines},
    "mounts": {where: [kind, *options.split(",")] for where, kind, options in mounts},
    "refused": {f: refusal(f) for f in ("/", "/opt", "/opt/nufed/nufed/tasks", "/etc", "/usr/bin")},
    "allowed": {f: refusal(f) for f in ("/tmp", "/home/nufed")},
    "memory": first(groups + "memory.max", groups + "memory/memory.limit_in_bytes"),
    "pids": first(groups + "pids.max", groups + "pids/pids.max"),
}))
"""


def require_confined(stack: Stack, *words: str) -> None:
    """Look from inside a container: ``exec SERVICE python``, or ``run … SERVICE``."""
    seen: Any = json.loads(stack.compose(*words, "-c", LOOK).stdout)
    sets = {name: value for name, value in seen["status"].items() if name.startswith("Cap")}
    assert {"CapPrm", "CapEff", "CapBnd"} <= set(sets)
    assert {int(value, 16) for value in sets.values()} == {0}, sets
    assert seen["status"]["NoNewPrivs"] == "1"
    assert seen["status"]["Uid"].split() == ["1000"] * 4
    assert "ro" in seen["mounts"]["/"]
    assert set(seen["refused"].values()) == {"EROFS"}, seen["refused"]
    assert set(seen["allowed"].values()) == {None}, seen["allowed"]
    for folder in ("/tmp", "/home/nufed"):
        assert {"tmpfs", "noexec", "nosuid", "size=524288k"} <= set(seen["mounts"][folder])
    assert (seen["memory"], seen["pids"]) == (MEMORY, 4096)
