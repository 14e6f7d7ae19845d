"""Each ν, exact and first-order, at equal rounds, at equal gradients and at equal bytes."""

from pathlib import Path

import numpy as np

from benchmarks.contest import play, record
from benchmarks.contest.contender import Contender, Setting
from benchmarks.contest.record import BLOWN, REACHED, SPENT, Line, Record
from benchmarks.contest.search import Axis
from benchmarks.experiments.figures import band, figure
from benchmarks.experiments.methods import GROUPS, TITLES, Outcomes
from benchmarks.experiments.pages.page import picture, table
from benchmarks.experiments.plan import ALPHA, MODE, NU, jobs
from nufed.server_app.report.statistics import Array, Saving, saving
from nufed.server_app.report.words import size

name = "cost"
title = "At equal rounds, at equal gradients, and at the end"
settings = ()

SUPPORT = "algorithm.batch.support"
CLIP = ("null", "1.0")
ADAM = (
    Axis(ALPHA, "0.1"),
    Axis("strategy.optimizer.lr", "0.01"),
    Axis("strategy.clip_norm", "1.0", CLIP),
)
SGD = (
    Axis(ALPHA, "0.1"),
    Axis("algorithm.beta", "0.1"),
    Axis("strategy.clip_norm", "null", CLIP),
)
PLAIN, BASE, OURS = "FedAvg + fine-tuning", "ν = 1, exact", "ν = 5, exact"
DRAWN = (PLAIN, BASE, "ν = 1, first-order", OURS, "ν = 5, first-order")
LONG_WALK = 36  # points, where some had far to go
EARLY = 1 / 4  # of the rounds, at which methods are compared at equal rounds
STEPS = 5


def contenders(axes: tuple[Axis, ...], rows: str | None = None) -> list[Contender]:
    """Return FedAvg, each ν in both modes, and one long step of as many rows as five have."""

    def method(called: str, nu: str, mode: str = "exact") -> Contender:
        return Contender(called, axes, ((NU, nu), (MODE, mode)))

    made = [method(PLAIN, "0")]
    for nu in ("1", "2", "5"):
        made += [
            method(f"ν = {nu}, {mode.replace('_', '-')}", nu, mode)
            for mode in ("exact", "first_order")
        ]
    if rows is not None:
        long = ((NU, "1"), (MODE, "exact"), (SUPPORT, rows))
        made.append(Contender(f"ν = 1, exact, one step of {rows} rows", axes, long, steps=(1,)))
    return made


CONTESTS: dict[str, tuple[Setting, list[Contender]]] = {
    "own_labels": (Setting("cost_own_labels", TITLES["own_labels"]), contenders(ADAM, "25")),
    "taste": (
        Setting("cost_taste", "taste: whether a person likes what an image shows"),
        contenders(ADAM, "15"),
    ),
    "sines": (
        Setting("cost_sines", "sine waves", "loss", budget=LONG_WALK),
        contenders((Axis(ALPHA, "0.03"), *ADAM[1:])),
    ),
    "digits_dirichlet": (
        Setting("cost_digits_dirichlet", TITLES["digits_dirichlet"], budget=LONG_WALK),
        contenders(SGD, "100"),
    ),
    "fashion_shards": (
        Setting("cost_fashion_shards", TITLES["fashion_shards"]),
        contenders(SGD, "100"),
    ),
}
ENTRIES = [(setting, who) for setting, everyone in CONTESTS.values() for who in everyone]


stages = play.stages(ENTRIES)


def section(outcomes: Outcomes, figures: Path) -> str:
    """Keep the records, draw, and return the text."""
    return text(record.keep_all(ENTRIES, outcomes), figures)


def records() -> list[Record]:
    """Return what is kept of the settings, as far as they have been run."""
    return record.read_all(ENTRIES)


def text(records: list[Record], figures: Path | None = None) -> str:
    """Return the section of what records hold, and draw their figures where a folder is given."""
    parts = [INTRODUCTION]
    for kept in records:
        if figures is not None:
            draw(kept, figures)
        setting = kept.setting.removeprefix("cost_")
        parts += [
            f"### {kept.title}\n",
            about(kept),
            picture(f"cost-{setting}", f"{kept.title}: {kept.metric} against rounds, gradients"),
            "",
            choices(kept),
            *(at_equal_cost(kept, group) for group in GROUPS),
            *(to_target(kept, group) for group in GROUPS),
            commands(kept),
        ]
    return "\n".join(parts)


