"""docs/results.md: what was found, first in a few lines, then section by section."""

from pathlib import Path

import numpy as np

from benchmarks import machine
from benchmarks.experiments.methods import GROUPS, SETTINGS, TITLES, Method, Outcomes, tuned_methods
from benchmarks.experiments.pages import (
    heterogeneity,
    matrix,
    modes,
    quadratics,
    rounds,
    sampling_law,
)
from benchmarks.experiments.pages.page import Page, table
from benchmarks.experiments.statistics import paired, saving
from benchmarks.experiments.tuning import STEPS

PAGES: tuple[Page, ...] = (matrix, rounds, heterogeneity, modes, sampling_law, quadratics)
CLAIMED = 37.0  # percent fewer rounds, the figure to test

HEAD = """# Results

Written by `make experiments` from the run folders that it leaves in `runs/experiments/`; nothing
here is typed by hand but what introduces the tables.

Test rows are held out of every client's rows, and no gradient is taken on them; *new* clients never
trained. Step sizes are chosen by rows held out of the *train* rows of participating clients, on
another draw of the federation, with as many trials for one method as for another. Every run of a
seed has the same clients, first model and sampled clients, so differences are taken seed by seed;
intervals are Student's t, 95%, over seeds. A figure can be had again by

    nufed hydra.mode=RUN experiment=compare_own_labels algorithm.nu=5 algorithm.alpha=… seed=0
"""


def document(pages: tuple[Page, ...], outcomes: Outcomes, figures: Path) -> str:
    """Draw all figures, and return the text."""
    about = machine.facts()
    where = f"Run on {about['cpu']}, {about['cores']} cores, at commit {machine.commit()}.\n"
    verdicts = [verdict(outcomes)] if rounds in pages else []
    return "\n".join([HEAD, where, *verdicts, *(page.section(outcomes, figures) for page in pages)])


def verdict(outcomes: Outcomes) -> str:
    """Return what the claims come to on each setting."""
    rows = []
    for setting in SETTINGS:
        methods = tuned_methods(setting, outcomes)
        base, ours = methods[0], next(m for m in methods if m.nu == "5")
        for group in GROUPS:
            rows.append([TITLES[setting], group, *claims(base, ours, outcomes, group)])
    head = [
        "setting",
        "clients",
        "points, ν = 5 over Per-FedAvg",
        "more accurate?",
        "% fewer rounds to 95%",
        f"≥ {CLAIMED:.0f}%?",
    ]
    return f"""## What the claims come to

NuFed with ν = 5 against Per-FedAvg (ν = 1) at its own best α, accuracy after {STEPS} fine-tuning
steps. *Yes* and *no* are said where the interval leaves no doubt, *open* where it does.

{table(head, rows)}
"""


def claims(base: Method, ours: Method, outcomes: Outcomes, group: str) -> list[str]:
    """Return both claims with their intervals and what they come to."""
    final, base_final = (m.finals(outcomes, group)[:, STEPS] for m in (ours, base))
    gain = paired(final, base_final).times(100)
    target = 0.95 * base_final.mean()
    reached = [rounds.rounds_of(m, outcomes, group, target) for m in (ours, base)]
    fewer = saving(*reached)
    if fewer is None:
        there = f"{np.isfinite(reached[0]).sum()} of {len(reached[0])} seeds got there"
        return [gain.text(), said(gain.low > 0, gain.high < 0), there, "no"]
    enough = said(fewer.low >= CLAIMED, fewer.high < CLAIMED)
    return [gain.text(), said(gain.low > 0, gain.high < 0), fewer.text(0), enough]


def said(yes: bool, no: bool) -> str:
    """Return the word for a decided or an open question."""
    return "**yes**" if yes else "no" if no else "open"
