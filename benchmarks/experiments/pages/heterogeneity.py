"""What ν gains as clients become alike."""

from pathlib import Path

import numpy as np

from benchmarks.experiments.figures import bars, figure
from benchmarks.experiments.methods import GROUPS, Outcomes, tuning
from benchmarks.experiments.pages.page import picture, table
from benchmarks.experiments.plan import ALPHA, NU, SEED, Job, axes
from benchmarks.experiments.plan import jobs as swept_jobs
from benchmarks.experiments.statistics import Array, interval, paired
from benchmarks.experiments.tuning import STEPS, choose, outer_key

name = "heterogeneity"
SETTING = "fashion_shards"  # whose step sizes are taken
settings = (SETTING,)
SWEEPS = {
    "heterogeneity_shards": ("partition.partitioner.num_classes_per_partition", "classes a client"),
    "heterogeneity_dirichlet": ("partition.partitioner.alpha", "Dirichlet parameter"),
}
PAIRS = (("5", "1"), ("5", "0"), ("1", "0"))


def jobs(outcomes: Outcomes) -> list[Job]:
    """Return ν = 0, 1 and 5 at each level."""
    return [tuned(job, outcomes) for sweep in SWEEPS for job in swept_jobs(sweep)]


def tuned(job: Job, outcomes: Outcomes) -> Job:
    """Return a job with the step sizes that tuning found for its ν on two classes a client."""
    choice = choose(outcomes, tuning(SETTING), job[NU])
    sizes = ((ALPHA, choice.alpha), (outer_key(tuning(SETTING)), choice.outer))
    return Job(job.experiment, (*job.choices, *sizes))


def finals(sweep: str, level: str, nu: str, group: str, outcomes: Outcomes) -> Array:
    """Return the accuracy after five steps at the end of the runs of a level, [seeds]."""
    key, _ = SWEEPS[sweep]
    chosen = [
        tuned(job, outcomes) for job in swept_jobs(sweep) if job[key] == level and job[NU] == nu
    ]
    return np.array([outcomes[job].final(group, "accuracy")[STEPS] for job in chosen])


def section(outcomes: Outcomes, figures: Path) -> str:
    """Return the gains at each level."""
    draw(outcomes, figures)
    seeds = len(axes("heterogeneity_shards")[SEED])
    text = f"""## Heterogeneity

Fashion-MNIST over 100 clients, {seeds} seeds; the step sizes are those tuned for each ν on two
classes a client, at every level. Ten classes or Dirichlet(1000) is the control: clients that are
alike, where looking ahead should gain nothing.

{picture("heterogeneity", "points that ν gains at each level of heterogeneity")}
"""
    for sweep, (key, words) in SWEEPS.items():
        for group in GROUPS:
            rows = []
            for level in axes(sweep)[key]:
                by_nu = {nu: finals(sweep, level, nu, group, outcomes) for nu in axes(sweep)[NU]}
                gains = [paired(by_nu[a], by_nu[b]).times(100).text() for a, b in PAIRS]
                means = [interval(v).text(3, sign=False) for v in by_nu.values()]
                rows.append([level, *means, *gains])
            head = [
                words,
                *(f"accuracy, ν = {nu}" for nu in axes(sweep)[NU]),
                *(f"points, ν = {a} over {b}" for a, b in PAIRS),
            ]
            text += f"\n**{group.capitalize()} clients**\n\n{table(head, rows)}\n"
    return text


def draw(outcomes: Outcomes, figures: Path) -> None:
    """Draw what ν = 5 gains over 1 and 0 at each level, of new clients."""
    title = "Points that ν gains in new clients' accuracy after 5 steps: mean, 95% interval"
    with figure(figures / "heterogeneity.svg", title, columns=2) as panels:
        for panel, (sweep, (key, words)) in zip(panels, SWEEPS.items(), strict=True):
            levels = axes(sweep)[key]
            for index, (a, b) in enumerate(PAIRS):
                gains = [
                    paired(
                        finals(sweep, level, a, "new", outcomes),
                        finals(sweep, level, b, "new", outcomes),
                    ).times(100)
                    for level in levels
                ]
                shift = (index - 1) * 0.08
                bars(
                    panel,
                    np.arange(float(len(levels))) + shift,
                    gains,
                    f"ν = {a} over ν = {b}",
                    index,
                )
            panel.axhline(0, color="black", linewidth=0.8)
            panel.set_xticks(range(len(levels)), levels)
            panel.set_xlabel(f"{words} (right: clients alike)")
        panels[0].set_ylabel("percentage points")
        panels[0].legend(fontsize=8)
