"""What looking ahead gains, by how many rows a fine-tuning step sees."""

from pathlib import Path

import numpy as np

from benchmarks.experiments.figures import bars, figure
from benchmarks.experiments.methods import GROUPS, TITLES, Method, Outcomes, seeds, tuned
from benchmarks.experiments.pages.page import picture, table
from benchmarks.experiments.plan import NU, SEED, Job, axes, jobs
from benchmarks.experiments.tuning import STEPS, choose, tuning
from nufed.server_app.report.statistics import interval, paired

name = "rows"
title = "Rows that a fine-tuning step sees"
SETTING = "own_labels"
settings = (SETTING,)
SUPPORT = "algorithm.batch.support"
LEVELS = {"5": "5", "10": "10", "null": "all"}
NUS = ("1", "5")


def trials(outcomes: Outcomes) -> list[Job]:
    """Return what tunes both step sizes where a step sees more rows than the setting has it."""
    return [
        job
        for s in LEVELS
        if not default(s)
        for nu in NUS
        for job in jobs(tuning(SETTING), at(s, nu))
    ]


def runs(outcomes: Outcomes) -> list[Job]:
    """Return each ν with each number of rows."""
    return [job for s in LEVELS for nu in NUS for job in method(s, nu, outcomes).jobs()]


stages = (trials, runs)


def default(support: str) -> bool:
    """Tell whether it is the setting's own number of rows, which has been tuned."""
    return support == str(jobs(tuning(SETTING))[0].config.algorithm["batch"]["support"])


def at(support: str, nu: str) -> dict[str, str]:
    """Return where step sizes are tuned: on the first of the seeds."""
    return {NU: nu, SUPPORT: support, SEED: axes(tuning(SETTING))[SEED][0]}


def method(support: str, nu: str, outcomes: Outcomes) -> Method:
    """Return ν with its best step sizes for a number of rows."""
    if default(support):
        return Method(SETTING, nu, tuned(SETTING, outcomes, nu))
    choice = choose(outcomes, tuning(SETTING), at(support, nu))
    return Method(SETTING, nu, choice, also=((SUPPORT, support),))


def section(outcomes: Outcomes, figures: Path) -> str:
    """Return the gain for each number of rows."""
    draw(outcomes, figures)
    rows = []
    for group in GROUPS:
        for support, words in LEVELS.items():
            one, five = (method(support, nu, outcomes) for nu in NUS)
            ends = [m.finals(outcomes, group)[:, STEPS] for m in (one, five)]
            rows.append(
                [
                    words,
                    group,
                    *(m.choice.text for m in (one, five)),
                    *(interval(end).text(3, sign=False) for end in ends),
                    paired(ends[1], ends[0]).times(100).text(),
                ]
            )
    head = ["rows a step", "clients", "α and Adam's lr, ν = 1", "ν = 5"]
    head += ["accuracy, ν = 1", "accuracy, ν = 5", "points, ν = 5 over 1"]
    return f"""{TITLES[SETTING]}, {seeds(SETTING)} seeds:
a client's inner steps, in training and in testing, see 5, 10 or all 38 of its train rows. Both step
sizes are tuned for each, by as many trials for one ν as for the other (for 10 and all, on one
seed); * is at the edge of what was tried. The theory has the noise of the inner batches fall with
their size: with all rows nothing is left that more and shorter steps could average out.

{picture("rows", "accuracy after five steps by rows a fine-tuning step sees")}

{table(head, rows)}
"""


def draw(outcomes: Outcomes, figures: Path) -> None:
    """Draw the accuracy of both ν for each number of rows."""
    title = (
        f"{TITLES[SETTING]}: accuracy after {STEPS} steps; "
        f"mean and 95% interval of {seeds(SETTING)} seeds"
    )
    with figure(figures / "rows.svg", title, columns=2) as panels:
        for panel, group in zip(panels, GROUPS, strict=True):
            for index, nu in enumerate(NUS):
                ends = [method(s, nu, outcomes).finals(outcomes, group)[:, STEPS] for s in LEVELS]
                where = np.arange(float(len(LEVELS))) + (index - 0.5) * 0.08
                bars(panel, where, [interval(end) for end in ends], f"trained with ν = {nu}", index)
            panel.set_xticks(range(len(LEVELS)), LEVELS.values())
            panel.set_xlabel("rows a fine-tuning step sees")
            panel.set_title(f"{group} clients", fontsize=9)
        panels[0].set_ylabel("accuracy")
