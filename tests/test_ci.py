"""`.ci/run` fails if any part does, also one beside the others, and shows what it said."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TARGETS = re.findall(r"^(test[\w-]*|lint|docs|install):", (ROOT / "Makefile").read_text(), re.M)
PROGRAM = """#!/bin/sh
echo "$@" is done
[ "$*" != "$FAILS" ] || exit "$STATUS"
"""


def ci(folder: Path, fails: str = "", status: int = 0) -> "subprocess.CompletedProcess[str]":
    """Run it with programs that say that they are done, but for one that fails."""
    for file in (".ci/run", "tests/compose/engine.sh", "bin/make", "bin/apt-get", "bin/sudo"):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(PROGRAM)
        (folder / file).chmod(0o755)
    shutil.copy(ROOT / ".ci/run", folder / ".ci/run")
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [folder / ".ci/run"],
        env=os.environ | {"PATH": path, "FAILS": fails, "STATUS": str(status)},
        capture_output=True,
        text=True,
    )


def test_every_target_is_carried_out_and_its_time_told(tmp_path: Path) -> None:
    done = ci(tmp_path)
    assert done.returncode == 0, done.stderr
    *said, times = done.stdout.split("=== ")
    parts = re.findall(r"^ +\d+:\d\d  (.*)$", times, re.M)
    made = {f"make {target}" for target in TARGETS} - {"make test-compose"}
    assert set(parts) == {"packages", "compose"} | made
    assert len(parts) == len(TARGETS) + 1
    for target in TARGETS:
        assert f"{target} is done\n" in "".join(said)


@pytest.mark.parametrize("target", TARGETS)
def test_one_that_fails_is_named_and_fails_the_whole_at_its_end(
    tmp_path: Path, target: str
) -> None:
    in_containers = target == "test-compose"  # typed by tests/compose/engine.sh
    fails, part = ("make test-compose", "compose") if in_containers else (target, f"make {target}")
    done = ci(tmp_path, fails, 3)
    assert done.returncode == 1
    assert re.search(rf"^ +\d+:\d\d  {part}  FAILED, exit status 3$", done.stdout, re.M)
    assert done.stdout.count("FAILED") == 1
    assert f"{fails} is done\n" in done.stdout
    assert "test-trackers is done\n" in done.stdout, "the others came to their end"


def test_where_no_engine_can_be_had_it_says_so(tmp_path: Path) -> None:
    done = ci(tmp_path, "make test-compose", 77)
    assert done.returncode == 0
    assert "make test-compose was not run\n" in done.stdout
