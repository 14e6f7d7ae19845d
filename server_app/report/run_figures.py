"""The figures of one run."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from nufed.server_app.report.figures import (
    COLOURS,
    Drawing,
    Figure,
    band,
    metric_axis,
    reference,
    scale,
    style,
    whole_rounds,
)
from nufed.server_app.report.record import Record, badness
from nufed.server_app.report.statistics import Array
from nufed.server_app.report.words import LOWER, directed, direction, number, steps
from nufed.strategies.curves import GROUPS

CHARTS = 12  # of the algorithm's metrics that are drawn
STRIP = 300  # points of a curve over clients; more than a screen shows


def training(run: Record) -> list[Figure]:
    """Draw what was measured while training: the loss, and how far a round goes."""
    rounds, loss = run.series("train_loss")
    if not rounds:
        return []
    drawing = Drawing("loss", "round", directed("training loss", lower_is_better=True))
    drawing.axes.plot(rounds, loss, color=COLOURS[0], **_dots(rounds))
    scale(drawing.axes, loss)
    whole_rounds(drawing.axes)
    first, last = number(loss[0], "loss"), number(loss[-1], "loss")
    figures = [
        drawing.finish(
            f"The training loss went from {first} to {last}"
            if len(rounds) > 1
            else f"The training loss was {last}",
            f"Training loss by round, of the clients that trained in it: {first} in round "
            f"{rounds[0]}, {last} in round {rounds[-1]}.",
            LOWER,
        )
    ]
    norms = {
        "gradient of a local step, mean": "meta_grad_norm",
        "update of the round": "update_norm",
    }
    drawing = Drawing("norms", "round", "Euclidean norm")
    for index, (label, key) in enumerate(norms.items()):
        of, values = run.series(key)
        drawing.axes.plot(of, values, label=label, color=COLOURS[2 + index], **_dots(of))
    scale(drawing.axes, np.concatenate([run.series(key)[1] for key in norms.values()]))
    whole_rounds(drawing.axes)
    title = "How long the steps of clients and of the round are"
    return [*figures, drawing.finish(title, f"{title}, by round.")]


AXES = {
    "gradients": "gradients taken per participating client",
    "bytes": "MB sent and received by clients",
}
"""What may stand in the place of rounds."""


def by_round(run: Record, cost: str | None = None) -> list[Figure]:
    """Draw personal models at their last step, round by round, or by what was spent on them."""
    costs = run.costs
    if len(run.evaluated) < 2 or (cost and any(r["round"] not in costs for r in run.evaluated)):
        return []
    metric, last_k = run.metric, run.last[run.groups[0]]["k"][-1]
    axis = AXES[cost] if cost else "round"
    drawing = Drawing(cost or "rounds", axis, _axis(run, last_k))
    said, drawn = list[str](), [np.array([])]
    for group in run.groups:
        index = GROUPS.index(group)
        rounds, mean = run.curves(group, metric)
        _, worst = run.curves(group, f"{metric}_worst_decile")
        unit = 1e6 if cost == "bytes" else 1
        x = [costs[each][cost] / unit for each in rounds] if cost else rounds
        look = style(index, len(rounds))
        drawing.axes.plot(x, mean[:, -1], label=group, **look)
        drawing.axes.plot(x, worst[:, -1], "--", **look | {"marker": None})
        said.append(f"{group} clients from {_ends(mean[:, -1], metric)}")
        drawn += [mean[:, -1], worst[:, -1]]
    drawn += _without_model(run, drawing, said)
    if cost is None:
        whole_rounds(drawing.axes)
    _metric_axis(run, drawing, drawn)
    ends = said[len(run.groups) - 1]
    title = f"Training took {ends} after {steps(last_k)}; dashed: worst tenth"
    if cost is not None:
        title = f"Mean {metric} by {axis}; dashed: worst tenth"
    return [_finish(run, drawing, title, f"Mean {metric} by {axis}: {'; '.join(said)}.")]


def of_algorithm(run: Record) -> list[Figure]:
    """Draw each of the algorithm's own metrics by round, a mean over the clients of the round."""
    figures = list[Figure]()
    for i, name in enumerate(run.metric_names[:CHARTS]):
        rounds, values = run.metric_series(name)
        drawing = Drawing(f"metric{i}", "round", "mean over clients")
        drawing.axes.plot(rounds, values, color=COLOURS[i % len(COLOURS)], **_dots(rounds))
        scale(drawing.axes, values)
        whole_rounds(drawing.axes)
        title = f"{name} went from {_ends(values, name)}"
        figures.append(drawing.finish(title, f"{title}, a mean over the clients of each round."))
    return figures


