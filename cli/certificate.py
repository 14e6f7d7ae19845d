"""The certificate of a task or a run: estimates, constants, steps and bounds, as tables."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from safetensors.torch import load_file

from client_app.meta_gradient import Params, descend
from conf.errors import InputError
from conf.schema import Config
from server_app.run_folder import METRICS, MODEL
from strategies.roster import choose_new_clients
from tasks.task import build
from theory.constants import (
    Constants,
    Method,
    growth,
    heterogeneity,
    smoothness,
)
from theory.ensemble import Ensemble
from theory.estimate import Effort, Estimates, estimate, largest
from theory.estimator import estimator
from theory.sampled import Estimate
from theory.theorem import (
    Bound,
    LargestBeta,
    Rounds,
    best_beta,
    bound,
    largest_beta,
    suggested_alpha,
)

PROBE = 3  # rounds, where no run shows where training leads
CONDITION = "lower estimates of suprema: what follows is conditional on them"
CONSTANTS = {
    "L": ("L", "largest curvature ‖∇²f_i‖"),
    "negative": ("l", "negative curvature"),
    "rho": ("ρ", "change of curvature"),
    "B": ("B", "gradients ‖∇f_i‖"),
    "sigma_G": ("σ_G", "spread over rows, gradients"),
    "sigma_H": ("σ_H", "spread over rows, Hessians"),
    "gamma_G": ("γ_G", "spread over clients, gradients"),
    "gamma_H": ("γ_H", "spread over clients, Hessians"),
}
BECAUSE = "because of"
TERMS = {
    "initial": "initial gap, 2Δ/(βτK)",
    "noise": "noise of batches, σ_F²",
    "heterogeneity": "heterogeneity, γ_F²",
    "bias": "bias, b²",
}
REMEDIES = {
    "initial": "more rounds make it smaller",
    "noise": "larger batches, more clients a round or a smaller β make it smaller",
    "heterogeneity": "more clients a round, fewer local steps or a smaller β make it smaller",
    "bias": "no rounds and no β, only larger support batches or a smaller α make it smaller",
}


@dataclass(frozen=True)
class Certificate:
    """What was measured, and what it is of."""

    config: Config
    estimates: Estimates
    where: str
    """The models that were measured."""
    rounds: Rounds
    gap: float
    """F(w_0) − 0 ≥ F(w_0) − inf F: no loss of ours is below 0."""
    measured: dict[int, float]
    """Round -> ‖∇F(w)‖², of a run with diagnostics."""

    @property
    def constants(self) -> Constants:
        """The estimates as the theory takes them."""
        return self.estimates.constants

    @property
    def method(self) -> Method:
        """How the meta-gradient is estimated."""
        return Method.of(self.config.algorithm)

    @property
    def betas(self) -> LargestBeta:
        """The largest β, safe and admissible."""
        return largest_beta(self.constants, self.method, self.rounds)

    def bound(self, beta: float | None = None, rounds: int | None = None) -> Bound | None:
        """Return the bound for the configured β and number of rounds, or for others."""
        given = self.rounds
        changed = replace(given, beta=beta or given.beta, rounds=rounds or given.rounds)
        return bound(self.constants, self.method, changed, self.gap)

    @property
    def best_beta(self) -> float:
        """The β with the smallest bound."""
        return best_beta(self.constants, self.method, self.rounds, self.gap)


def certificate(config: Config, folder: Path | None, effort: Effort) -> Certificate:
    """Measure a task at its initial model and after a short probe, or at both ends of a run.

    Raises
    ------
    InputError
        If the run's model cannot be read, or a loss is not finite.
    """
    task, a = build(config), config.algorithm
    new = choose_new_clients(task.data.num_clients, config.evaluation.new_clients, config.seed)
    clients = [i for i in range(task.data.num_clients) if i not in new]
    initial, method = task.initial_params(), Method.of(a)
    sample = effort.clients or 50, effort.rows or 256
    ensemble = Ensemble(task, clients, *sample, np.random.default_rng(config.seed))
    gap = float(ensemble.meta(ensemble.flat(initial), method)[0].double().mean())
    rows = [] if folder is None else _diagnosed(folder)
    if folder is None:
        last, where = _probe(ensemble, initial, method, a.beta * a.tau), f"{PROBE} rounds on"
    else:
        last, where = _model(folder, initial), "last"
    found = estimate(task, [initial, last], method, clients, effort=effort, seed=config.seed)
    seen = [e for row in rows if (e := _estimates(row)) is not None]
    found = replace(found, of=largest([found.of, *seen]))
    where = f"the initial model and the {where}" if folder else f"the initial model and {where}"
    if seen:
        where += f", and in {len(seen)} diagnosed rounds"
    if not all(math.isfinite(each.value) for each in found.of.values()):
        raise InputError(
            f"algorithm.alpha={a.alpha:g}, algorithm.beta={a.beta:g}: the loss is not finite where "
            "these steps lead; lower one of them"
        )
    m = config.clients_per_round
    if config.fraction is not None:
        m = max(1, round(config.fraction * len(clients)))
    rounds = Rounds(len(clients), min(m, len(clients)), a.tau, a.beta, max(config.rounds, 1))
    measured = {
        row["round"]: norm2
        for row in rows
        if (norm2 := row["diagnostics"]["meta_grad_norm2"]) is not None
    }
    return Certificate(config, found, where, rounds, gap, measured)


def _probe(ensemble: Ensemble, initial: Params, method: Method, step: float) -> Params:
    """Return where a few steps along −∇F lead, each as long as a round's."""
    w = initial
    for _ in range(PROBE):
        gradient = ensemble.meta(ensemble.flat(w), method)[1].mean(0)
        w = descend(w, ensemble.params(gradient), step)
    return w


