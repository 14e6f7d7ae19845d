"""What fine-tuning does."""

from nufed.server_app.amiss import still_pays
from nufed.server_app.report import run_figures as draw
from nufed.server_app.report.figures import Figure
from nufed.server_app.report.page import Section, Table
from nufed.server_app.report.record import COSTS, Record, badness
from nufed.server_app.report.words import direction, point, steps
from nufed.strategies.curves import say_undefined

STATISTICS = {"mean": "", "std": "_std", "worst tenth": "_worst_decile", "worst": "_bottom"}
BY_COST = "By gradients and by bytes"


def personal(run: Record) -> Section | None:
    """Tell what fine-tuning does."""
    if not run.groups:
        return None
    tables = list[tuple[str, Table | list[Figure]]]()
    for metric in run.metrics:
        rows = [
            [
                f"{group}, {label}",
                *(point(run.last[group], metric, end, i) for i in run.last[group]["k"]),
            ]
            for group in run.groups
            for label, end in STATISTICS.items()
        ]
        head = ["clients", *(f"k={k}" for k in run.last[run.groups[0]]["k"])]
        which = direction(lower_is_better=metric in run.falling)
        tables.append((f"Numbers: {metric}", Table(head, rows, f"{metric}, {which}")))
    where = "held-out" if run.config.evaluation.split == "test" else "validation"
    text = f"Measured in round {run.last['round']} on each client's {where} rows."
    text += _better_left(run)
    known = {"lower_is_better": run.falling} | (run.summary or {}) | run.last
    if more := still_pays(known, run.config, run.probed):
        text += f" {more}"
    by_cost = [figure for cost in COSTS for figure in draw.by_round(run, cost)]
    figures = [*draw.by_step(run), *draw.by_round(run), *draw.over_clients(run)]
    notes = [f"{line}." for line in say_undefined(run.last)]
    folded = [*([(BY_COST, by_cost)] if by_cost else []), *tables]
    return Section("Personal models", [text, *notes], figures=figures, folded=folded)


def _better_left(run: Record) -> str:
    """Say how many clients are worse after the last step than before; nothing if not known."""
    counts = list[str]()
    for group in run.groups:
        each = run.measurable(group)
        if each is None:
            return ""
        bad = badness(each, lower_is_better=run.lower_is_better)
        counts.append(f"{int((bad[:, -1] > bad[:, 0]).sum()):,} of {len(bad):,} {group}")
    last = run.last[run.groups[0]]["k"][-1]
    if not last:
        return ""
    return (
        f" {' and '.join(counts)} clients are better left at k=0: by {run.metric} they are worse "
        f"after {steps(last)}. nufed-adapt clients=all chooses how many for each."
    )
