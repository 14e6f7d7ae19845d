"""How the figures look: readable alone, also without colour vision, and the same at every run."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nufed.server_app import palette as p
from nufed.server_app.report.statistics import Array, Interval, interval

COLOURS = (p.BLUE, p.VERMILION, p.GREEN, p.PURPLE, p.ORANGE, p.SKY, p.BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

mpl.use("svg")
mpl.rcParams.update(
    {
        "svg.hashsalt": "nufed",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.3,
        "legend.frameon": False,
        "figure.facecolor": "white",
    }
)


@contextmanager
def figure(path: Path, title: str, columns: int = 1, height: float = 3.4) -> Iterator[list[Axes]]:
    """Draw panels side by side, the legend of the first below all, and save them as an SVG file."""
    made = Figure(figsize=(4.6 * columns if columns > 1 else 6.4, height), layout="constrained")
    panels: Any = made.subplots(1, columns, squeeze=False)
    yield list(panels[0])
    made.suptitle(title, fontsize=10)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    if labels:
        most = 3 if columns == 1 else 5  # that are not wider than the figure
        made.legend(handles, labels, loc="outside lower center", ncols=min(most, len(labels)))
    path.parent.mkdir(parents=True, exist_ok=True)
    made.savefig(path, metadata={"Date": None, "Creator": None})


def style(index: int) -> dict[str, Any]:
    """Return colour and marker of the line with a number."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKERS[index % len(MARKERS)],
        "markersize": 4,
        "linewidth": 1.4,
    }


def band(axes: Axes, x: Sequence[float] | Array, curves: Array, label: str, index: int) -> None:
    """Draw the mean of curves [seeds, points] with its 95% interval."""
    means = [interval(curves[:, point]) for point in range(curves.shape[1])]
    every = max(1, len(means) // 8)
    axes.plot(x, [m.mean for m in means], label=label, markevery=every, **style(index))
    axes.fill_between(
        np.asarray(x, np.float64),
        [m.low for m in means],
        [m.high for m in means],
        color=COLOURS[index % len(COLOURS)],
        alpha=0.15,
        linewidth=0,
    )


def bars(
    axes: Axes, x: Sequence[float] | Array, intervals: Sequence[Interval], label: str, index: int
) -> None:
    """Draw points with their intervals."""
    means = np.array([i.mean for i in intervals])
    reach = np.array([[i.mean - i.low, i.high - i.mean] for i in intervals]).T
    axes.errorbar(x, means, yerr=reach, label=label, capsize=3, **style(index))


def heat(axes: Axes, values: Array, rows: Sequence[str], columns: Sequence[str]) -> None:
    """Draw a matrix with its numbers; a frame round the best of each column."""
    axes.grid(False)
    shades = values - values.max(0)  # by column: columns differ more than rows
    axes.imshow(shades, cmap="cividis", vmin=-0.2, vmax=0.0, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        dark = shades[row, column] < -0.1
        text = axes.text(column, row, f"{value:.3f}", ha="center", va="center", fontsize=8)
        text.set_color("white" if dark else "black")
        if value == values[:, column].max():
            text.set_fontweight("bold")
            text.set_bbox({"edgecolor": "black", "facecolor": "none", "pad": 2, "linewidth": 1})
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel("ν of testing: fine-tuning steps")
    axes.set_ylabel("ν of training")
