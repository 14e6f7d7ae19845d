"""The memory of this machine, for what says of itself how much it takes."""

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nufed.conf.errors import InputError

SHARE = 0.8  # of the free memory that data may fill
SLACK = 2 << 30  # bytes that allocators reserve, and threads for their stacks, without using them


def free_ram() -> int:
    """Return the bytes of memory that can still be allocated."""
    return min(_available_ram(), _control_group())


def require_room(needed: int, where: str, what: str) -> None:
    """Raise an `InputError` unless there is memory for what is about to be read.

    Parameters
    ----------
    needed
        Bytes.
    where, what
        What names the data to a person, and what of it takes so much, such as ``x declares``.
    """
    free = free_ram()
    if needed > SHARE * free:
        raise InputError(
            f"{where}: {what} {in_words(needed)}, and {in_words(free)} of memory are free; give "
            "fewer rows, or take a machine with more"
        )


@contextmanager
def limited() -> Iterator[None]:
    """Let the process have no more memory than is free, where it cannot be told before.

    An allocation beyond it fails, as on a machine that has no more; without a limit, Linux
    promises it, and ends this process, or another, when it is used. Not on macOS, which has no such
    limit.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = _address_space() + int(SHARE * free_ram()) + SLACK
    bounds = [bound for bound in (soft, hard) if bound != resource.RLIM_INFINITY]
    if sys.platform != "linux" or min([limit, *bounds]) < limit:
        yield
        return
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _address_space() -> int:
    """Return the bytes that this process may address now, used or not."""
    pages = Path("/proc/self/statm")
    return int(pages.read_text().split()[0]) * resource.getpagesize() if pages.exists() else 0


def in_words(size: float) -> str:
    """Return a number of bytes as people say it."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if size < 1000:
            return f"{size:.3g} {unit}" if unit != "bytes" else f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.3g} PB"


def _available_ram() -> int:
    """Return what Linux calls available; elsewhere half of all RAM."""
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        lines = dict(line.split(":") for line in meminfo.read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) << 10
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _control_group() -> int:
    """Return what a container may still take; without a limit, more than any machine has."""
    try:
        limit, used = (
            Path(f"/sys/fs/cgroup/memory.{name}").read_text().strip() for name in ("max", "current")
        )
        return int(limit) - int(used)
    except (OSError, ValueError):  # no control group, or "max"
        return 1 << 62
