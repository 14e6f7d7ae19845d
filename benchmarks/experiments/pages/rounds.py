"""Accuracy against rounds and against gradients, and rounds to fixed targets."""

from pathlib import Path

import numpy as np

from benchmarks.experiments.figures import band, figure
from benchmarks.experiments.methods import (
    GROUPS,
    HINDSIGHT,
    SETTINGS,
    TITLES,
    Method,
    Outcomes,
    hindsight,
    nearby,
    scaled_trials,
    seeds,
    tuned_methods,
)
from benchmarks.experiments.pages.page import heading, table
from benchmarks.experiments.plan import SEED, Job, axes
from benchmarks.experiments.tuning import STEPS, outer_key, tuning
from nufed.server_app.report.statistics import Saving, interval, paired, saving, smooth

name = "rounds"
settings = SETTINGS
TARGETS = (0.90, 0.95, 0.98)
DRAWN = ("0", "1", "2", "5", "10")


def trials(outcomes: Outcomes) -> list[Job]:
    """Return the trials that tune ν = 1 with α′ = 5α, which is known once ν = 5 is tuned."""
    return [job for setting in SETTINGS for job in scaled_trials(setting, outcomes)]


def runs(outcomes: Outcomes) -> list[Job]:
    """Return every tuned method on every setting."""
    methods = [method for s in SETTINGS for method in tuned_methods(s, outcomes)]
    methods += [method for s in HINDSIGHT for method in nearby(s, outcomes)]
    return [job for method in methods for job in method.jobs()]


stages = (trials, runs)


def section(outcomes: Outcomes, figures: Path) -> str:
    """Return curves and rounds to targets for each setting."""
    parts = [
        "## Rounds and gradients to a target\n",
        "Each method has its own best α and outer step size, of equally many trials. Targets are "
        "90, 95 and 98% of what Per-FedAvg (ν = 1, α tuned) ends with: its accuracy after five "
        "fine-tuning steps, mean of the last three evaluations and of all seeds. A target is "
        "reached when the mean of three evaluations in a row is. *Saved* compares with that "
        "baseline, seed by seed; it says *at least* where a run of the baseline never got there "
        "(its whole length is then taken), and nothing where one was there untrained. A run that "
        "ended because its steps were too large counts as if it had learnt nothing. The figure to "
        "test is 37% fewer rounds.\n",
    ]
    for setting in SETTINGS:
        methods = tuned_methods(setting, outcomes)
        draw(setting, methods, outcomes, figures)
        parts += [
            heading(setting, name, "accuracy after five steps against rounds and gradients"),
            choices(setting, methods),
            *(tables(methods, outcomes, group) for group in GROUPS),
        ]
        if setting in HINDSIGHT:
            parts.append(against_hindsight(setting, methods, outcomes))
    return "\n".join(parts)


def draw(setting: str, methods: list[Method], outcomes: Outcomes, figures: Path) -> None:
    """Draw the new clients' accuracy after five steps along the runs."""
    title = (
        f"{TITLES[setting]}: accuracy of new clients after {STEPS} steps; "
        f"mean and 95% interval of {seeds(setting)} seeds"
    )
    with figure(figures / f"rounds-{setting}.svg", title, columns=2) as (left, right):
        shown = [m for m in methods if m.nu in DRAWN and (m.nu != "1" or m is methods[0])]
        for index, method in enumerate(sorted(shown, key=lambda m: int(m.nu))):
            curves = np.stack([smooth(c) for c in method.curves(outcomes, "new")])
            rounds = np.array(method.rounds(outcomes))
            band(left, rounds, curves, method.name, index)
            taken = rounds[1:] * method.cost(
                outcomes
            )  # none before the first, which has no logarithm
            band(right, taken, curves[:, 1:], method.name, index)
        left.set_ylabel(f"accuracy after {STEPS} fine-tuning steps")
        left.set_xlabel("rounds")
        right.set_xlabel("gradients a sampled client took")
        right.set_xscale("log")