def by_step(run: Record) -> list[Figure]:
    """Draw the personalization curves of the end, with their spread over clients."""
    metric = run.metric
    if not run.groups or len(run.last[run.groups[0]]["k"]) < 2:
        return []
    drawing = Drawing("steps", "fine-tuning steps k", _axis(run))
    said, drawn, spread, moves = list[str](), [np.array([])], "", False
    for group in run.groups:
        index, k, mean = GROUPS.index(group), run.last[group]["k"], run.final(group, metric)
        low, high, spread = _spread(run, group)
        band(drawing.axes, k, low, high, index)
        label = f"{group} ({run.last[group]['clients']:,})"
        drawing.axes.plot(k, mean, label=label, **style(index, len(k)))
        said.append(f"{group} clients from {_ends(mean, metric)}")
        moves = moves or number(mean[0], metric) != number(mean[-1], metric)
        drawn += [mean, low, high]
    for name, value in _alone(run).items():
        reference(drawing.axes, value, name, "--")
        said.append(f"{name}, {number(value, metric)}")
        drawn.append(np.array([value]))
    drawn += _without_model(run, drawing, said)
    whole_rounds(drawing.axes)
    _metric_axis(run, drawing, drawn)
    fine = said[len(run.groups) - 1]
    what = f"Fine-tuning takes {fine}" if moves else f"{metric.title()} by fine-tuning steps"
    title = f"{what}; shaded: {spread}"
    return [_finish(run, drawing, title, f"Mean {metric} by fine-tuning steps: {'; '.join(said)}.")]


def _axis(run: Record, k: int | None = None) -> str:
    """Return what an axis of the metric says."""
    at = "" if k is None else f" at k = {k}"
    return f"{directed(run.metric, lower_is_better=run.lower_is_better)}{at}"


def _metric_axis(run: Record, drawing: Drawing, drawn: Sequence[Array]) -> None:
    values, lower = np.concatenate(drawn), run.lower_is_better
    metric_axis(drawing.axes, values, run.limits(run.metric), lower_is_better=lower)


def _finish(run: Record, drawing: Drawing, title: str, alt: str) -> Figure:
    return drawing.finish(title, alt, direction(lower_is_better=run.lower_is_better))


def _without_model(run: Record, drawing: Drawing, said: list[str]) -> list[Array]:
    """Draw and say what the last group of clients has without any model, if it was measured."""
    found = run.constant(run.groups[-1])
    if found is None:
        return []
    name, value = found
    reference(drawing.axes, value, name, ":")
    said.append(f"{name}, {number(value, run.metric)}")
    return [np.array([value])]


def _alone(run: Record) -> dict[str, float]:
    """Return what the last group of clients does best without federation, by what it is called.

    Nothing where that needs no model: `_without_model` draws it.
    """
    if (beside := run.beside) is None or beside.best == "constant":
        return {}
    value = beside.means[beside.best].get(run.groups[-1])
    return {} if value is None else {f"{run.groups[-1]}, {beside.called(beside.best)}": value}