INTRODUCTION = f"""\
A round of ν = 5 costs more than one of ν = 1: an exact local step takes 3ν + 1 gradients of a
batch (a Hessian-vector product counts as two), a first-order one ν + 1, FedAvg one. All of these
methods send one model each way, so equal rounds are equal bytes. Each is compared with *{BASE}*
(Per-FedAvg)

- **at equal rounds and bytes**: at a quarter of the rounds that are run, where curves still rise;
- **at equal gradients**: those that *{OURS}* has taken by then; *{BASE}* has as many at the last
  round;
- **at the end**, the mean of the last three evaluations. What the last quarter of the rounds still
  brought stands beside it; ↗ marks a mean curve that gained a twentieth of its whole way in that
  quarter, so that more rounds would bring it further.

Everyone's step sizes, and whether updates are clipped, are found by the same walk (see
[search.py](../benchmarks/contest/search.py)) over as many trials at most, of the length that is
run, by rows held out of the train rows of other federations. What is best is so in the mean over
all evaluations, which is not what the last column shows: a step size that is slow and ends higher
may be passed over, for everyone alike. *Settled* says that all neighbours of what was chosen were
tried: no step size lies at an edge of what was. Of the two values of `strategy.clip_norm`, none and
1, either is an edge. The long step of ν = 1 sees in one fine-tuning step as many rows as ν = 5 in
five (all rows of a client that has fewer), and is measured after one; its gradients are of more
rows. A seed *broke off* if its run did, or its metric at an evaluation was no number: no mean is
given of such a line. It *blew up* if its loss at an evaluation was more than {BLOWN:.0f} times that
of the first model: a client's fine-tuning diverged there, and a curve leaves its chart. Targets are
{REACHED:.0%} of the way that *{BASE}* goes from its start to its end, seed by seed, reached when
the mean of three evaluations in a row is there.
"""


def compared(kept: Record, line: Line, group: str) -> list[tuple[Array | None, Array]]:
    """Return what a method and the baseline have at equal rounds, at equal gradients, at the end.

    None for a method that never takes so many gradients.
    """
    base, early = kept.line(BASE), kept.line(BASE).rounds[-1] * EARLY
    amounts = {"rounds": early, "gradients": spent_early(kept, "gradients")}
    found = [
        (line.at(group, cost, amount), base.at(group, cost, amount))
        for cost, amount in amounts.items()
    ]
    found.append((line.end(group)[:, line.k], base.end(group)[:, base.k]))
    return [(ours, theirs) for ours, theirs in found if theirs is not None]


def spent_early(kept: Record, cost: str) -> float:
    """Return what ν = 5 has spent by the round at which methods are compared at equal rounds."""
    ours = kept.line(OURS)
    return float(np.interp(ours.rounds[-1] * EARLY, ours.rounds, getattr(ours, cost)))


def gained(kept: Record, ours: Array | None, theirs: Array) -> str:
    """Return a gain in words, bold where its interval leaves zero out."""
    if ours is None:
        return "–"
    text = kept.gain_text(ours, theirs)
    return f"**{text}**" if kept.gain(ours, theirs).decided else text


def at_equal_cost(kept: Record, group: str) -> str:
    """Return the table of one kind of clients."""
    base, lines, fewer = kept.line(BASE), [], False
    for line in kept.lines:
        cells = [line.name]
        if broken := kept.broken(line, group):
            lines.append([*cells, broken, *["–"] * 6])
            continue
        for ours, theirs in compared(kept, line, group):
            mark = ""
            if ours is None:  # it never takes as many: as it ended, which is said
                ours, mark, fewer = line.end(group)[:, line.k], " †", True
            cells.append(f"{ours.mean():.3f}{mark}")
            cells.append("–" if line is base else gained(kept, ours, theirs))
        curve = line.curve(group)
        quarter = (curve.shape[1] - 1) // 4
        last, before = curve[:, -quarter:].mean(1), curve[:, -2 * quarter : -quarter].mean(1)
        mark = " ↗" if kept.still_rises(line, group) else ""
        brought = kept.blew_up(line, group, slice(-2 * quarter, None))
        lines.append([*cells, brought or f"{gained(kept, last, before)}{mark}"])
    gain = f"loss below {BASE}" if kept.lower_is_better else f"points over {BASE}"
    early = f"{base.rounds[-1] * EARLY:.0f} rounds, {size(spent_early(kept, 'bytes'))}"
    head = [
        "method",
        f"{kept.metric} at {early}",
        gain,
        f"at {spent_early(kept, 'gradients'):,.0f} gradients",
        gain,
        f"at the end, {base.rounds[-1]} rounds",
        gain,
        "the last quarter brought",
    ]
    note = (
        f"\n† As it ended: in {base.rounds[-1]} rounds it takes fewer gradients.\n" if fewer else ""
    )
    return f"**{group.capitalize()} clients**\n\n{table(head, lines)}\n{note}"