def choices(setting: str, methods: list[Method]) -> str:
    """Return what tuning chose."""
    key = outer_key(tuning(setting))
    rows = [
        [
            m.name,
            m.choice.alpha,
            m.choice.outer,
            m.choice.trials,
            ", ".join(m.choice.at_edge) or "–",
        ]
        for m in methods
    ]
    head = ["method", "α", f"`{key}`", "pairs tried", "best at the edge of what was tried"]
    seeds_ = len(axes(tuning(setting))[SEED])
    return f"Step sizes chosen on validation rows, {seeds_} seeds each:\n\n{table(head, rows)}\n"


def tables(methods: list[Method], outcomes: Outcomes, group: str) -> str:
    """Return final accuracies, and rounds and gradients to each target, of one kind of clients."""
    base = methods[0]
    base_final = base.finals(outcomes, group)[:, STEPS]
    targets = [share * base_final.mean() for share in TARGETS]
    rows = []
    for method in methods:
        final = method.finals(outcomes, group)[:, STEPS]
        loss = method.finals(outcomes, group, "loss")[:, STEPS]
        gain = "–" if method is base else paired(final, base_final).times(100).text()
        cells = [reach(method, base, outcomes, group, target) for target in targets]
        accuracy = interval(final).text(3, sign=False)
        rows.append([method.name, accuracy, gain, f"{loss.mean():.3g}", *cells])
    head = [
        "method",
        "accuracy after 5 steps",
        "points over Per-FedAvg",
        "loss",
        *(f"rounds to {share:.0%} ({t:.3f})" for share, t in zip(TARGETS, targets, strict=True)),
    ]
    return f"**{group.capitalize()} clients**\n\n{table(head, rows)}\n"


def against_hindsight(setting: str, methods: list[Method], outcomes: Outcomes) -> str:
    """Return the comparison with the baseline that was tuned on the test rows themselves."""
    (ours,) = [method for method in methods if method.nu == "5"]
    rows = []
    for group in GROUPS:
        base = hindsight(setting, outcomes, group)
        final, base_final = (m.finals(outcomes, group)[:, STEPS] for m in (ours, base))
        target = 0.95 * base_final.mean()
        fewer = saved(ours, base, outcomes, group, target)
        rows.append([
            group,
            f"{base.choice.alpha}, {base.choice.outer}",
            interval(base_final).text(3, sign=False),
            paired(final, base_final).times(100).text(),
            "–" if fewer is None else fewer.text(),
        ])  # fmt: skip
    head = [
        "clients",
        "its α and outer step",
        "its accuracy after 5 steps",
        "points, NuFed ν = 5 over it",
        "% fewer rounds to 95% of it",
    ]
    return f"""Against Per-FedAvg **in hindsight**: of the tuned pair of step sizes and those that
differ from it in one, the pair that does best on these very test rows, as no one could choose it.

{table(head, rows)}
"""


def reach(method: Method, base: Method, outcomes: Outcomes, group: str, target: float) -> str:
    """Return the rounds to a target, and what is saved of rounds and of gradients."""
    ours = method.rounds_to(outcomes, group, target)
    there = np.isfinite(ours)
    if not there.all():
        return f"{there.sum()} of {len(ours)} seeds"
    text = f"{ours.mean():.0f}"
    fewer = None if method is base else saved(method, base, outcomes, group, target)
    if fewer is None:
        return text
    ratio = method.cost(outcomes) / base.cost(outcomes)
    compute = 100 * (1 - (1 - fewer.percent.mean / 100) * ratio)
    return f"{text}; saved {fewer.text()}%, of gradients {compute:+.0f}%".replace("-", "−")


def saved(
    ours: Method, theirs: Method, outcomes: Outcomes, group: str, target: float
) -> Saving | None:
    """Return how many rounds fewer one method needs than another."""
    length = outcomes[theirs.jobs()[0]].config.rounds
    first, second = (method.rounds_to(outcomes, group, target) for method in (ours, theirs))
    return saving(first, second, length)
