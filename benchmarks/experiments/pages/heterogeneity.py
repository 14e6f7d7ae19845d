"""What ν gains as clients become alike."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.experiments.figures import bars, figure
from benchmarks.experiments.methods import GROUPS, Outcomes, tuned
from benchmarks.experiments.pages.page import picture, table
from benchmarks.experiments.plan import ALPHA, NU, SEED, Job, axes, jobs
from benchmarks.experiments.tuning import STEPS, Choice, choose, outer_key, tuning
from nufed.server_app.report.statistics import Array, interval, paired

name = "heterogeneity"
title = "Heterogeneity"
SETTING = "fashion_shards"  # whose α is taken
settings = (SETTING,)
SWEEPS = {
    "heterogeneity_shards": ("partition.partitioner.num_classes_per_partition", "classes a client"),
    "heterogeneity_dirichlet": ("partition.partitioner.alpha", "Dirichlet parameter"),
}
PAIRS = (("5", "1"), ("5", "0"), ("1", "0"))
CONTROL, LONGER = "1000.0", 300  # rounds, to tell who is better there from who is faster


class Case(NamedTuple):
    """A level of a sweep, and what its runs have beside."""

    sweep: str
    level: str
    also: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """How tables and figures call it."""
        return f"{float(self.level):g}" + (f", {LONGER} rounds" if self.also else "")


def cases(sweep: str) -> list[Case]:
    """Return the levels of a sweep, the control a second time with more rounds."""
    key, _ = SWEEPS[sweep]
    levels = [Case(sweep, level) for level in axes(sweep)[key]]
    longer = (("rounds", str(LONGER)), ("evaluation.every", str(LONGER // 15)))
    return levels + [case._replace(also=longer) for case in levels if case.level == CONTROL]


def trials(outcomes: Outcomes) -> list[Job]:
    """Return what tunes β for each ν at each level."""
    return [
        job
        for sweep in SWEEPS
        for nu in axes(sweep)[NU]
        for job in jobs(tuning(sweep), {NU: nu, ALPHA: tuned(SETTING, outcomes, nu).alpha})
    ]


def runs(outcomes: Outcomes) -> list[Job]:
    """Return ν = 0, 1 and 5 at each level, with its own β."""
    return [
        job
        for sweep in SWEEPS
        for case in cases(sweep)
        for nu in axes(sweep)[NU]
        for job in runs_of(case, nu, outcomes)
    ]


stages = (trials, runs)


def chosen(case: Case, nu: str, outcomes: Outcomes) -> Choice:
    """Return the step sizes for ν at a level: α of two classes a client, and β tuned there."""
    key, _ = SWEEPS[case.sweep]
    alpha = tuned(SETTING, outcomes, nu).alpha
    return choose(outcomes, tuning(case.sweep), {NU: nu, ALPHA: alpha, key: case.level})


def runs_of(case: Case, nu: str, outcomes: Outcomes) -> list[Job]:
    """Return the runs of ν, one a seed."""
    key, _ = SWEEPS[case.sweep]
    choice = chosen(case, nu, outcomes)
    sizes = {ALPHA: choice.alpha, outer_key(tuning(case.sweep)): choice.outer}
    return jobs(case.sweep, {NU: nu, key: case.level} | sizes | dict(case.also))


def finals(case: Case, nu: str, group: str, outcomes: Outcomes) -> Array:
    """Return the accuracy after five steps at the end of the runs, [seeds]."""
    made = runs_of(case, nu, outcomes)
    return np.array([outcomes[job].final(group, "accuracy")[STEPS] for job in made])


def section(outcomes: Outcomes, figures: Path) -> str:
    """Return the gains at each level."""
    draw(outcomes, figures)
    seeds = len(axes("heterogeneity_shards")[SEED])
    rounds = jobs("heterogeneity_shards")[0].config.rounds
    text = f"""\
Fashion-MNIST over 100 clients (by classes) or 50 (Dirichlet), {seeds} seeds. β is tuned at every
level for every ν (* is at the edge of what was tried), α for every ν on two classes a client.
Dirichlet(1000) is the control: clients that are alike, where looking ahead should gain nothing; it
is run {LONGER} rounds as well, as the others' {rounds} may show who is faster rather than who is
better.

{picture("heterogeneity", "points that ν gains at each level of heterogeneity")}
"""
    for sweep, (_, words) in SWEEPS.items():
        nus = axes(sweep)[NU]
        for group in GROUPS:
            rows = []
            for case in cases(sweep):
                by_nu = {nu: finals(case, nu, group, outcomes) for nu in nus}
                gains = [paired(by_nu[a], by_nu[b]).times(100).text() for a, b in PAIRS]
                means = [interval(v).text(3, sign=False) for v in by_nu.values()]
                betas = ", ".join(chosen(case, nu, outcomes).outer_text for nu in nus)
                rows.append([case.name, betas, *means, *gains])
            head = [
                words,
                f"β for ν = {', '.join(nus)}",
                *(f"accuracy, ν = {nu}" for nu in nus),
                *(f"points, ν = {a} over {b}" for a, b in PAIRS),
            ]
            text += f"\n**{group.capitalize()} clients**\n\n{table(head, rows)}\n"
    return text


def draw(outcomes: Outcomes, figures: Path) -> None:
    """Draw what ν gains at each level, of new clients."""
    seeds = len(axes("heterogeneity_shards")[SEED])
    title = (
        "Fashion-MNIST: points that ν gains in new clients' accuracy after 5 steps; "
        f"mean and 95% interval of {seeds} seeds"
    )
    with figure(figures / "heterogeneity.svg", title, columns=2) as panels:
        for panel, (sweep, (_, words)) in zip(panels, SWEEPS.items(), strict=True):
            levels = cases(sweep)
            for index, (a, b) in enumerate(PAIRS):
                ours, theirs = (
                    [finals(case, nu, "new", outcomes) for case in levels] for nu in (a, b)
                )
                gains = [paired(*pair).times(100) for pair in zip(ours, theirs, strict=True)]
                where = np.arange(float(len(levels))) + (index - 1) * 0.08
                bars(panel, where, gains, f"ν = {a} over ν = {b}", index)
            panel.axhline(0, color="black", linewidth=0.8)
            panel.set_xticks(range(len(levels)), [case.name.replace(", ", "\n") for case in levels])
            panel.set_xlabel(f"{words} (right: clients more alike)")
        panels[0].set_ylabel("percentage points")
