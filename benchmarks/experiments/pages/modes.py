"""The exact meta-gradient and its approximations: by rounds, and by what they compute."""

from pathlib import Path

import numpy as np

from benchmarks.experiments.figures import bars, figure
from benchmarks.experiments.methods import GROUPS, TITLES, Outcomes, tuning
from benchmarks.experiments.pages.page import picture, table
from benchmarks.experiments.plan import ALPHA, NU, SEED, Job, axes
from benchmarks.experiments.plan import jobs as swept_jobs
from benchmarks.experiments.runs import gradients
from benchmarks.experiments.statistics import Array, Interval, interval, paired
from benchmarks.experiments.tuning import STEPS, choose, outer_key
from conf.schema import MODES

name = "modes"
settings = ("digits_dirichlet",)
MODE = "algorithm.mode"


def jobs(outcomes: Outcomes) -> list[Job]:
    """Return every mode at every ν."""
    return [
        tuned(setting, job, outcomes)
        for setting in settings
        for job in swept_jobs(f"modes_{setting}")
    ]


def tuned(setting: str, job: Job, outcomes: Outcomes) -> Job:
    """Return a job with the step sizes that tuning found for the exact mode and its ν."""
    choice = choose(outcomes, tuning(setting), job[NU])
    sizes = ((ALPHA, choice.alpha), (outer_key(tuning(setting)), choice.outer))
    return Job(job.experiment, (*job.choices, *sizes))


def runs_of(setting: str, nu: str, mode: str, outcomes: Outcomes) -> list[Job]:
    """Return the runs of a ν and a mode, one a seed."""
    return [
        tuned(setting, job, outcomes)
        for job in swept_jobs(f"modes_{setting}")
        if job[NU] == nu and job[MODE] == mode
    ]


def finals(setting: str, nu: str, mode: str, group: str, outcomes: Outcomes) -> Array:
    """Return the accuracy after five steps at the end of these runs, [seeds]."""
    runs = runs_of(setting, nu, mode, outcomes)
    return np.array([outcomes[job].final(group, "accuracy")[STEPS] for job in runs])


def section(outcomes: Outcomes, figures: Path) -> str:
    """Return accuracy, gradients and seconds of each mode."""
    draw(outcomes, figures)
    text = f"""## Exact, first-order, Hessian-free

At the step sizes that tuning found for the exact mode: the approximations might do better with
others. *Gradients* are those of one local step; a Hessian-vector product counts as two. *Seconds*
are a run's training, two runs side by side.

{picture("modes", "accuracy after five steps of the three modes at each ν")}
"""
    for setting in settings:
        rows = []
        for nu in axes(f"modes_{setting}")[NU]:
            exact = {g: finals(setting, nu, "exact", g, outcomes) for g in GROUPS}
            for mode in MODES:
                runs = [outcomes[job] for job in runs_of(setting, nu, mode, outcomes)]
                cells: list[object] = [nu, mode, gradients(runs[0].config.algorithm)]
                seconds = [sum(row.get("train_s", 0.0) for row in run.rows) for run in runs]
                cells.append(f"{np.median(seconds):.1f}")
                for group in GROUPS:
                    values = finals(setting, nu, mode, group, outcomes)
                    cells.append(interval(values).text(3, sign=False))
                    difference = paired(values, exact[group]).times(100).text()
                    cells.append("–" if mode == "exact" else difference)
                ended = sum(run.stopped is not None for run in runs)
                cells.append(f"{ended} of {len(runs)}" if ended else "–")
                rows.append(cells)
        head = ["ν", "mode", "gradients", "seconds"]
        head += [h for g in GROUPS for h in (f"accuracy, {g}", "points over exact")]
        text += f"\n### {TITLES[setting]}\n\n{table([*head, 'ended early'], rows)}\n"
    return text


def draw(outcomes: Outcomes, figures: Path) -> None:
    """Draw the accuracy of new clients for each mode and ν."""
    seeds = len(axes(f"modes_{settings[0]}")[SEED])
    title = f"Accuracy of new clients after 5 steps; mean and 95% interval of {seeds} seeds"
    with figure(figures / "modes.svg", title, columns=len(settings)) as panels:
        for panel, setting in zip(panels, settings, strict=True):
            nus = axes(f"modes_{setting}")[NU]
            for index, mode in enumerate(MODES):
                points: list[Interval] = [
                    interval(finals(setting, nu, mode, "new", outcomes)) for nu in nus
                ]
                shift = (index - 1) * 0.08
                bars(
                    panel, np.arange(float(len(nus))) + shift, points, mode.replace("_", "-"), index
                )
            panel.set_xticks(range(len(nus)), nus)
            panel.set_xlabel("ν of training")
            panel.set_title(TITLES[setting], fontsize=9)
        panels[0].set_ylabel("accuracy")
        panels[0].legend(fontsize=8)
