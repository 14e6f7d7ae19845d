"""How training went."""

import numpy as np

from nufed.server_app.report import run_figures as draw
from nufed.server_app.report.page import Section, Table
from nufed.server_app.report.record import Record
from nufed.server_app.report.words import (
    directed,
    direction,
    duration,
    number,
    point,
    rounded,
    size,
)


def training(run: Record) -> Section:
    """Tell how training went."""
    summary, c = run.summary or {}, run.config
    facts = [("rounds", f"{run.rounds} of {c.rounds}")]
    if "stopped_early" in summary:
        facts += [("stopped early", summary["stopped_early"])]
    if there := summary.get("clients"):
        facts += [("clients", f"{there['participating']:,} participating, {there['new']:,} new")]
    _, seconds = run.series("train_s")
    if len(seconds := seconds[np.isfinite(seconds)]):
        facts += [("median round", duration(float(np.median(seconds))))]
    if summary.get("wall_s") is not None:
        facts += [("the run took", duration(summary["wall_s"]))]
    if cost := next((row["cost"] for row in reversed(run.rows) if "cost" in row), None):
        up, down = size(cost["bytes_up"]), size(cost["bytes_down"])
        taken = f"{rounded(cost['gradients'])} gradients a client"
        facts += [("cost so far", f"{taken}, {up} up, {down} down")]
    if "parameters" in summary:
        facts += [("parameters", f"{summary['parameters']:,}")]
        if summary.get("trained_parameters", summary["parameters"]) != summary["parameters"]:
            facts += [("of which train", f"{summary['trained_parameters']:,}")]
    if summary.get("peak_rss_mb") is not None:
        facts += [("memory at most", f"{summary['peak_rss_mb']:.0f} MB")]
    for spent in (summary, *run.rows[-1:]):
        if spent.get("epsilon") is None or spent.get("delta") is None:
            continue
        facts += [("privacy", f"ε = {spent['epsilon']:.3g} at δ = {spent['delta']:g}, of clients")]
        break
    return Section(
        "Training",
        facts=facts,
        figures=draw.training(run),
        folded=[("Numbers by round", _by_round(run))] if run.evaluated else [],
    )


def _by_round(run: Record) -> Table:
    """List every evaluated round."""
    metric = run.metric
    names = [(group, end) for group in run.groups for end in ("", "_worst_decile")]
    head = [f"{group}{', worst tenth' if end else ''}" for group, end in names]
    rows = [
        [
            str(row["round"]),
            number(row["train_loss"], "loss") if "train_loss" in row else "–",
            *(point(row[group], metric, end, -1) if group in row else "–" for group, end in names),
        ]
        for row in run.evaluated
    ]
    which = direction(lower_is_better=run.lower_is_better)
    caption = f"{metric} after the last fine-tuning step; {which}"
    loss = directed("training loss", lower_is_better=True)
    return Table(["round", loss, *head], rows, caption)
