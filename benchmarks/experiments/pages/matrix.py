"""ν of training against ν of testing."""

from pathlib import Path

import numpy as np

from benchmarks.experiments.figures import figure, heat
from benchmarks.experiments.methods import (
    GROUPS,
    SETTINGS,
    TITLES,
    Method,
    Outcomes,
    matrix_methods,
    matrix_trials,
    seeds,
)
from benchmarks.experiments.pages.page import heading, table
from benchmarks.experiments.plan import Job
from nufed.server_app.report.statistics import Array, interval, paired

name = "matrix"
title = "ν of training against ν of testing"
settings = SETTINGS
TEST = (0, 1, 2, 3, 5, 10)


def trials(outcomes: Outcomes) -> list[Job]:
    """Return what tunes the outer step of every ν at one α."""
    return [job for setting in SETTINGS for job in matrix_trials(setting, outcomes)]


def runs(outcomes: Outcomes) -> list[Job]:
    """Return every ν of training on every setting."""
    return [job for s in SETTINGS for m in matrix_methods(s, outcomes) for job in m.jobs()]


stages = (trials, runs)


def section(outcomes: Outcomes, figures: Path) -> str:
    """Return a matrix and its differences for each setting."""
    parts = [
        "A row is a model trained for ν steps, a column how many steps a client then takes, on its "
        "train rows; the figure is the mean accuracy on its test rows. All rows of a setting have "
        "one α, that which tuning found best *for ν = 1*; β (or the server's step size) is tuned "
        "for each ν, * is at the edge of what was tried. The prediction is that the best of each "
        "column is near the diagonal.\n",
    ]
    for setting in SETTINGS:
        methods = matrix_methods(setting, outcomes)
        draw(setting, methods, outcomes, figures)
        parts.append(heading(setting, name, "accuracy, ν of training against ν of testing"))
        parts.append(tables(setting, methods, outcomes))
    return "\n".join(parts)


def draw(setting: str, methods: list[Method], outcomes: Outcomes, figures: Path) -> None:
    """Draw the matrices of participating and of new clients."""
    alpha = methods[0].choice.alpha
    title = f"{TITLES[setting]}: mean accuracy over clients and {seeds(setting)} seeds, α = {alpha}"
    with figure(figures / f"matrix-{setting}.svg", title, columns=2) as panels:
        for axes, group in zip(panels, GROUPS, strict=True):
            values = np.stack([at_tests(m, outcomes, group).mean(0) for m in methods])
            heat(axes, values, [m.nu for m in methods], list(map(str, TEST)))
            axes.set_title(f"{group} clients", fontsize=9)


def at_tests(method: Method, outcomes: Outcomes, group: str, metric: str = "accuracy") -> Array:
    """Return a metric after each number of testing steps, [seeds, tests]."""
    return method.finals(outcomes, group, metric)[:, TEST]


def tables(setting: str, methods: list[Method], outcomes: Outcomes) -> str:
    """Return accuracy and loss, and what is gained over ν = 1 seed by seed."""
    alpha = methods[0].choice.alpha
    outer = ", ".join(f"{m.choice.outer_text} (ν = {m.nu})" for m in methods)
    text = f"α = {alpha}; outer step sizes {outer}. {seeds(setting)} seeds.\n"
    head = ["ν of training", *(f"{k} steps" for k in TEST)]
    (one,) = [method for method in methods if method.nu == "1"]
    for group in GROUPS:
        base = at_tests(one, outcomes, group)
        rows, gains, losses = [], [], []
        for method in methods:
            values = at_tests(method, outcomes, group)
            loss = at_tests(method, outcomes, group, "loss")
            rows.append([method.nu, *(interval(v).text(3, sign=False) for v in values.T)])
            losses.append([method.nu, *(f"{v.mean():.3g}" for v in loss.T)])
            if method is not one:
                pairs = zip(values.T, base.T, strict=True)
                gains.append([method.nu, *(gain(*pair) for pair in pairs)])
        text += f"""
Accuracy of **{group} clients**, with 95% intervals over seeds:

{table(head, rows)}

Points gained over training with ν = 1, seed by seed, with 95% intervals (bold where zero is out):

{table(head, gains)}

Loss:

{table(head, losses)}
"""
    return text


def gain(ours: Array, theirs: Array) -> str:
    """Return the paired difference in points, bold where it is decided."""
    difference = paired(ours, theirs).times(100)
    return f"**{difference.text()}**" if difference.decided else difference.text()
