"""What a section of docs/results.md is, and how its tables are written."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from benchmarks.experiments.methods import TITLES, Outcomes
from benchmarks.experiments.plan import Job


class Page(Protocol):
    """A section of docs/results.md."""

    @property
    def name(self) -> str:
        """How the command line calls it."""

    @property
    def title(self) -> str:
        """What stands above it in the document."""

    @property
    def settings(self) -> tuple[str, ...]:
        """Settings whose step sizes must have been tuned."""

    @property
    def stages(self) -> tuple[Callable[[Outcomes], list[Job]], ...]:
        """Return, one after another, runs that it needs, given those that were made before.

        A stage is asked again when these are made, until it needs no others.
        """

    def section(self, outcomes: Outcomes, figures: Path) -> str:
        """Draw its figures, and return its text, without the title."""


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def heading(setting: str, name: str, what: str) -> str:
    """Return the title of what is said of a setting, and its figure."""
    return (
        f"### {TITLES[setting]}\n\n{picture(f'{name}-{setting}', f'{TITLES[setting]}: {what}')}\n"
    )


def picture(name: str, alt: str) -> str:
    """Return the Markdown of a figure."""
    return f"![{alt}](results/{name}.svg)"