def _model(folder: Path, like: Params) -> Params:
    """Read a run's last model."""
    file = folder / MODEL
    if not file.is_file():
        raise InputError(f"{folder}: has no {MODEL}; the run has not ended yet")
    model = load_file(file)
    if {name: p.shape for name, p in model.items()} != {name: p.shape for name, p in like.items()}:
        raise InputError(f"{file}: is not of the model that {folder.name} describes")
    return {name: model[name].to(p) for name, p in like.items()}


def _diagnosed(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of metrics.jsonl that have diagnostics."""
    file = folder / METRICS
    lines = file.read_text().splitlines() if file.is_file() else []
    return [row for row in map(json.loads, lines) if "diagnostics" in row]


def _estimates(row: dict[str, Any]) -> dict[str, Estimate] | None:
    """Return a diagnosed round's estimates, None if it has none or they were not finite."""
    found = row["diagnostics"].get("estimates", {})
    read = {name: Estimate(each["value"], each["errors"]) for name, each in found.items()}
    whole = read and not any(None in (e.value, *e.errors.values()) for e in read.values())
    return read if whole else None


def tables(of: Certificate) -> Iterator[Table]:
    """Yield the tables of a certificate."""
    yield _estimate_table(of)
    yield _objective_table(of)
    yield _step_table(of)
    yield _bound_table(of)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i and column != BECAUSE else "left")
    return table


def _estimate_table(of: Certificate) -> Table:
    table = _table(CONDITION, "constant", "estimate", "±", BECAUSE)
    for name, (symbol, meaning) in CONSTANTS.items():
        each = of.estimates.of[name]
        by = ", ".join(
            kind for kind, error in each.errors.items() if error > 1e-9 * abs(each.value)
        )
        error = f"{each.error:.2g}" if by else "0"
        table.add_row(f"{symbol:3}  {meaning}", f"{each.value:.3g}", error, by)
    return table


def heading(of: Certificate) -> Iterator[str]:
    """Yield what is certified, and what was measured."""
    a, rounds, found = of.config.algorithm, of.rounds, of.estimates
    yield (
        f"{of.config.name}: ν={a.nu}, α={a.alpha:g}, β={a.beta:g}, τ={a.tau}, {a.mode}; "
        f"{rounds.per_round} of {rounds.clients} clients a round, {rounds.rounds} rounds"
    )
    rows = f"{found.rows} of {found.all_rows}" if found.rows < found.all_rows else f"{found.rows}"
    yield (
        f"measured at {of.where}, on {found.clients} of {found.all_clients} clients with "
        f"{rows} train rows at most"
    )


