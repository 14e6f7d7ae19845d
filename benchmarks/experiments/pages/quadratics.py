"""Runs on quadratic clients beside what nufed.theory.quadratics says exactly."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from benchmarks.experiments.figures import COLOURS, figure, style
from benchmarks.experiments.methods import Outcomes
from benchmarks.experiments.pages.page import picture, table
from benchmarks.experiments.plan import MODE, NU, Job, jobs
from benchmarks.experiments.runs import Outcome
from nufed.client_app.algorithms.meta_gradient import meta_gradient_of
from nufed.server_app.run_folder import MODEL
from nufed.tasks.datasets.quadratics import clients
from nufed.theory.quadratics import (
    fixed_point_exact,
    fixed_point_first_order,
    meta_loss,
    optimum_exact,
    optimum_first_order,
)

name = "quadratics"
title = "Quadratics, where the answer is known"
settings: tuple[str, ...] = ()
TEST = (0, 1, 2, 3, 5, 10)
Array = NDArray[np.float64]


def runs(outcomes: Outcomes) -> list[Job]:
    """Return every ν, exact and first-order."""
    return jobs("quadratics")


stages = (runs,)


def section(outcomes: Outcomes, figures: Path) -> str:
    """Return how far runs end from where they must, and the matrix of losses."""
    made = [outcomes[job] for job in runs(outcomes)]
    draw(made, figures)
    rows = [
        [
            run.job[NU],
            run.job[MODE],
            f"{np.abs(model(run) - standstill(run)).max():.1e}",
            f"{np.linalg.norm(model(run) - optimum(run)):.2e}",
            f"{np.abs(measured(run) - predicted(run)).max():.1e}",
        ]
        for run in made
    ]
    head = [
        "ν",
        "mode",
        "largest error of the model against w_fed",
        "‖w_fed − w*(ν)‖, of order β",
        "largest error of the loss after 0 … 10 steps",
    ]
    exact = [run for run in made if run.job[MODE] == "exact"]
    losses = [[run.job[NU], *(f"{v:.3e}" for v in measured(run)[list(TEST)])] for run in exact]
    best = [[run.job[NU], *(f"{v:.3e}" for v in at_optimum(run)[list(TEST)])] for run in exact]
    tests = [f"{k} steps" for k in TEST]
    return f"""\
20 clients whose optimum goes with their curvature, everyone in every round, whole batches, in
float64: a run has to end at the fixed point w_fed of `nufed.theory.quadratics`. First-order runs
end where Σ M_i^ν H_i (w − c_i) = 0 up to order β, exact ones where Σ M_i^{{2ν}} H_i (w − c_i) = 0
is.

{picture("quadratics", "loss after k fine-tuning steps, measured and exact, for each ν")}

{table(head, rows)}

Loss after fine-tuning, measured (rows: ν of training):

{table(["ν of training", *tests], losses)}

The same at w*(ν), in closed form; the least of each column is on the diagonal by definition:

{table(["ν of training", *tests], best)}
"""


def problem(run: Outcome) -> tuple[Array, Array]:
    """Return the clients' Hessians and optima."""
    d = run.config.dataset
    return clients(
        d["num_clients"], d["dimension"], tuple(d["curvature"]), d["correlation"], d["seed"]
    )


def model(run: Outcome) -> Array:
    """Return the model that the run ended with."""
    weights: dict[str, Array] = load_file(run.folder / MODEL)
    (w,) = weights.values()
    return w.ravel()


def standstill(run: Outcome) -> Array:
    """Return w_fed: where rounds of τ local steps with everyone stand still."""
    a = meta_gradient_of(run.config.algorithm)
    where = fixed_point_exact if a.mode == "exact" else fixed_point_first_order
    return where(*problem(run), a.alpha, a.nu, a.beta, a.tau)


def optimum(run: Outcome) -> Array:
    """Return what w_fed tends to as β does to 0."""
    a = meta_gradient_of(run.config.algorithm)
    where = optimum_exact if a.mode == "exact" else optimum_first_order
    return where(*problem(run), a.alpha, a.nu)


def losses_at(run: Outcome, w: Array) -> Array:
    """Return the mean loss of the clients after 0 … K fine-tuning steps from w."""
    pairs = list(zip(*problem(run), strict=True))
    steps = range(run.config.evaluation.steps + 1)
    alpha = meta_gradient_of(run.config.algorithm).alpha
    return np.array([np.mean([meta_loss(H, c, w, alpha, k) for H, c in pairs]) for k in steps])


def measured(run: Outcome) -> Array:
    """Return the personalization curve of the run's end."""
    end: Array = run.curve("participating", "loss")[-1]
    return end


def predicted(run: Outcome) -> Array:
    """Return the personalization curve that it has to have."""
    return losses_at(run, standstill(run))


def at_optimum(run: Outcome) -> Array:
    """Return the personalization curve of w*(ν)."""
    return losses_at(run, optimum(run))


def draw(made: list[Outcome], figures: Path) -> None:
    """Draw measured curves as markers on exact lines."""
    title = "Quadratic clients: mean loss after k fine-tuning steps (markers) and exactly (lines)"
    exact = [run for run in made if run.job[MODE] == "exact"]
    with figure(figures / "quadratics.svg", title) as (axes_,):
        for index, run in enumerate(exact):
            steps = np.arange(run.config.evaluation.steps + 1)
            axes_.plot(steps, predicted(run), color=COLOURS[index], linewidth=1)
            marks = style(index) | {"linestyle": "none"}
            axes_.plot(steps, measured(run), label=f"trained with ν = {run.job[NU]}", **marks)
        axes_.set_yscale("log")
        axes_.set_xlabel("fine-tuning steps k")
        axes_.set_ylabel("mean loss over clients")
