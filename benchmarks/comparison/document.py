"""docs/comparison.md: one table a data set, and who is how far from whom."""

import numpy as np

from benchmarks.contest.record import REACHED, SPENT, Line, Record
from benchmarks.experiments.pages.page import table
from benchmarks.experiments.plan import jobs
from nufed.server_app.report.statistics import Array, Interval, interval, paired
from nufed.server_app.report.words import size
from nufed.strategies.curves import GROUPS

STEPS, K = (0, 1, 5), 5
"""Fine-tuning steps that are shown, and those after which methods are compared."""
NOTES = {
    "synthetic": " Clients have 30 to 500 rows, and the network a hidden layer, where FedProx has "
    "50 rows and more, and none.",
    "taste": " 500 people.",
    "sines": " 500 waves.",
}
"""Of the data, where they are not as their own page has them."""
FEW = 5  # names that a cell may list
OURS, BASE = "nufed", "fedavg"
AGAINST = ("fedavg", "per_fedavg", "alone", "pooled")
BESIDE = ("alone", "pooled")
"""What is no method of federated learning, and has no rounds to a target."""
START = "untrained"
"""The first model, fine-tuned as `fedavg`'s is."""

HEAD = """# Comparison

Written by `make compare` from the [records](../benchmarks/contest/records) of runs of its own:
every [method](methods.md) on {sets} [data sets](data.md), and beside them each client *alone* (from
the first model, on its own rows, up to 200 steps) and one model *pooled* from all train rows
(every step takes the mean gradient of all clients; where these contradict each other, no model of
all is good, and neither is this one).

**All are tuned alike.** Step sizes α and β, and the one strength that some methods have (`lamda`,
`mu`, `mixing`, `epsilon`), are found by the same walk from the same start over at most {budget}
points, by what they have after k = {k} steps, in the mean over all evaluations, on rows that are
held out of the train rows of another federation (see
[search.py](../benchmarks/contest/search.py)); ▹ marks a walk that the budget ended before all
neighbours of its best point were tried. Model, rounds, sampled clients, local steps and batches
are the same for all; the model has layer normalization, so that FedBN has something to keep.
Everything else of a method is as its YAML file has it.

**How to read it.** Test rows are held out; *new* clients never trained. All are measured after
k = {k} fine-tuning steps on a client's train rows, whether a method keeps a personal part or not;
k = 0 and 1 stand below (*alone*: of 0 … 200 steps, as many as were best on validation rows). *Worst
tenth* is the mean over the tenth of clients that are served worst. The interval is Student's t,
95%, over {seeds} seeds; **bold** is the best mean, and whom it is not better than, seed by seed,
beyond an interval. Few seeds decide little: what is not bold may have had bad luck. *To target* is
what is spent until {reached:.0%} of the way that FedAvg goes from its start to its end, on new
clients, seed by seed: gradients of a batch by all clients together, and bytes both ways.
*Untrained* is the first model after as many steps, with the step size of `fedavg`. A seed *broke
off* if its run did, or its metric at an evaluation was no number: no mean is given, and who has
such a seed is not among the best. A step of `fedavg_finetuned` is an epoch of a client's rows:
k = 5 is five epochs there, more work at a client's than anyone else's.
"""


def document(records: list[Record]) -> str:
    """Return the page."""
    seeds, budget = len(records[0].lines[0].seeds), records[0].budget
    head = HEAD.format(budget=budget, seeds=seeds, sets=len(records), reached=REACHED, k=K)
    return "\n".join([head, summary(records), *(section(kept) for kept in records)])


