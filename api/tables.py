"""Figures of a run as tables: of pandas where that is installed, else a dictionary of columns."""

import math
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from nufed.cli.adapt_all import Outcome
from nufed.server_app.report.comparison import Comparison
from nufed.server_app.report.record import Record
from nufed.server_app.report.statistics import Interval
from nufed.server_app.tracking import Row
from nufed.server_app.written import COLUMNS
from nufed.strategies.curves import GROUPS

Table = Any
"""A pandas.DataFrame; or a dictionary, column -> array [rows]."""


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return rows as a table, which has a column for every key; what a row lacks is NaN there."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: _column([row.get(name) for row in rows]) for name in names}
    if find_spec("pandas") is None:
        return columns
    return __import__("pandas").DataFrame(columns)


def _column(values: list[Any]) -> Any:
    """Return an array of numbers if all are, but for gaps."""
    gaps = [np.nan if value is None else value for value in values]
    return np.array(gaps if all(isinstance(v, int | float) for v in gaps) else values)


def curves(run: Record) -> Table:
    """Return a row for each evaluated round, group of clients and number k of steps."""
    return table([point for row in run.evaluated for point in _points(row)])


def _points(row: Row) -> Iterator[dict[str, Any]]:
    for group in (group for group in GROUPS if group in row):
        ks = row[group]["k"]
        found = {
            name: values
            for name, values in row[group].items()
            if isinstance(values, list) and len(values) == len(ks) and name != "k"
        }
        for i, k in enumerate(ks):
            at = {name: values[i] for name, values in found.items()}
            yield {"round": row["round"], "group": group, "k": k} | at


def clients(run: Record) -> Table:
    """Return a row for each client of the last evaluation and number k of steps."""
    of = run.clients or {}
    return table([point for group in GROUPS if group in of for point in _each(of, group)])


def _each(of: Mapping[str, Any], group: str) -> Iterator[dict[str, Any]]:
    measured = {name: v for name, v in of[group].items() if name not in COLUMNS}
    for i in range(len(of[group]["client"])):
        who = {name: of[group][name][i] for name in COLUMNS if name in of[group]}
        whose = {"round": of["round"], "group": group} | who
        for k in range(len(next(iter(measured.values()))[i])):
            yield whose | {"k": k} | {name: values[i][k] for name, values in measured.items()}


def rounds(run: Record) -> Table:
    """Return a row for each round of training: the numbers that it says of itself."""
    return table([_numbers(row) for row in run.rows if row["round"] > 0])


def _numbers(row: Row) -> dict[str, Any]:
    own = {name: value for name, value in row.items() if type(value) in (int, float)}
    others = *row.get("metrics", {}).items(), *row.get("cost", {}).items()
    return own | dict(others) | {"failures": len(row.get("failures", ()))}


def personal_models(of: Outcome) -> Table:
    """Return a row for each client of whom a model was asked."""
    served = [
        {
            "client": each.id,
            "group": each.group,
            "train_rows": each.rows,
            "k": each.steps,
            f"{of.metric}_0": each.before,
            f"{of.metric}_k": each.after,
            "gain": each.gain,
            "gain_se": each.error,
        }
        for each in of.served
    ]
    return table([*served, *({"client": each, "error": why} for each, why in of.failed)])


def ends(of: Comparison) -> Table:
    """Return a row for each group of runs and kind of clients: its end, and 95% intervals."""
    k, metric, found = of.last_k, of.metric, list[dict[str, Any]]()
    for group in of.groups:
        for kind in of.kinds:
            end, worst = (of.end(group, kind, k, part) for part in ("", "_worst_decile"))
            row: dict[str, Any] = {"runs": group.label, "group": kind}
            row |= {"seeds": len(group.runs), "k": k}
            row |= {metric: end.mean} | _bounds("low", "high", of=end)
            row |= {f"{metric}_worst_decile": worst.mean}
            gain = of.gain(group, kind, k)
            if gain:
                over = _bounds("over_first_low", "over_first_high", of=gain[0])
                row |= {"over_first": gain[0].mean} | over
            found.append(row)
    return table(found)


def _bounds(low: str, high: str, *, of: Interval) -> dict[str, float | None]:
    """Return the ends of an interval; None where a single seed gives none."""
    finite = math.isfinite(of.low)
    return {low: of.low if finite else None, high: of.high if finite else None}
