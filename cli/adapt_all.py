"""`nufed-adapt clients=all`: a folder with a personal model for each client, and their table."""

import csv
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from nufed.cli.adapt_files import draft
from nufed.cli.client_files import file_names
from nufed.client_app.fine_tuner import FineTuner
from nufed.client_app.personal import Personal
from nufed.conf.errors import InputError
from nufed.conf.words import path_of
from nufed.server_app.terminal import Terminal
from nufed.strategies.curves import GROUPS
from nufed.tasks.ids import Id

FOLDER = "personal"
TABLE = "clients.csv"
TENTHS = 10  # lines of progress where there is no terminal


class Served(NamedTuple):
    """What is left of a client's model in memory: figures."""

    id: Id
    group: str
    """``participating``, ``new``, or nothing where the rows are not the run's."""
    rows: int
    """Train rows."""
    steps: int
    chosen: bool
    """Whether there were train rows to choose the steps by: of one row, k = 0 is left unchosen."""
    doubtful: bool
    """Whether it is left at k = 0 though its train rows spoke for steps, within their error."""
    before: float | None
    """The metric after k = 0 on its held-out rows; None where there are none."""
    after: float | None
    """After the steps taken."""
    usual: float | None
    """After the run's ν; None if so many were not tried."""
    gain: float | None
    """By how much it is better than before."""
    error: float | None
    """Of the gain, its standard error; None where that is not known."""


class Outcome(NamedTuple):
    """What was made of all."""

    metric: str
    """That the figures are of."""
    lower_is_better: bool
    """Whether less of it is better."""
    usual: int
    """The run's ν."""
    chosen: bool
    """Whether the steps of each were to be chosen."""
    served: list[Served]
    failed: list[tuple[Id, str]]
    """Clients without a model, and why."""


def members(tuner: FineTuner, which: str, of_run: bool) -> dict[int, str]:
    """Return the clients that are meant, by number, and of which group each is.

    Raises
    ------
    InputError
        If it is not known which these are.
    """
    everybody = range(tuner.ids.n)
    if not of_run:
        if which != "all":
            raise InputError(
                f"clients={which}: who takes part in training is known of the run's own data; "
                "leave data out, or say clients=all"
            )
        return dict.fromkeys(everybody, "")
    from nufed.strategies.roster import choose_new_clients  # imported here, as Flower comes with it

    config = tuner.config
    new = choose_new_clients(tuner.ids, config.evaluation.new_clients, config.seed)
    groups = {number: GROUPS[number in new] for number in everybody}
    found = {number: group for number, group in groups.items() if which in ("all", group)}
    if not found:
        raise InputError(f"clients={which}: the run has none; say clients=all")
    return found


def place_of(out: str) -> Path:
    """Return the folder to be.

    Raises
    ------
    InputError
        If it names a file, or something is there already.
    """
    place = path_of(out).absolute()
    if place.suffix == ".safetensors":
        raise InputError(f"out={out}: is one model's file; name a folder for those of all clients")
    if os.path.lexists(place) and not (place.is_dir() and not any(place.iterdir())):
        raise InputError(f"{place}: is there already; delete it, or name another as out=…")
    return place


def write_all(
    tuner: FineTuner,
    clients: Mapping[int, str],
    place: Path,
    forms: Sequence[str],
    advance: Callable[[], None],
) -> Outcome:
    """Write a model for each client, and the table; all in a folder that appears whole, or not.

    One model is made and written after another, so that memory does not grow with them.

    Parameters
    ----------
    clients
        As of `members`.
    place
        The folder.
    forms
        What each is exported as besides.
    advance
        Called after each client.

    Raises
    ------
    InputError
        If no client can be served, a file cannot be written or an export is not the same model.
    """
    names = dict(zip(clients, file_names([tuner.ids[i] for i in clients]), strict=True))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".nufed-", dir=place.parent) as drafts:
            folder = Path(drafts) / "all"
            folder.mkdir()
            with (folder / TABLE).open("x", encoding="utf-8", newline="") as file:
                outcome = _write_each(tuner, clients, names, folder, forms, file, advance)
            folder.rename(place)
    except OSError as error:
        raise InputError(
            f"{place}: cannot be written ({error.strerror}); name another folder as out=…"
        ) from error
    return outcome


