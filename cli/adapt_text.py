"""What `nufed-adapt` says of a personal model."""

import math

import numpy as np
from rich.table import Table

from nufed.client_app.choice import Choice
from nufed.client_app.personal import FineTuning, Personal
from nufed.conf.text import count, printable
from nufed.tasks.table_transform import described

SHOWN = 20  # steps in the table, or nearly so


def heading(personal: Personal, data: str) -> list[str]:
    """Return a line about the rows, and one about the steps; and the title of the table."""
    train, test = len(personal.train_rows), len(personal.test_rows)
    held_out = f"{test} held out" if test else "none held out, so nothing is measured"
    whose = f", client {personal.id}" if personal.task.data.num_clients > 1 else ""
    lines = [
        f"{data}{whose}: {count(train, 'row')} to fine-tune on, {held_out}",
        f"{personal.run}: {setting(personal.how, personal.choice)}",
        *([] if personal.choice is None else [choice_of(personal.choice)]),
    ]
    return [*lines, "on the rows held out, after k fine-tuning steps:"] if test else lines


def setting(how: FineTuning, choice: Choice | None) -> str:
    """Return how a model was fine-tuned, in a line."""
    chosen = "" if choice is None else f" of 0 … {len(choice.loss) - 1}"
    batch = f"{how.batch} rows each" if how.batch is not None else "all rows each"
    steps = count(how.steps, "step") if choice is None else f"k={how.steps}{chosen}"
    return f"{steps}, α={how.alpha:g}, {batch}"


def choice_of(choice: Choice) -> str:
    """Say why so many steps were chosen."""
    if not choice.rows:
        return "left at k=0: with 1 train row there is none to choose by"
    tried = f"{count(choice.rows, 'train row')}, each held out in turn"
    if not math.isfinite(choice.loss[1]):
        return f"left at k=0: on {tried}, one step led to a loss that is not finite; lower alpha"
    if choice.best == 0:
        return f"better left at k=0: on {tried}, no step lowers the loss"
    by, error = (f"{value:.3g}" for value in choice.gain)
    found = f"on {tried}, k={choice.best} lowers the loss by {by} (standard error {error})"
    if choice.k:
        return f"k={choice.k} is chosen: {found}"
    return f"left at k=0, as they do not tell it from no step: {found}"


def curve_table(personal: Personal) -> Table:
    """Return the metrics after each step, or after some where there are many."""
    table = Table()
    table.add_column("k", justify="right")
    for name in personal.curve:
        table.add_column(name, justify="right")
    last = len(personal.curve["loss"]) - 1
    every = -(-last // SHOWN) or 1
    for k in sorted({*range(0, last, every), personal.how.steps, last}):
        values = (number(values[k]) for values in personal.curve.values())
        table.add_row(str(k), *values, style="bold" if k == personal.how.steps else None)
    return table


def sentence(personal: Personal) -> str:
    """Return what came of it."""
    if not personal.curve:
        if personal.choice is not None and personal.choice.rows:
            return "It is told by the rows held out in turn alone; test_fraction=0.25 measures it."
        return "It is not known how good this model is: hold rows out to see, test_fraction=0.25."
    steps = personal.how.steps
    if steps == 0:
        now = ", ".join(f"{name} {number(values[0])}" for name, values in personal.curve.items())
        told = f"It is the trained model as it is: {now}."
    else:
        changes = [
            f"{name} {number(values[steps])} (before: {number(values[0])}{_error(personal, name)})"
            for name, values in personal.curve.items()
        ]
        told = f"After {count(steps, 'step')}: {', '.join(changes)}."
    return told + _worse(personal) + _one_class(personal)


def _error(personal: Personal, name: str) -> str:
    """Return a change with its standard error, where that is known."""
    error = personal.error(name)
    return "" if error is None else f"; change {personal.changes[name].mean:+.3f} ± {error:.3f}"


def _worse(personal: Personal) -> str:
    """Say what is worse on the rows held out than it was, if anything is."""
    lost = [name for name in personal.curve if personal.gain(name) < 0]
    if "loss" in lost:
        if personal.choice is not None:
            return (
                " Its loss is above the trained model's, though train rows held out in turn "
                "promised less; steps=0 keeps that model."
            )
        return (
            " Its loss is above the trained model's: take fewer steps, or a smaller alpha; "
            "steps=auto chooses them."
        )
    if "accuracy" in lost:
        rows = count(len(personal.test_rows), "row")
        return f" Fewer of {rows} are right than before: with more held out one would know."
    if lost:
        return f" Worse than the trained model's: {', '.join(lost)}."
    return ""


def _one_class(personal: Personal) -> str:
    """Say that all rows are of one class, and how a constant does: it is always right."""
    data = personal.task.data
    y = np.asarray(data.y)[[*personal.train_rows, *personal.test_rows]]
    if not personal.task.classification or len(np.unique(y)) > 1:
        return ""
    number = int(y.flat[0])
    called = class_names(data.table).get(number, str(number))
    right = personal.curve.get("accuracy", [0.0])[personal.how.steps] == 1
    constant = "a constant would be as accurate" if right else "to say it always would be right"
    return f" All rows are of class {called}: {constant}."


def class_names(table: str | None) -> dict[int, str]:
    """Return what classes are called in the table that rows were made of; nothing without one."""
    classes = None if table is None else described(table, "the run's table").target.classes
    return dict(enumerate(map(printable, classes or ())))


def number(value: float) -> str:
    """Return a value of a metric as it is shown."""
    if math.isnan(value):  # of a metric: a loss that is not finite ends before
        return "undefined"
    return f"{value:.3f}" if abs(value) < 1e4 else f"{value:.3g}"
