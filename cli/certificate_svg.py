"""A run's ‖∇F(w)‖², measured, under what the theorem allows: one picture that reads by itself."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nufed.cli.certificate import Certificate
from nufed.cli.certificate_text import times
from nufed.conf.files import write_whole
from nufed.conf.text import printable
from nufed.server_app.palette import BLUE, GREY, SKY, VERMILION
from nufed.server_app.report.words import data_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DARK = b"""\
<style>@media (prefers-color-scheme: dark) {svg {filter: invert(.92) hue-rotate(180deg)}}</style>
"""
"""Light becomes dark and hues stay, where whoever looks at it has it so."""


def draw(of: Certificate, file: Path) -> None:
    """Draw measured ‖∇F‖² by round, its mean so far, and the bounds on that mean.

    Parameters
    ----------
    of
        The certificate of a run with diagnostics.
    file
        Where to, an SVG file; what is there is replaced, not written to.

    Raises
    ------
    OSError
        If it cannot be written; `file` is as it was then.
    """
    import matplotlib
    from matplotlib.figure import Figure  # seconds of imports that others need not pay

    a = of.algorithm
    with matplotlib.rc_context({"svg.hashsalt": "nufed", "font.size": 11}):
        figure = Figure(figsize=(8, 5.8), layout="constrained")
        axes = figure.subplots()
        _draw_measured(of, axes)
        _draw_bounds(of, axes)
        axes.set_yscale("log")
        axes.set_xlabel("round")
        axes.set_ylabel("squared norm of the meta-gradient ↓")
        axes.set_title(
            f"{printable(of.config.name)}, ν = {a.nu}: ‖∇F(w)‖², measured and bounded\n"
            f"α = {a.alpha:g}, β = {a.beta:g}, τ = {a.tau}, {of.rounds.per_round} of "
            f"{of.rounds.clients} clients a round\n"
            f"{printable(data_of(of.config))}\n"
            "bounds are conditional on constants that are lower estimates",
            loc="left",
            fontsize=11,
            parse_math=False,  # a $ in a name is one
        )
        axes.grid(visible=True, which="major", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside lower left", ncols=1, frameon=False)
        content = io.BytesIO()
        figure.savefig(content, format="svg", metadata={"Date": None})
    head, end, rest = content.getvalue().partition(b"<defs>")
    write_whole(file, head + DARK + end + rest)


def _draw_measured(of: Certificate, axes: "Axes") -> None:
    rounds, norms = np.array(list(of.measured)), np.array(list(of.measured.values()))
    so_far = np.cumsum(norms) / np.arange(1, len(norms) + 1)
    axes.plot(rounds, norms, "o-", color=BLUE, label="measured, all clients and rows")
    axes.plot(rounds, so_far, "--", color=SKY, label="mean of these so far")


def _draw_bounds(of: Certificate, axes: "Axes") -> None:
    """Draw the bound after each number of rounds; for the best β where the run's has none."""
    beta = of.rounds.beta if of.bound() is not None else of.best_beta
    rounds = np.unique(np.geomspace(1, max(*of.measured, 1) + 1, 60).astype(int))
    found = [bound for k in rounds if (bound := of.bound(beta, int(k))) is not None]
    label = f"bound on the mean, β = {beta:.2g}"
    if beta != of.rounds.beta:
        off = times(of.rounds.beta / of.betas.admissible)
        label += f" (the run's β is {off} times too large for any bound)"
    # That after k rounds is on the mean over w_0 … w_{k−1}; whether there is one, only β decides.
    axes.plot(rounds - 1, [bound.total for bound in found], color=VERMILION, label=label)
    axes.axhline(
        found[0].trivial, color=GREY, linestyle=":", label="known without training, q$^{2ν}$B²"
    )
