"""What was measured, and what was aimed at: the content of benchmarks/results/<machine>.json."""

import operator
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple


class Quantity(NamedTuple):
    """How a figure is named and written."""

    label: str
    form: str

    def write(self, value: float) -> str:
        """Return the value as text, with its unit."""
        return self.form.format(value)


QUANTITIES = {
    "wall_s": Quantity("seconds", "{:.3g}"),
    "speedup": Quantity("ratio", "{:.2f}x"),
    "cpu_s": Quantity("CPU s", "{:.3g}"),
    "cpu_ratio": Quantity("CPU s to NuFed's", "{:.2f}x"),
    "peak_mb": Quantity("peak MB", "{:.0f}"),
    "gemm_share": Quantity("GEMM rate", "{:.0%}"),
    "relative_time": Quantity("time", "{:.2f}x"),
    "copies": Quantity("growth a step", "{:.2f} copies"),
    "outside_s": Quantity("outside the arithmetic", "{:.3f} s"),
    "start_s": Quantity("start", "{:.1f} s"),
    "imports_s": Quantity("imports", "{:.1f} s"),
    "rss_gb": Quantity("peak RSS", "{:.2f} GB"),
}
_RELATIONS: dict[str, Callable[[float, float], bool]] = {
    "≥": operator.ge,
    "≤": operator.le,
    "<": operator.lt,
}


@dataclass(frozen=True)
class Target:
    """What a figure has to reach."""

    quantity: str
    relation: str
    """≥, ≤ or <."""
    bound: float

    def __str__(self) -> str:
        quantity = QUANTITIES[self.quantity]
        return f"{quantity.label} {self.relation} {quantity.write(self.bound)}"


@dataclass(frozen=True)
class Line:
    """One contender's figures."""

    contender: str
    figures: dict[str, float]
    """Of `QUANTITIES`."""
    targets: list[Target] = field(default_factory=list)
    note: str = ""

    def met(self, target: Target) -> bool:
        """Tell whether a target is reached; one whose figure is missing is not."""
        value = self.figures.get(target.quantity)
        return value is not None and _RELATIONS[target.relation](value, target.bound)


@dataclass(frozen=True)
class Row:
    """One workload, its contenders, and how they were measured."""

    title: str
    lines: list[Line]
    repeats: int
    threads: int | None
    """Of each process; None where the command chooses."""
    elapsed_s: float
    date: str
    torch: str
    commit: str | None

    def to_json(self) -> dict[str, Any]:
        """Return the row as JSON has it; whether a target is met stands there for the reader."""
        row = asdict(self)
        for line, written in zip(self.lines, row["lines"], strict=True):
            for target, entry in zip(line.targets, written["targets"], strict=True):
                entry["met"] = line.met(target)
        return row

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> "Row":
        """Read what `to_json` wrote, except whether targets are met."""
        lines = [
            Line(
                line["contender"],
                line["figures"],
                [Target(t["quantity"], t["relation"], t["bound"]) for t in line["targets"]],
                line["note"],
            )
            for line in row["lines"]
        ]
        return cls(**row | {"lines": lines})
