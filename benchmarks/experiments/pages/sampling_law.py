"""How far sampling keeps a run from its optimum: the law βτ s γ_F², and the exact value.

For clients f_i(w) = h₀/2 ‖w − c_i‖² of one curvature h₀, ∇F_i(w) = h (w − c_i) with
h = h₀ (1 − α h₀)^{2ν}. A round moves a sampled client from w to c_i + p (w − c_i), p = (1 − βh)^τ,
and m of n clients drawn without replacement average to w' = p w + (1 − p) c̄_S. In the long run

    E‖∇F(w)‖² = s γ_F² (1 − p) / (1 + p),    s = (n − m) / (m (n − 1)),

with γ_F² the mean squared distance of the ∇F_i from ∇F. It is about s γ_F² βτh/2, which grows with
τ: one sample of clients serves τ steps, so its error adds up, as in the theorem.
"""

from pathlib import Path

import numpy as np

from benchmarks.experiments.figures import COLOURS, bars, figure
from benchmarks.experiments.methods import Outcomes
from benchmarks.experiments.pages.page import picture, table
from benchmarks.experiments.plan import SEED, Job, axes, jobs
from benchmarks.experiments.runs import Outcome
from nufed.client_app.algorithms.meta_gradient import meta_gradient_of
from nufed.conf.schema import Config
from nufed.server_app.report.statistics import Interval, interval
from nufed.tasks.datasets.quadratics import clients
from nufed.theory.quadratics import contraction, meta_loss

name = "sampling_law"
title = "Local steps and sampled clients"
settings: tuple[str, ...] = ()
TAU, SAMPLED = "algorithm.tau", "clients_per_round"
KEPT = 0.5  # of the rounds: the rest is the way from the first model
DEFAULT = {TAU: "5", SAMPLED: "2"}


def runs(outcomes: Outcomes) -> list[Job]:
    """Return the sweep over τ, and that over m, which share their middle."""
    return [
        job
        for job in jobs("sampling_law")
        if any(job[key] == value for key, value in DEFAULT.items())
    ]


stages = (runs,)


def section(outcomes: Outcomes, figures: Path) -> str:
    """Return measured and exact values."""
    points = {key: sweep(outcomes, key) for key in (TAU, SAMPLED)}
    draw(points, figures)
    rows = [
        [f"{key.rsplit('.', 1)[-1]} = {value}", measured.text(4, sign=False), f"{exact:.4f}",
         f"{measured.mean / exact:.3f}"]
        for key, sweep_points in points.items()
        for value, (measured, exact) in sweep_points.items()
    ]  # fmt: skip
    head = ["", "measured ‖∇F(w)‖² / γ_F²", "exact in the long run", "ratio"]
    seeds = len(axes("sampling_law")[SEED])
    return f"""\
Quadratic clients of one curvature, ν = 2; τ = {DEFAULT[TAU]}, and m = {DEFAULT[SAMPLED]} of 20
clients, where they are not swept: how large ‖∇F(w)‖² stays, mean over the second half of a run and
{seeds} seeds. The exact value is s γ_F² (1 − p)/(1 + p) with p = (1 − βh)^τ: nearly proportional to
βτ and to s = (n − m)/(m(n − 1)), as the theorem's term βτ L_F s γ_F² is, and no slower in τ.

{picture("sampling-law", "squared norm of the meta-gradient against local steps and clients")}

{table(head, rows)}
"""


def sweep(outcomes: Outcomes, key: str) -> dict[str, tuple[Interval, float]]:
    """Return measured and exact ‖∇F‖² / γ_F² for each value of one key."""
    (other,) = set(DEFAULT) - {key}
    found: dict[str, tuple[Interval, float]] = {}
    for value in axes("sampling_law")[key]:
        made = [outcomes[j] for j in jobs("sampling_law", {key: value, other: DEFAULT[other]})]
        found[value] = interval([measured(run) for run in made]), exact(made[0].config)
    return found


def curvature(config: Config) -> float:
    """Return h = h₀ (1 − α h₀)^{2ν}, the curvature of F."""
    h, a = config.dataset["curvature"][0], meta_gradient_of(config.algorithm)
    return float(h * (1 - a.alpha * h) ** (2 * a.nu))


def exact(config: Config) -> float:
    """Return E‖∇F(w)‖² / γ_F² in the long run."""
    n, m = config.dataset["num_clients"], config.clients_per_round
    a = meta_gradient_of(config.algorithm)
    p = (1 - a.beta * curvature(config)) ** a.tau
    return float((n - m) / (m * (n - 1)) * (1 - p) / (1 + p))


def measured(run: Outcome) -> float:
    """Return the mean of ‖∇F(w)‖² / γ_F² over a run's later rounds.

    From the loss after ν steps, which is F itself: F(w) − F* = ‖∇F(w)‖² / 2h.
    """
    d, a = run.config.dataset, meta_gradient_of(run.config.algorithm)
    hessians, optima = clients(
        d["num_clients"], d["dimension"], tuple(d["curvature"]), d["correlation"], d["seed"]
    )
    centre, h = optima.mean(0), curvature(run.config)
    least = np.mean([
        meta_loss(H, c, centre, a.alpha, a.nu) for H, c in zip(hessians, optima, strict=True)
    ])  # fmt: skip
    spread = np.mean(np.sum((h * (optima - centre)) ** 2, axis=1))
    assert np.allclose(contraction(hessians, a.alpha), contraction(hessians, a.alpha)[0])
    losses = run.curve("participating", "loss")[:, a.nu]
    later = losses[int(len(losses) * (1 - KEPT)) :]
    return float(2 * h * (later.mean() - least) / spread)


def draw(points: dict[str, dict[str, tuple[Interval, float]]], figures: Path) -> None:
    """Draw both sweeps on logarithmic axes."""
    seeds = len(axes("sampling_law")[SEED])
    title = (
        "How large ‖∇F(w)‖² stays, over γ_F²: quadratic clients, "
        f"mean and 95% interval of {seeds} seeds"
    )
    words = {TAU: "local steps τ", SAMPLED: "clients a round, m of 20"}
    with figure(figures / "sampling-law.svg", title, columns=2) as panels:
        for panel, (key, sweep_points) in zip(panels, points.items(), strict=True):
            x = np.array([float(value) for value in sweep_points])
            pairs = list(sweep_points.values())
            panel.plot(x, [e for _, e in pairs], color=COLOURS[1], label="exact in the long run")
            bars(panel, x, [m for m, _ in pairs], "measured", 0)
            panel.lines[1].set_linestyle("none")
            panel.set_xscale("log")
            panel.set_yscale("log")
            panel.set_xticks(x, [f"{value:g}" for value in x])
            panel.minorticks_off()
            panel.set_xlabel(words[key])
        panels[0].set_ylabel("‖∇F(w)‖² / γ_F²")
