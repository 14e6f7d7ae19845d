"""What the fuzz tests share: how many cases, which changes, and what counts as an escape."""

import os
import resource
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from flwr.app import RecordDict
from hypothesis import HealthCheck, Phase, settings

from nufed.client_app.wire import EVALUATION, REPORT
from nufed.conf.errors import NuFedError

FULL = os.environ.get("NUFED_FUZZ", "")
"""A seed: all cases, from it; empty: a part of them, always the same."""
FUZZ = settings(
    max_examples=500 if FULL else 150,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],  # shrinking takes minutes, where a case fails
    suppress_health_check=list(HealthCheck),
)
CPU_S, MEMORY = 60, 700 << 20
"""What one case may take: of a small file, no reader needs as much."""

Random = np.random.Generator


def report_in(content: RecordDict) -> str:
    """Return the name of the record that holds what is asked, or answered."""
    return EVALUATION if EVALUATION in content else REPORT


def cases(number: int, kind: str) -> Iterator[tuple[str, Random]]:
    """Yield the name of each case, and its random numbers.

    Parameters
    ----------
    number
        Of all cases; without $NUFED_FUZZ, a tenth of them are drawn.
    kind
        Sets them apart from the cases of others.
    """
    seed = int(FULL or 0)
    for case in range(number if FULL else -(-number // 10)):
        yield f"{kind} {seed}/{case}", np.random.default_rng([seed, case, *kind.encode()])


class Escapes:
    """Counts what is neither taken nor refused in one line of ours."""

    def __init__(self) -> None:
        self.taken = self.refused = 0
        self.found = list[str]()

    def of(self, name: str, call: Callable[[], object]) -> None:
        """Run a case."""
        before = _peak(reset=True)
        try:
            with _within(CPU_S):
                call()
            self.taken += 1
        except NuFedError as error:
            self.refused += 1
            line = str(error)
            if not line or "\n" in line or len(line) > 1500:
                self.found.append(f"{name}: is told as {line!r:.300}")
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(last.filename).name}:{last.lineno}"
            self.found.append(f"{name}: {type(error).__name__} at {where}: {error!s:.200}")
        if _peak() - before > MEMORY:
            self.found.append(f"{name}: took {(_peak() - before) >> 20} MB")

    def require_none(self) -> None:
        """Fail if a case escaped; or if all are of one kind, which would be no test."""
        print(
            f"{self.taken} taken, {self.refused} refused, {len(self.found)} escaped",
            *self.found,
            sep="\n",
        )
        assert self.found == []
        assert self.taken > 0
        assert self.refused > 0


class Hang(BaseException):
    """A case took longer than any may."""


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Raise `Hang` once so much CPU time has passed: what others run beside it does not count."""

    def stop(*_: object) -> None:
        raise Hang(f"longer than {seconds:g} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _peak(*, reset: bool = False) -> int:
    """Return the most bytes that this process has held since the last reset, where it can be."""
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    if reset and os.access(clear, os.W_OK):
        clear.write_text("5")
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) << 10


def damaged(content: bytes, random: Random) -> bytes:
    """Return bytes with some flipped, cut off, cut out, doubled or replaced."""
    changed = bytearray(content)
    for _ in range(int(random.integers(1, 4))):
        if not changed:
            break
        at = int(random.integers(len(changed)))
        # Near either end stand the headers.
        near = (at, min(at, int(random.exponential(60))), -1 - int(random.exponential(60)))
        at = near[int(random.integers(3))] % len(changed)
        some = int(random.integers(1, 9))
        match int(random.integers(7)):
            case 0:
                changed[at] ^= 1 << int(random.integers(8))
            case 1:
                del changed[at:]
            case 2:
                del changed[at : at + some]
            case 3:
                changed[at:at] = changed[at : at + 8 * some]
            case 4:
                changed[at : at + some] = random.bytes(some)
            case 5:
                changed[at : at + some] = b"\xff" * some
            case _:
                changed[at : at + some] = bytes(some)
    return bytes(changed)
