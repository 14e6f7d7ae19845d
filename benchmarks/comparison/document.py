"""docs/comparison.md: one table a data set, and who is how far from whom."""

import numpy as np

from benchmarks.contest.record import REACHED, SPENT, Line, Record
from benchmarks.experiments.pages.page import table
from nufed.server_app.report.statistics import Array, interval, paired
from nufed.server_app.report.words import size
from nufed.strategies.curves import GROUPS

STEPS = (0, 1, 5)
OURS, BASE = "nufed", "fedavg"
BESIDE = ("alone", "pooled")
"""What is no method of federated learning, and has no rounds to a target."""

HEAD = """# Comparison

Written by `make compare` from the [records](../benchmarks/contest/records) of runs of its own:
every [method](methods.md) on four [data sets](data.md), and beside them each client *alone* (from
the first model, on its own rows, up to 200 steps) and one model *pooled* from all train rows
(every step takes the mean gradient of all clients: what privacy costs).

**All are tuned alike.** Step sizes α and β, and the one strength that some methods have (`lamda`,
`mu`, `mixing`, `epsilon`), are found by the same walk from the same start over at most {budget}
points, on rows that are held out of the train rows of another federation (see
[search.py](../benchmarks/contest/search.py)); ▹ marks a walk that the budget ended before all
neighbours of its best point were tried. Model, rounds, sampled clients, local steps and batches
are the same for all; the model has layer normalization, so that FedBN has something to keep.
Everything else of a method is as its YAML file has it.

**How to read it.** Test rows are held out; *new* clients never trained. *k* is the number of
fine-tuning steps on a client's train rows; *best k* the one of 0, 1 and 5 that was best on
validation rows (*alone*: of 0 … 200). *Worst tenth* is the mean over the tenth of clients that are
served worst. The interval is Student's t, 95%, over {seeds} seeds; **bold** is what no other
method is better than, seed by seed, beyond its interval. Few seeds decide little: a difference
that is not bold may still be chance. *To target* is what is spent until {reached:.0%} of the way
that FedAvg goes from its start to its end at its best k, on new clients: gradients of a batch by
all clients together, and bytes both ways.
"""


def document(records: list[Record]) -> str:
    """Return the page."""
    seeds, budget = len(records[0].lines[0].seeds), records[0].budget
    head = HEAD.format(budget=budget, seeds=seeds, reached=REACHED)
    return "\n".join([head, summary(records), *(section(kept) for kept in records)])


def summary(records: list[Record]) -> str:
    """Return, in a table, who is best where, and how far NuFed is from that."""
    lines = []
    for kept in records:
        for group in GROUPS:
            best = leaders(kept, group)
            first = best[0]
            behind = "it is" if OURS in best else f"no: {gap(kept, first, OURS, group)}"
            than = {who: gap(kept, OURS, who, group) for who in (BASE, *BESIDE)}
            lines.append([kept.title, group, ", ".join(best), behind, *than.values()])
    head = ["data", "clients", "best", "is `nufed` among them?"]
    head += [f"`nufed` over `{BASE}`", "over *alone*", "over *pooled*"]
    return f"""## Who is best where

At each method's best k, in points of accuracy, or in loss; positive is better.

{table(head, lines)}
"""


def leaders(kept: Record, group: str) -> list[str]:
    """Return the method with the best mean, and those that it is not better than for certain."""
    sign = -1 if kept.lower_is_better else 1
    methods = [line for line in kept.lines if line.name not in BESIDE]
    ends = {line.name: sign * at(line, group, line.k) for line in methods}
    order = sorted(ends, key=lambda name: -ends[name].mean())
    best = ends[order[0]]
    return [name for name in order if name == order[0] or not paired(best, ends[name]).decided]


def at(line: Line, group: str, k: int) -> Array:
    """Return the metric at the end of each run after k steps."""
    last = 1 if line.name == "alone" else 3
    return line.end(group, last)[:, k]


def gap(kept: Record, ours: str, theirs: str, group: str) -> str:
    """Return how much better one is than another, at their best k."""
    a, b = (at(kept.line(name), group, kept.line(name).k) for name in (ours, theirs))
    return kept.gain_text(a, b)


def section(kept: Record) -> str:
    """Return a data set's table and commands."""
    about = kept.machine
    best = {group: leaders(kept, group) for group in GROUPS}
    lines = [row(kept, line, best) for line in order(kept)]
    head = ["method", "best k"]
    for group in GROUPS:
        head += [*(f"{group}, k = {k}" for k in STEPS), "at best k", "std", "worst tenth"]
    head += ["rounds to target", "gradients", "bytes"]
    commands = "\n".join(line.command for line in order(kept))
    where = f"{about['cpu']}, {about['cores']} cores, commit {kept.commit}"
    return f"""## {kept.title}

{kept.metric.capitalize()}{", less is better" if kept.lower_is_better else ""}; {where}.

{table(head, lines)}

<details><summary>The command of each row, all seeds</summary>

```
{commands}
```

</details>
"""


def order(kept: Record) -> list[Line]:
    """Return the methods, best first by new clients, then what stands beside them."""
    sign = 1 if kept.lower_is_better else -1
    return sorted(
        kept.lines,
        key=lambda line: (line.name in BESIDE, sign * at(line, "new", line.k).mean()),
    )


def row(kept: Record, line: Line, best: dict[str, list[str]]) -> list[str]:
    """Return a method's cells."""
    name = f"*{line.name}*" if line.name in BESIDE else f"`{line.name}`"
    cells = [f"{name}{'' if line.settled else ' ▹'}", str(line.k)]
    for group in GROUPS:
        for k in STEPS:
            cells.append(f"{at(line, group, k).mean():.3f}")
        text = interval(at(line, group, line.k)).text(3, sign=False)
        cells.append(f"**{text}**" if line.name in best[group] else text)
        for statistic in ("_std", "_worst_decile"):
            cells.append(f"{np.array(line.spread[group][statistic])[:, line.k].mean():.3f}")
    return [*cells, *to_target(kept, line)]


def to_target(kept: Record, line: Line) -> list[str]:
    """Return rounds, gradients and bytes until the target on new clients."""
    if line.name in BESIDE:
        return ["–"] * 3
    spent = {cost: kept.reached(line, kept.line(BASE), "new", cost) for cost in SPENT}
    there = np.isfinite(spent["rounds"])
    if not there.all():
        return [f"{there.sum()} of {len(there)} seeds", "–", "–"]
    rounds, gradients, sent = (values.mean() for values in spent.values())
    return [f"{rounds:.0f}", f"{gradients:.0f}", size(sent)]
