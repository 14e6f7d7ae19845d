"""How the figures of a report look: of a phone's width, and in the colours of the page around them.

Colours stand in the picture as variables, which the page sets for light and for dark; letters are
text, so that they can be read out, searched and scaled.
"""

import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup, escape

from nufed.conf.text import printable
from nufed.server_app import palette as p
from nufed.server_app.report.statistics import Array
from nufed.tasks.possible import Limits

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, LINE = "#111213", "#c9ccd1"  # of letters, and of what should stay behind the data
VARIABLES = {
    p.BLUE: "blue",
    p.VERMILION: "vermilion",
    p.GREEN: "green",
    p.PURPLE: "purple",
    p.ORANGE: "orange",
    p.SKY: "sky",
    p.GREY: "grey",
    INK: "ink",
    LINE: "line",
}
COLOURS = (p.BLUE, p.VERMILION, p.GREEN, p.PURPLE, p.ORANGE, p.SKY, p.GREY)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
EDGES = ("-", "--", ":", "-.")
HATCHES = ("////", "\\\\\\\\", "||||", "----", "xxxx", "....", "++++")
HEIGHT, A_LINE = 2.95, 0.21  # inches: of a picture, and of each line of its legend
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "nufed",
    "text.parse_math": False,  # a $ in somebody's name is one
    "font.size": 11,
    "font.family": "DejaVu Sans",  # wider than what a page may show in its place: nothing overlaps
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": p.GREY,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "hatch.linewidth": 0.45,
    "legend.frameon": False,
    "legend.fontsize": 10.5,
    "lines.linewidth": 1.7,
    "lines.markersize": 4,
}


@dataclass(frozen=True)
class Figure:
    """A picture, and what it says in words."""

    title: str
    svg: Markup
    note: str = ""
    """Which way is up."""


@contextmanager
def styled() -> Iterator[None]:
    """Draw in our style."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        yield


class Drawing:
    """Axes of a phone's width, and the picture that becomes of them.

    Parameters
    ----------
    name
        Sets what the picture refers to apart from that of others on the page.
    x, y
        What the axes show, with its unit.
    """

    def __init__(self, name: str, x: str, y: str) -> None:
        from matplotlib.figure import Figure as Canvas

        self.name = name
        self._canvas = Canvas(figsize=(4.1, HEIGHT), layout="constrained")
        self.axes: Axes = self._canvas.subplots()
        self.axes.set_xlabel(printable(x))
        self.axes.set_ylabel(printable(y))

    def finish(self, title: str, alt: str, note: str = "") -> Figure:
        """Return the figure; the legend stands below it, and takes no room from it."""
        handles, labels = self.axes.get_legend_handles_labels()
        if labels:
            columns = 2 if sum(sorted(map(len, labels))[-2:]) <= 28 else 1
            lines = math.ceil(len(labels) / columns)
            self._canvas.set_size_inches(4.1, HEIGHT + A_LINE * lines)
            self._canvas.legend(handles, labels, loc="outside lower left", ncols=columns)
        file = io.StringIO()
        self._canvas.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
        return Figure(title, _inline(file.getvalue(), self.name, alt), note)


def whole_rounds(axes: "Axes") -> None:
    """Put ticks at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))


def scale(axes: "Axes", values: Array) -> bool:
    """Take a logarithmic scale for what spans decades, and write its ticks plainly; tell whether.

    Parameters
    ----------
    values
        Of the lines; bands may end at zero.
    """
    found = values[np.isfinite(values)]
    if found.size == 0 or found.min() <= 0 or found.max() / found.min() < 30:
        return False
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    return True


def within(axes: "Axes", limits: Limits) -> None:
    """Show nothing that a metric cannot be, but for the width of a line."""
    low, high = axes.get_ylim()
    edge = (min(high, limits.high) - max(low, limits.low)) / 50
    axes.set_ylim(max(low, limits.low - edge), min(high, limits.high + edge))


def metric_axis(axes: "Axes", values: Array, limits: Limits, *, lower_is_better: bool) -> None:
    """Scale the axis of a metric by the values of its lines."""
    if not (lower_is_better and scale(axes, values)):
        within(axes, limits)


def reference(axes: "Axes", value: float, label: str, line: str) -> None:
    """Draw what others have, to be compared with."""
    axes.axhline(value, color=p.GREY, linestyle=line, linewidth=1.4, label=printable(label))


def style(index: int, points: int) -> dict[str, Any]:
    """Return colour and marker of the line with a number; markers only where there are few."""
    look: dict[str, Any] = {"color": COLOURS[index % len(COLOURS)]}
    marker = MARKERS[index % len(MARKERS)]
    return look | {"marker": marker, "markevery": max(1, math.ceil(points / 12))}


def band(axes: "Axes", x: Sequence[float] | Array, low: Array, high: Array, index: int) -> None:
    """Shade what lies between two curves, where both are known.

    Each band has strokes and edges of its own, so that those on top of each other are told apart,
    in grey too.
    """
    colour = COLOURS[index % len(COLOURS)]
    known = np.isfinite(low) & np.isfinite(high)
    axes.fill_between(x, low, high, where=known, color=colour, alpha=0.13, linewidth=0)
    axes.fill_between(
        *(x, low, high),
        where=known,
        facecolor="none",
        edgecolor=colour,
        alpha=0.55,
        hatch=HATCHES[index % len(HATCHES)],
        linewidth=0.9,
        linestyle=EDGES[index % len(EDGES)],
    )


def _inline(svg: str, name: str, alt: str) -> Markup:
    """Return a picture as an element of a page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    head, rest = svg.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head)
    assert box is not None
    rest = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", rest)
    rest = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", rest)
    for colour, variable in VARIABLES.items():
        rest = re.sub(colour, f"var(--{variable})", rest, flags=re.IGNORECASE)
    alt = escape(printable(alt))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {box[0]} role="img" aria-label="{alt}"'
    return Markup(f"{head}>{rest}")
