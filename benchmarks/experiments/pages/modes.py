"""The exact meta-gradient and its approximations: by rounds, and by what they compute."""

from pathlib import Path

import numpy as np

from benchmarks.experiments.figures import bars, figure
from benchmarks.experiments.methods import GROUPS, TITLES, Method, Outcomes, seeds, tuned
from benchmarks.experiments.pages.page import picture, table
from benchmarks.experiments.plan import ALPHA, MODE, NU, Job, jobs
from benchmarks.experiments.tuning import STEPS, choose, tuning
from nufed.client_app.meta_gradient import MODES
from nufed.server_app.report.statistics import interval, paired

name = "modes"
title = "Exact, first-order, Hessian-free"
EXACT, *APPROXIMATIONS = MODES
NUS = {"digits_dirichlet": ("1", "2", "5", "10")}
settings = tuple(NUS)
SHARE = 0.95  # of the exact mode's final accuracy, to which rounds are counted


def trials(outcomes: Outcomes) -> list[Job]:
    """Return what tunes the outer step of each mode, at the α of the exact one."""
    return [
        job
        for setting, nus in NUS.items()
        for nu in nus
        for mode in APPROXIMATIONS
        for job in jobs(tuning(setting), at(setting, nu, mode, outcomes))
    ]


def runs(outcomes: Outcomes) -> list[Job]:
    """Return every mode at every ν."""
    return [
        job
        for setting, nus in NUS.items()
        for nu in nus
        for method in methods(setting, nu, outcomes)
        for job in method.jobs()
    ]


stages = (trials, runs)


def at(setting: str, nu: str, mode: str, outcomes: Outcomes) -> dict[str, str]:
    """Return where the outer step size of a mode is tuned."""
    return {NU: nu, ALPHA: tuned(setting, outcomes, nu).alpha, MODE: mode}


def methods(setting: str, nu: str, outcomes: Outcomes) -> list[Method]:
    """Return the three modes of a ν, the exact one first."""
    found = [Method(setting, nu, tuned(setting, outcomes, nu))]
    for mode in APPROXIMATIONS:
        choice = choose(outcomes, tuning(setting), at(setting, nu, mode, outcomes))
        found.append(Method(setting, nu, choice, also=((MODE, mode),)))
    return found


def section(outcomes: Outcomes, figures: Path) -> str:
    """Return accuracy, rounds and gradients of each mode."""
    draw(outcomes, figures)
    text = f"""\
All at the α that is best for the exact mode, each with its own outer step size (* is at the edge
of what was tried). *Rounds* are those to {SHARE:.0%} of what the exact mode ends with, of new
clients; *gradients* what a sampled client takes in these: a Hessian-vector product counts as two.

{picture("modes", "accuracy after five steps of the three modes at each ν")}
"""
    head = ["ν", "mode", "outer step", "rounds", "gradients"]
    head += [h for g in GROUPS for h in (f"accuracy, {g}", "points over exact")]
    for setting, nus in NUS.items():
        by_nu = [methods(setting, nu, outcomes) for nu in nus]
        rows = [row(method, three[0], outcomes) for three in by_nu for method in three]
        text += f"\n### {TITLES[setting]}\n\n{table([*head, 'ended early'], rows)}\n"
    return text


def row(method: Method, exact: Method, outcomes: Outcomes) -> list[object]:
    """Return the row of a mode."""
    made = [outcomes[job] for job in method.jobs()]
    goal = SHARE * float(exact.finals(outcomes, "new")[:, STEPS].mean())
    rounds = method.rounds_to(outcomes, "new", goal)
    if np.isfinite(rounds).all():
        needed = [f"{rounds.mean():.0f}", f"{rounds.mean() * method.cost(outcomes):.0f}"]
    else:
        needed = [f"{np.isfinite(rounds).sum()} of {len(rounds)} seeds", "–"]
    mode = made[0].config.algorithm["mode"]
    cells: list[object] = [method.nu, mode, method.choice.outer_text, *needed]
    for group in GROUPS:
        final, base = (m.finals(outcomes, group)[:, STEPS] for m in (method, exact))
        cells.append(interval(final).text(3, sign=False))
        cells.append("–" if method == exact else paired(final, base).times(100).text())
    ended = sum(run.stopped is not None for run in made)
    return [*cells, f"{ended} of {len(made)}" if ended else "–"]


def draw(outcomes: Outcomes, figures: Path) -> None:
    """Draw the accuracy of new clients for each mode and ν."""
    title = f"Accuracy of new clients after {STEPS} steps; mean and 95% interval over seeds"
    with figure(figures / "modes.svg", title, columns=len(NUS)) as panels:
        for panel, (setting, nus) in zip(panels, NUS.items(), strict=True):
            by_nu = [methods(setting, nu, outcomes) for nu in nus]
            for index, mode in enumerate(MODES):
                points = [
                    interval(three[index].finals(outcomes, "new")[:, STEPS]) for three in by_nu
                ]
                where = np.arange(float(len(nus))) + (index - 1) * 0.08
                bars(panel, where, points, mode.replace("_", "-"), index)
            panel.set_ylim(top=1.0)
            panel.set_xticks(range(len(nus)), nus)
            panel.set_xlabel("ν of training")
            panel.set_title(f"{TITLES[setting]}, {seeds(setting)} seeds", fontsize=9)
        panels[0].set_ylabel("accuracy")
