"""Step sizes that nobody tuned, `auto`, beside a tuned pair."""

from pathlib import Path

import numpy as np

from benchmarks.contest import play, record
from benchmarks.contest.contender import Contender, Setting
from benchmarks.contest.record import Record
from benchmarks.contest.search import Axis
from benchmarks.experiments.methods import GROUPS, TITLES, Outcomes
from benchmarks.experiments.pages.page import table
from benchmarks.experiments.plan import ALPHA
from nufed.server_app.report.statistics import paired

name = "steps"
title = "Step sizes without tuning"
settings: tuple[str, ...] = ()
BETA = "algorithm.beta"
CHOSEN, TUNED = "auto", "tuned"
STEPS, BUDGET = 5, 12
WITHIN = 0.01, 0.1
"""What is aimed at: of accuracy, and of a loss as a part of it."""


def setting(key: str, called: str, metric: str = "accuracy") -> Setting:
    """Return a federation that is tuned on other draws of it."""
    return Setting(f"steps_{key}", called, metric, (STEPS,), BUDGET)


SETTINGS = {
    **{key: setting(key, TITLES[key]) for key in TITLES},
    "digits": setting("digits", "digits, shards"),
    "sines": setting("sines", "sine waves", "loss"),
    "taste": setting("taste", "taste: whether a person likes what an image shows"),
    "synthetic": setting("synthetic", "Synthetic(0.5, 0.5)"),
    "domains": setting("domains", "Fashion-MNIST seen by different cameras"),
}
NEW = ("taste", "synthetic", "domains")
"""Federations that the rule had not seen when its constants were chosen."""
CONTENDERS = [
    Contender(TUNED, (Axis(ALPHA, "0.1"), Axis(BETA, "0.1"))),
    Contender(CHOSEN, (), ((ALPHA, "auto"), (BETA, "auto"))),
]
ENTRIES = [(each, who) for each in SETTINGS.values() for who in CONTENDERS]


stages = play.stages(ENTRIES)


def section(outcomes: Outcomes, figures: Path) -> str:
    """Keep the records, and return the text."""
    del figures
    return text(record.keep_all(ENTRIES, outcomes))


def records() -> list[Record]:
    """Return what is kept of the settings, as far as they have been run."""
    return record.read_all(ENTRIES)


def introduction(records: list[Record]) -> str:
    """Say what is compared, on how many draws the pairs were tuned, and what the rule had seen."""
    draws = " or ".join(map(str, sorted({kept.tuned_on for kept in records})))
    new = [kept.title for kept in records if kept.setting.removeprefix("steps_") in NEW]
    unseen = ",\n".join(f"*{title}*" for title in new)
    return f"""\
`algorithm.alpha=auto` and `algorithm.beta=auto` are chosen before the first round, from the
curvature of a few clients' losses at the first model ([steps.py](../theory/steps.py)), and updates
are then clipped to four times their usual norm ([usual.py](../strategies/usual.py)). Beside them
the pair that {BUDGET} runs find at most, from 0.1 and 0.1, by rows held out of the train rows of
{draws} other draws, without clipping (▹: the budget ended that walk before all neighbours of the
pair were tried). Both take as many rounds; ν = 5, after {STEPS} fine-tuning steps, mean of the last
three evaluations, paired by seed. The aim is {WITHIN[0]:.0%} of accuracy, or
{WITHIN[1]:.0%} of a loss, and that no run breaks off. Of so few seeds the mean may be within it,
while the interval leaves *open* whether the truth is. The rule's constants were chosen on other
draws of these federations. It had seen nothing of
{unseen}.
"""


def text(records: list[Record]) -> str:
    """Return the section of what records hold."""
    lines = [row(kept, group) for kept in records for group in GROUPS]
    head = [
        "setting",
        "clients",
        f"`{CHOSEN}`",
        f"{TUNED}",
        "points below, or % of the loss above",
        "is the mean within the aim?",
        "is the interval?",
        f"{TUNED} α, β",
    ]
    about = [
        f"{kept.title}: {kept.lines[0].rounds[-1]} rounds, {len(kept.lines[0].seeds)} seeds, "
        f"commit {kept.commit}."
        for kept in records
    ]
    commands = "\n".join(line.command for kept in records for line in kept.lines)
    return (
        f"{introduction(records)}\n{table(head, lines)}\n\n{' '.join(about)}\n\n"
        f"<details><summary>The command of each row</summary>\n\n```\n{commands}\n```\n\n"
        "</details>\n"
    )


def row(kept: Record, group: str) -> list[object]:
    """Return what both came to on one setting."""
    chosen, tuned = kept.line(CHOSEN), kept.line(TUNED)
    ours, theirs = (line.end(group)[:, line.k] for line in (chosen, tuned))
    broken = [kept.broken(line, group) for line in (chosen, tuned)]
    cells = [b or f"{end.mean():.3f}" for b, end in zip(broken, (ours, theirs), strict=True)]
    pair = f"{', '.join(tuned.tuned.values())}{'' if tuned.settled else ' ▹'}"
    if any(broken):
        verdict = "**no**" if broken[0] else "the pair broke off"
        return [kept.title, group, *cells, "–", verdict, "–", pair]
    short = paired(ours, theirs) if kept.lower_is_better else paired(theirs, ours)
    of = float(np.mean(theirs)) if kept.lower_is_better else 1.0
    short, aim = short.times(100 / of), 100 * WITHIN[kept.lower_is_better]
    within = "yes" if short.high <= aim else "no" if short.low > aim else "open"
    mean = "yes" if short.mean <= aim else "**no**"
    return [kept.title, group, *cells, short.text(1), mean, within, pair]
