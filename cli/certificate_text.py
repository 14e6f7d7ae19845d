"""A certificate in words and tables."""

import math
from collections.abc import Iterator

from rich.table import Table

from nufed.cli.certificate import Certificate
from nufed.conf.schema import MEAN, UNIFORM, Config
from nufed.theory.constants import growth, heterogeneity, smoothness
from nufed.theory.estimator import estimator
from nufed.theory.theorem import Bound, suggested_alpha

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
    a, rounds, found = of.algorithm, of.rounds, of.estimates
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
    given = of.algorithm
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


def sentences(of: Certificate, epsilon: float | None = None) -> Iterator[str]:
    """Yield what the tables come to, in words; also the rounds to a mean E‖∇F‖² of ε."""
    configured, beta = of.bound(), of.rounds.beta
    if configured is None:
        too_large = times(beta / of.betas.admissible)
        yield f"By these estimates, β={beta:g} is {too_large} times too large for any bound."
    shown = configured or of.bound(of.best_beta)
    assert shown is not None
    at = f"β={beta:g}" if configured else f"the best β={of.best_beta:.2g}"
    if shown.vacuous:
        yield (
            f"At {at} the bound is vacuous: {shown.total:.3g}, and if the estimates hold, "
            f"‖∇F‖² ≤ {shown.trivial:.3g} anywhere, trained or not."
        )
    else:
        yield (
            f"If the estimates hold, the mean of E‖∇F‖² over the rounds is at most "
            f"{shown.total:.3g} at {at}."
        )
    yield f"What dominates: {TERMS[shown.dominating]}; {REMEDIES[shown.dominating]}."
    if of.method.mode == "first_order" and of.method.nu:
        yield "Most of a first-order bias is there with any batches; mode=exact has none of that."
    value = f"≈ {of.gap:.3g}, on what was drawn" if of.gap_drawn else f"= {of.gap:.3g}"
    yield f"Δ = F(w_0) − inf F ≤ F(w_0) {value}, as no loss is below 0."
    if epsilon is not None:
        yield _rounds_to(of, epsilon)
    if of.method.shared and of.method.support:
        yield (
            "Support batches serve for the Hessians (algorithm.batch.hessian=null): L, l and ρ "
            "must hold for every batch, and were measured on one of each client as well."
        )
    if beyond := _beyond(of.config):
        yield f"The theorem is about plain averaging; this has {', '.join(beyond)}."


def _rounds_to(of: Certificate, epsilon: float) -> str:
    """Say how many rounds make the bound as small as ε, if any do."""
    least = of.rounds_for(epsilon)
    if least is None:
        return f"No number of rounds brings the bound to {epsilon:g}: the bias alone is above it."
    return (
        f"If the estimates hold, {least.rounds:,} rounds with β={least.beta:.3g} bring the bound "
        f"to {epsilon:g}."
    )


def _beyond(config: Config) -> list[str]:
    """Return what a configuration has that the theorem does not cover."""
    plain = {"optimizer": None, "clip_norm": None, "weighting": "uniform"}
    strategy = config.strategy
    found = [
        f"strategy.{key}={strategy[key] if isinstance(strategy[key], str | int | float) else '…'}"
        for key, value in plain.items()
        if strategy.get(key, value) != value
    ]
    if not strategy["_target_"].endswith(".MetaFedAvg"):
        found.append(f"strategy={strategy['_target_'].rpartition('.')[2]}")
    for group, usual in (("rule", MEAN), ("sampler", UNIFORM)):
        if (name := getattr(config, group)["_target_"]) != usual:
            found.append(f"{group}={name.rpartition('.')[2]}")
    found += [f"schedule.{key}" for key in config.schedule]
    if config.privacy.name != "none":
        found.append(f"privacy={config.privacy.name}")
    return found