def over_clients(run: Record) -> list[Figure]:
    """Draw every client's own model after the last step, the worst served first."""
    metric = run.metric
    found = {g: values for g in run.groups if (values := run.measurable(g)) is not None}
    each = {group: values for group, values in found.items() if len(values)}
    if not each:
        return []
    last_k = run.last[run.groups[0]]["k"][-1]
    drawing = Drawing("clients", "clients, worst served first (%)", _axis(run, last_k))
    drawn = list[Array]()
    for group, curves in each.items():
        values = worst_first(curves[:, -1], lower_is_better=run.lower_is_better)
        rank = np.linspace(0, 100, len(values)) if len(values) > 1 else np.array([50.0])
        some = np.unique(np.linspace(0, len(values) - 1, STRIP).astype(int))
        look = style(GROUPS.index(group), len(some)) | {"markevery": 1}
        if len(values) > STRIP / 4:
            look["marker"] = None
        drawing.axes.plot(rank[some], values[some], label=f"{group} ({len(values):,})", **look)
        drawn.append(values)
    values = np.concatenate(drawn)
    said = list[str]()
    _metric_axis(run, drawing, [values, *_without_model(run, drawing, said)])
    ordered = worst_first(values, lower_is_better=run.lower_is_better)
    middle, worst = (float(ordered[i]) for i in (len(ordered) // 2, 0))
    side = " or below" if run.lower_is_better else " or above"
    side = "" if middle in run.limits(metric) else side  # there is nothing beyond
    title = (
        f"Half of the clients are at {number(middle, metric)}{side}; the worst served is at "
        f"{number(worst, metric)}{_behind_the_worst(run)}"
    )
    return [
        _finish(
            run, drawing, title, f"{metric} of each client, sorted. {'; '.join([title, *said])}."
        )
    ]


def _behind_the_worst(run: Record) -> str:
    """Return `` (4 of 5)``, which rows of the worst served client are right; empty if unknown."""
    if not run.counts_rows:
        return ""
    bad = list[tuple[float, str, int]]()
    for group in run.groups:
        each, there = run.each_client(group), np.flatnonzero(run.there(group))
        assert each is not None
        ends = badness(each[:, -1], lower_is_better=run.lower_is_better)
        bad += [(float(ends[i]), group, int(i)) for i in there]
    _, group, i = max(bad, key=lambda each: each[0])
    return f" ({run.behind(group, i)} rows)"


def diagnosed(run: Record) -> list[Figure]:
    """Draw the measured squared norm of the meta-gradient over all participating clients."""
    found = {
        row["round"]: row["diagnostics"]["meta_grad_norm2"]
        for row in run.rows
        if row.get("diagnostics", {}).get("meta_grad_norm2") is not None
    }
    if not found:
        return []
    values = np.array(list(found.values()), np.float64)
    drawing = Drawing("diagnostics", "round", directed("‖∇F(w)‖²", lower_is_better=True))
    drawing.axes.plot(list(found), values, **style(0, len(found)))
    scale(drawing.axes, values)
    whole_rounds(drawing.axes)
    ends = f"{values[0]:.3g} in round {min(found)}, {values[-1]:.3g} in round {max(found)}"
    title = f"The squared norm of the meta-gradient: {ends}"
    alt = f"‖∇F(w)‖² over all participating clients, by round: {ends}."
    return [drawing.finish(title, alt, LOWER)]


def worst_first(values: Array, *, lower_is_better: bool) -> Array:
    """Sort values, the worst first; what is not finite is worse than any."""
    bad = badness(values, lower_is_better=lower_is_better)
    ordered: Array = values[np.argsort(-bad, kind="stable")]
    return ordered


def _spread(run: Record, group: str) -> tuple[Array, Array, str]:
    """Return what most clients lie between at each k, and how that is called."""
    each = run.measurable(group)
    if each is not None and len(each):
        lower = run.lower_is_better
        ordered = np.stack([worst_first(v, lower_is_better=lower) for v in each.T], axis=-1)
        tenth = len(ordered) // 10
        return (
            ordered[tenth],
            ordered[-1 - tenth],
            "all but the best and worst tenth",
        )
    mean, std = run.final(group, run.metric), run.final(group, f"{run.metric}_std")
    least, most = run.limits(run.metric)
    return np.maximum(mean - std, least), np.minimum(mean + std, most), "one standard deviation"


def _ends(values: Array, metric: str) -> str:
    return f"{number(values[0], metric)} to {number(values[-1], metric)}"


def _dots(rounds: Sequence[int]) -> dict[str, Any]:
    """Return what shows a line of few points."""
    return {"marker": "o"} if len(rounds) < 20 else {}