def summary(records: list[Record]) -> str:
    """Return, in a table, who is best where, and how far NuFed is from that."""
    lines = []
    for kept in records:
        for group in GROUPS:
            best = leaders(kept, group)
            first = best[0]
            behind = "it is" if OURS in best else f"no: {gap(kept, first, OURS, group)}"
            than = [gap(kept, OURS, who, group) for who in (BASE, *BESIDE, START)]
            lines.append([kept.title, group, some(best), behind, *than])
    head = ["data", "clients", "best", "is `nufed` among them?"]
    head += [f"`nufed` over `{BASE}`", *(f"over *{who}*" for who in (*BESIDE, START))]
    among = sum(OURS in leaders(kept, group) for kept in records for group in GROUPS)
    against = ", ".join(tally(records, who) for who in AGAINST)
    return f"""## Who is best where

Of {len(lines)} rows, `nufed` is among the best in {among}. Beyond the intervals it is {against}.
Of so many methods one is best by luck too, and of three seeds few differences are sure.

After {K} steps, in points of accuracy, or in loss; positive is better. *Best* is who has the best
mean, and all whom it is not better than for certain.

{table(head, lines)}
"""


def tally(records: list[Record], other: str) -> str:
    """Say in how many rows ours is better, and worse, than another for certain."""
    found = [difference(kept, OURS, other, group) for kept in records for group in GROUPS]
    better = sum(each.low > 0 for each in found)
    worse = sum(each.high < 0 for each in found)
    name = f"*{other}*" if other in BESIDE else f"`{other}`"
    return f"better in {better} and worse in {worse} than {name}"


def leaders(kept: Record, group: str) -> list[str]:
    """Return the method with the best mean, and those that it is not better than for certain."""
    sign = -1 if kept.lower_is_better else 1
    methods = [line for line in kept.lines if line.name not in BESIDE and whole(kept, line)]
    ends = {line.name: sign * at(line, group, counted(line)) for line in methods}
    order = sorted(ends, key=lambda name: -ends[name].mean())
    best = ends[order[0]]
    return [name for name in order if name == order[0] or not paired(best, ends[name]).decided]


def whole(kept: Record, line: Line) -> bool:
    """Tell whether all seeds of a line came to their end."""
    return not any(kept.broken(line, group, counted(line)) for group in GROUPS)


def some(names: list[str]) -> str:
    """Return names, the first of them if they are many."""
    if len(names) <= FEW:
        return ", ".join(names)
    return f"{', '.join(names[: FEW - 1])} and {len(names) - FEW + 1} others"


def counted(line: Line) -> int:
    """Return the fine-tuning steps after which a line is compared."""
    return line.k if line.name == "alone" else K


def at(line: Line, group: str, k: int) -> Array:
    """Return the metric at the end of each run after k steps."""
    last = 1 if line.name == "alone" else 3
    return line.end(group, last)[:, k]


def gap(kept: Record, ours: str, theirs: str, group: str) -> str:
    """Return how much better one is than another, in words; a dash where a seed broke off."""
    lines = [kept.line(BASE if who == START else who) for who in (ours, theirs)]
    if not all(whole(kept, line) for line in lines):
        return "–"
    return difference(kept, ours, theirs, group).text(3 if kept.lower_is_better else 1)


def difference(kept: Record, ours: str, theirs: str, group: str) -> Interval:
    """Return how much better one is than another: in points of accuracy, or in loss."""
    return kept.gain(ended(kept, ours, group), ended(kept, theirs, group))


def ended(kept: Record, who: str, group: str) -> Array:
    """Return what somebody has in the end, [seeds]; the untrained model, what it began with."""
    if who == START:
        return kept.line(BASE).curve(group, K)[:, 0]
    line = kept.line(who)
    return at(line, group, counted(line))


