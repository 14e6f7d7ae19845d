"""What `nufed-adapt` says of a personal model."""

import math

import numpy as np
from rich.table import Table

from nufed.client_app.personal import Personal

SHOWN = 20  # steps in the table, or nearly so


def heading(personal: Personal, data: str) -> list[str]:
    """Return a line about the rows, and one about the steps; and the title of the table."""
    how, train, test = personal.how, len(personal.train_rows), len(personal.test_rows)
    held_out = f"{test} held out" if test else "none held out, so nothing is measured"
    batch = f"{how.batch} rows each" if how.batch is not None else "all rows each"
    ids = personal.task.data.partition.ids
    whose = f", client {ids[personal.client]}" if ids.n > 1 else ""
    lines = [
        f"{data}{whose}: {_count(train, 'row')} to fine-tune on, {held_out}",
        f"{personal.run}: {_count(how.steps, 'step')}, α={how.alpha:g}, {batch}",
    ]
    return [*lines, "on the rows held out, after k fine-tuning steps:"] if test else lines


def curve_table(personal: Personal) -> Table:
    """Return the metrics after each step, or after some where there are many."""
    table = Table()
    table.add_column("k", justify="right")
    for name in personal.curve:
        table.add_column(name, justify="right")
    steps = personal.how.steps
    every = -(-steps // SHOWN) or 1
    for k in sorted({*range(0, steps, every), steps}):
        table.add_row(str(k), *(_number(values[k]) for values in personal.curve.values()))
    return table


def sentence(personal: Personal) -> str:
    """Return what came of it."""
    if not personal.curve:
        return "It is not known how good this model is: hold rows out to see, test_fraction=0.25."
    changes = [
        f"{name} {_number(values[-1])} (before: {_number(values[0])})"
        for name, values in personal.curve.items()
    ]
    told = f"After {_count(personal.how.steps, 'step')}: {', '.join(changes)}."
    loss = personal.curve["loss"]
    if loss[-1] > loss[0]:
        told += " Its loss is above the trained model's: take fewer steps, or a smaller alpha."
    accuracy = personal.curve.get("accuracy", [0.0])
    if loss[-1] <= loss[0] and accuracy[-1] < accuracy[0]:
        rows = _count(len(personal.test_rows), "row")
        told += f" Fewer of {rows} are right than before: with more held out one would know."
    y = np.asarray(personal.task.data.y)[[*personal.train_rows, *personal.test_rows]]
    if personal.task.classification and len(np.unique(y)) == 1:
        told += f" All rows are of class {y.flat[0]}: a constant would be as accurate."
    return told


def _number(value: float) -> str:
    if math.isnan(value):  # of a metric: a loss that is not finite ends before
        return "undefined"
    return f"{value:.3f}" if abs(value) < 1e4 else f"{value:.3g}"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
