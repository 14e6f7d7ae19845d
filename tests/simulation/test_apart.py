"""An object in a process of its own, whose end is told and ends nothing else."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nufed.conf.errors import InputError
from nufed.simulation.apart import Apart, Gone
from tests.forked import LIMIT_S

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
THING = "tests.simulation.thing:Thing"


@pytest.fixture
def thing() -> Iterator[Apart]:
    apart = Apart(THING)
    yield apart
    apart.end()


def gone(pid: int) -> bool:
    """Wait until a process is gone, or only waits to be reaped."""
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def test_its_methods_are_called_there(
    thing: Apart, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """It keeps what it has, what it raises and warns of is so here, and what it prints is not."""
    assert thing.call("add", 2) == (2, thing.pid)
    assert thing.call("add", 3) == (5, thing.pid)
    assert thing.pid != os.getpid()
    with pytest.raises(InputError, match=r"^count=7: too many$"):
        thing.call("refuse")
    thing.call("warn", "100% sure")
    assert [r.getMessage() for r in caplog.records] == ["100% sure"]
    assert capfd.readouterr().out == ""
    with pytest.raises(RuntimeError, match="cannot pickle"):
        thing.call("lock")
    assert thing.call("add", 0)[0] == 5
    assert thing.idle


@LINUX
def test_its_end_is_told_and_leaves_nothing(thing: Apart) -> None:
    child = thing.call("child")
    with pytest.raises(Gone, match=r"^status 3$"):
        thing.call("die")
    assert gone(child)
    assert not thing.idle
    with pytest.raises(Gone):
        thing.call("add", 1)


@LINUX
def test_one_that_is_killed_between_two_calls_is_gone(thing: Apart) -> None:
    thing.call("add", 1)
    os.kill(thing.pid, signal.SIGKILL)
    with pytest.raises(Gone, match=r"^signal 9$"):
        thing.call("add", 1)


@LINUX
def test_it_ends_with_the_process_that_uses_it(tmp_path: Path) -> None:
    """Killed, in the middle of a call."""
    code = (
        "import sys; from nufed.simulation.apart import Apart; "
        f"thing = Apart('{THING}'); print(thing.call('add', 1)[1], flush=True); "
        "thing.call('hang')"
    )
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    user = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=env)
    assert user.stdout is not None
    pid = int(user.stdout.readline())
    user.kill()
    user.wait()
    user.stdout.close()
    assert gone(pid)