def section(kept: Record) -> str:
    """Return a data set's tables and commands."""
    lines = order(kept)
    best = {group: leaders(kept, group) for group in GROUPS}
    head = ["method"]
    for group in GROUPS:
        head += [f"{group}, k = {K}", "worst tenth"]
    head += ["rounds to target", "gradients", "bytes"]
    more = ["method", *(f"{group}, k = {k}" for group in GROUPS for k in STEPS)]
    more += [f"std of {group}" for group in GROUPS]
    commands = "\n".join(line.command for line in lines)
    return f"""## {kept.title}

{about(kept)}

{table(head, [*(row(kept, line, best) for line in lines), untrained(kept)])}

<details><summary>After 0, 1 and {K} steps, and the spread over clients</summary>

{table(more, [further(line) for line in lines if whole(kept, line)])}

</details>

<details><summary>The command of each row, all seeds</summary>

```
{commands}
```

</details>
"""


def about(kept: Record) -> str:
    """Say what was run where, and what of the data is not as others have it."""
    config = jobs(kept.setting)[0].config
    metric = f"{kept.metric.capitalize()}{', less is better' if kept.lower_is_better else ''}"
    hidden = ", ".join(map(str, config.model["hidden"]))
    rows = config.algorithm["batch"]["support"]
    batches = "all rows" if rows is None else f"{rows} rows"
    note = NOTES.get(kept.setting.removeprefix("methods_"), "")
    where = f"{kept.machine['cpu']}, {kept.machine['cores']} cores, commit {kept.commit}"
    return (
        f"{metric}. {config.rounds} rounds of {config.clients_per_round} clients, "
        f"{config.algorithm['tau']} local steps on {batches}; hidden layers of {hidden}, with "
        f"layer normalization.{note} {where}."
    )


def order(kept: Record) -> list[Line]:
    """Return the methods, best first by new clients, then what stands beside them."""
    sign = 1 if kept.lower_is_better else -1
    return sorted(
        kept.lines,
        key=lambda line: (
            line.name in BESIDE,
            not whole(kept, line),
            sign * at(line, "new", counted(line)).mean(),
        ),
    )


def called(line: Line) -> str:
    """Return what a line is called in a table."""
    if line.name == "alone":
        return f"*alone*, {line.k} steps"
    name = f"*{line.name}*" if line.name in BESIDE else f"`{line.name}`"
    return name if line.settled else f"{name} ▹"


def row(kept: Record, line: Line, best: dict[str, list[str]]) -> list[str]:
    """Return what a method came to, and at what cost."""
    cells, k = [called(line)], counted(line)
    for group in GROUPS:
        if broken := kept.broken(line, group, k):
            cells += [broken, "–"]
            continue
        text = interval(at(line, group, k)).text(3, sign=False)
        worst = np.array(line.spread[group]["_worst_decile"])[:, k].mean()
        cells += [f"**{text}**" if line.name in best[group] else text, f"{worst:.3f}"]
    return [*cells, *to_target(kept, line)]


def untrained(kept: Record) -> list[str]:
    """Return what the first model has."""
    cells = [f"*{START}*"]
    for group in GROUPS:
        cells += [interval(ended(kept, START, group)).text(3, sign=False), "–"]
    return [*cells, *["–"] * 3]


def further(line: Line) -> list[str]:
    """Return a method's curve, and the standard deviation over clients."""
    means = [f"{at(line, group, k).mean():.3f}" for group in GROUPS for k in STEPS]
    stds = [np.array(line.spread[group]["_std"])[:, counted(line)].mean() for group in GROUPS]
    return [called(line), *means, *(f"{std:.3f}" for std in stds)]


def to_target(kept: Record, line: Line) -> list[str]:
    """Return rounds, gradients and bytes until the target on new clients."""
    if line.name in BESIDE:
        return ["–"] * 3
    if not whole(kept, line):
        return ["–"] * 3
    spent = {cost: kept.reached(line, kept.line(BASE), "new", cost, K) for cost in SPENT}
    there = np.isfinite(spent["rounds"])
    if not there.all():
        return [f"{there.sum()} of {len(there)} seeds", "–", "–"]
    rounds, gradients, sent = (values.mean() for values in spent.values())
    return [f"{rounds:.0f}", f"{gradients:.0f}", size(sent)]