def _objective_table(of: Certificate) -> Table:
    constants, method = of.constants, of.method
    q, noise = growth(constants, method.alpha), estimator(constants, method)
    table = _table("the meta-objective F", "constant", "value")
    table.add_row("q    growth of a fine-tuning step", f"{q:.4g}")
    table.add_row(f"q^ν  of all {method.nu}", f"{q**method.nu:.4g}")
    table.add_row("L_F  smoothness of ∇F", f"{smoothness(constants, method):.3g}")
    table.add_row("γ_F  spread of ∇F_i over clients", f"{heterogeneity(constants, method):.3g}")
    table.add_row("b    bias of a meta-gradient", f"{noise.bias:.3g}")
    table.add_row("σ_F  its standard deviation", f"{math.sqrt(noise.variance):.3g}")
    return table


def _step_table(of: Certificate) -> Table:
    alpha, beta = suggested_alpha(of.constants, of.method.nu), of.betas
    given = of.config.algorithm
    table = _table("step sizes", "step", "value", "configured is")
    table.add_row("α    safe: 1/(νL)", f"{alpha:.3g}", f"{times(given.alpha / alpha)} times that")
    for name, value in (
        ("safe: βτL_F = 1/10", beta.safe),
        ("largest with a bound", beta.admissible),
        ("smallest bound", of.best_beta),
    ):
        table.add_row(f"β    {name}", f"{value:.3g}", f"{times(given.beta / value)} times that")
    return table


def _bound_table(of: Certificate) -> Table:
    betas = {"configured": of.rounds.beta, "safe": of.betas.safe, "best": of.best_beta}
    bounds = {name: of.bound(beta) for name, beta in betas.items()}
    table = _table(
        f"bound on the mean of E‖∇F(w)‖² over {of.rounds.rounds} rounds",
        "term",
        *(f"{name} β={beta:.2g}" for name, beta in betas.items()),
    )
    for term, meaning in TERMS.items():
        table.add_row(meaning, *(_number(b, term) for b in bounds.values()))
    table.add_section()
    table.add_row("together", *(_number(b, "total") for b in bounds.values()))
    table.add_row("anyway: q^2ν B²", *(_number(b, "trivial") for b in bounds.values()))
    return table


def times(ratio: float) -> str:
    """Return how many times something is something else."""
    return f"{ratio:,.0f}" if 100 <= ratio < 1e6 else f"{ratio:.3g}"


def _number(of: Bound | None, name: str) -> str:
    return "none" if of is None else f"{getattr(of, name):.3g}"


def sentences(of: Certificate) -> Iterator[str]:
    """Yield what the tables come to, in words."""
    configured, beta = of.bound(), of.rounds.beta
    if configured is None:
        yield f"β={beta:g} is {times(beta / of.betas.admissible)} times too large for any bound."
    shown = configured or of.bound(of.best_beta)
    assert shown is not None
    at = f"β={beta:g}" if configured else f"the best β={of.best_beta:.2g}"
    if shown.vacuous:
        yield (
            f"At {at} the bound is vacuous: {shown.total:.3g}, and ‖∇F‖² ≤ {shown.trivial:.3g} "
            "anywhere, trained or not."
        )
    else:
        yield f"At {at} the mean of E‖∇F‖² over the rounds is at most {shown.total:.3g}."
    yield f"What dominates: {TERMS[shown.dominating]}; {REMEDIES[shown.dominating]}."
    if of.method.mode == "first_order" and of.method.nu:
        yield "Most of a first-order bias is there with any batches; mode=exact has none of that."
    yield f"Δ = F(w_0) − inf F ≤ F(w_0) = {of.gap:.3g}, as no loss is below 0."
    if of.method.shared and of.method.nu and of.method.support:
        yield (
            "Support batches serve for the Hessians (algorithm.batch.hessian=null): L, l and ρ "
            "must hold for every batch, and were measured on one of each client as well."
        )
    if beyond := _beyond(of.config):
        yield f"The theorem is about plain averaging; this has {', '.join(beyond)}."


def _beyond(config: Config) -> list[str]:
    """Return what a configuration has that the theorem does not cover."""
    plain = {"optimizer": None, "clip_norm": None, "weighting": "uniform"}
    strategy = config.strategy
    found = [
        f"strategy.{key}={strategy[key] if isinstance(strategy[key], str | float) else '…'}"
        for key, value in plain.items()
        if strategy.get(key, value) != value
    ]
    if not strategy["_target_"].endswith(".MetaFedAvg"):
        found.append(f"strategy={strategy['_target_'].rpartition('.')[2]}")
    if config.privacy.name != "none":
        found.append(f"privacy={config.privacy.name}")
    return found