def _write_each(
    tuner: FineTuner,
    clients: Mapping[int, str],
    names: Mapping[int, str],
    folder: Path,
    forms: Sequence[str],
    file: Any,
    advance: Callable[[], None],
) -> Outcome:
    metrics = tuner.task.objective.names
    metric = metrics[1] if len(metrics) > 1 else metrics[0]
    table = csv.DictWriter(file, columns(metrics), restval="")
    table.writeheader()
    served, failed = list[Served](), list[tuple[Id, str]]()
    first: InputError | None = None
    for number, group in clients.items():
        about: dict[str, Any] = {"client": tuner.ids[number], "group": group}
        try:
            personal = tuner.personal(number)
        except InputError as error:
            first = first or error
            failed.append((tuner.ids[number], str(error)))
            table.writerow(about | {"error": str(error)})
        else:
            model = f"{names[number]}.safetensors"
            draft(personal, [folder / model, *(folder / f"{names[number]}.{f}" for f in forms)])
            table.writerow(about | row(personal, tuner.usual) | {"file": model})
            served.append(summed_up(personal, group, metric, tuner.usual))
        advance()
    if first is not None and not served:
        raise InputError(f"no client can be served; {first}")
    lower = metric in tuner.lower_is_better
    return Outcome(metric, lower, tuner.usual, tuner.chosen, served, failed)


def columns(metrics: Sequence[str]) -> list[str]:
    """Return the columns of the table."""
    points = [f"{name}_{point}" for name in metrics for point in ("0", "k", "nu")]
    gains = [f"{name}_{what}" for name in metrics for what in ("gain", "gain_se")]
    chosen = ["loss_best_k", "loss_best_gain", "loss_best_gain_se"]
    tried = [f"train_{name}" for name in chosen]
    who = ["client", "group", "train_rows", "test_rows", "k"]
    return [*who, *points, *gains, *tried, "file", "error"]


def row(personal: Personal, usual: int) -> dict[str, Any]:
    """Return what the table says of a client's model."""
    found: dict[str, Any] = {
        "train_rows": len(personal.train_rows),
        "test_rows": len(personal.test_rows),
        "k": personal.how.steps,
    }
    for name, values in personal.curve.items():
        at = {"0": 0, "k": personal.how.steps, "nu": usual}
        found |= {f"{name}_{p}": values[k] for p, k in at.items() if k < len(values)}
        found[f"{name}_gain"] = personal.gain(name)
        if (error := personal.error(name)) is not None:
            found[f"{name}_gain_se"] = error
    if (choice := personal.choice) is not None and choice.rows:
        found["train_loss_best_k"] = choice.best
        found["train_loss_best_gain"], found["train_loss_best_gain_se"] = choice.gain
    return found


def summed_up(personal: Personal, group: str, metric: str, usual: int) -> Served:
    """Return the figures of a client's model."""
    values, k = personal.curve.get(metric, []), personal.how.steps
    before, after, at_nu = (values[i] if i < len(values) else None for i in (0, k, usual))
    gain = personal.gain(metric) if values else None
    error = personal.error(metric)
    doubtful = k == 0 and personal.choice is not None and personal.choice.best > 0
    chosen = personal.choice is not None and personal.choice.rows > 0
    rows = len(personal.train_rows)
    return Served(personal.id, group, rows, k, chosen, doubtful, before, after, at_nu, gain, error)


@contextmanager
def progress(console: Terminal, clients: int) -> Iterator[Callable[[], None]]:
    """Show how many clients are done: a bar, or elsewhere a line for each tenth of many."""
    if console.is_terminal:
        parts = TextColumn("clients"), MofNCompleteColumn(), BarColumn(), TimeRemainingColumn()
        with Progress(*parts, console=console, transient=True) as bar:
            task = bar.add_task("", total=clients)
            yield lambda: bar.advance(task)
        return
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        if clients >= TENTHS**2 and done * TENTHS // clients > (done - 1) * TENTHS // clients:
            console.say(f"clients {done}/{clients}")

    yield advance