def to_target(kept: Record, group: str) -> str:
    """Return what each method spends until the target."""
    base, lines = kept.line(BASE), []
    for line in kept.lines:
        spent = {cost: kept.reached(line, base, group, cost) for cost in SPENT}
        there = np.isfinite(spent["rounds"])
        broken = kept.broken(line, group)
        cells = [broken or f"{there.sum()} of {len(there)} seeds", *["–"] * 4]
        if there.all():
            rounds, gradients, sent = (spent[cost].mean() for cost in SPENT)
            found = [saved(kept, line, group, cost) for cost in SPENT[:2]]
            fewer = ["–" if line is base or x is None else x.text() for x in found]
            cells = [f"{rounds:.0f}", fewer[0], f"{gradients:,.0f}", fewer[1], size(sent)]
        lines.append([line.name, *cells])
    fewer_than = f"% fewer than {BASE}"
    head = ["method", "rounds", fewer_than, "gradients", fewer_than, "bytes"]
    goals = kept.targets(base, group)
    mean = goals[np.isfinite(goals)].mean()
    what = (
        f"**{group.capitalize()} clients, until their {kept.metric} is {REACHED:.0%} of the way to "
        f"the end of {BASE}: {mean:.3f} in the mean over seeds**"
    )
    return f"{what}\n\n{table(head, lines)}\n"


def saved(kept: Record, line: Line, group: str, cost: str) -> Saving | None:
    """Return how many percent less a method spends than the baseline until the target."""
    base = kept.line(BASE)
    ours, theirs = (kept.reached(x, base, group, cost) for x in (line, base))
    return saving(ours, theirs, getattr(base, cost)[-1])


def about(kept: Record) -> str:
    """Return what was run where."""
    rounds, seeds = kept.lines[0].rounds[-1], len(kept.lines[0].seeds)
    hidden = jobs(kept.setting)[0].config.model["hidden"]
    model = f"a network with hidden layers of {', '.join(map(str, hidden))}"
    tuned = "one federation" if kept.tuned_on == 1 else f"{kept.tuned_on} federations"
    where = f"{kept.machine['cpu']}, {kept.machine['cores']} cores, commit {kept.commit}"
    return f"{rounds} rounds of {model}, {seeds} seeds, tuned on {tuned} ({where}).\n"


def choices(kept: Record) -> str:
    """Return what tuning chose."""
    keys = list(kept.lines[0].tuned)
    lines = [
        [
            line.name,
            *line.tuned.values(),
            line.tried,
            "yes" if line.settled else "**no**",
        ]
        for line in kept.lines
    ]
    head = ["method", *(f"`{key}`" for key in keys), f"trials, of {kept.budget} at most", "settled"]
    return f"{table(head, lines)}\n"


def commands(kept: Record) -> str:
    """Return the command of each row."""
    lines = "\n".join(line.command for line in kept.lines)
    return (
        f"<details><summary>The command of each row</summary>\n\n```\n{lines}\n```\n\n</details>\n"
    )


def draw(kept: Record, figures: Path) -> None:
    """Draw the new clients' curves against rounds and against gradients."""
    seeds = len(kept.lines[0].seeds)
    title = (
        f"{kept.title}: {kept.metric} of new clients after fine-tuning; "
        f"mean and 95% interval of {seeds} seeds"
    )
    path = figures / f"cost-{kept.setting.removeprefix('cost_')}.svg"
    with figure(path, title, columns=2) as (left, right):
        drawn = [line for line in kept.lines if line.name in DRAWN or line.k != STEPS]
        for line in [line for line in drawn if not kept.broken(line, "new")]:
            index = drawn.index(line)
            curves = line.curve("new")
            band(left, line.rounds, curves, line.name, index)
            band(right, line.gradients[1:], curves[:, 1:], line.name, index)
        left.set_ylabel(f"{kept.metric} after fine-tuning")
        a_round = kept.lines[0].bytes[-1] / kept.lines[0].rounds[-1]
        left.set_xlabel(f"rounds, of {size(a_round)} each")
        right.set_xlabel("gradients of a batch, all clients together")
        right.set_xscale("log")
        if kept.lower_is_better:  # what blew up is not to flatten all else
            top = 1.2 * max(line.curve("new")[:, 0].mean() for line in drawn)
            for axes in (left, right):
                axes.set_ylim(0, top)
