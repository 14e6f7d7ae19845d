"""What a file of `benchmarks.workloads` offers: named workloads, each giving one row of lines."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.outcome import Line


@dataclass(frozen=True)
class Effort:
    """How much to spend on a row, and whom to tell what is being done."""

    quick: bool = False
    say: Callable[[str], None] = lambda _: None

    def repeats(self, usual: int) -> int:
        """Return how often to repeat what is usually repeated so often."""
        return min(usual, 2) if self.quick else usual


@dataclass(frozen=True)
class Workload:
    """A row of the table."""

    name: str
    """What one types to run it alone."""
    title: str
    repeats: int
    measure: Callable[[Effort, int], list[Line]]
    """Measures the contenders, each so many times."""
    threads: int | None = 1
    """Of each process; None where the command chooses."""
    needs: str | None = None
    """What this machine lacks for it; None if it can run."""
