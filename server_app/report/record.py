"""A run folder, read: also one of a run that goes on, was cut off, or is older than this code."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nufed.conf.compose import find_config
from nufed.conf.errors import InputError, reason
from nufed.conf.files import is_there
from nufed.conf.schema import Config
from nufed.conf.targets import foreign
from nufed.server_app.amiss import CONSTANT
from nufed.server_app.baselines.verdict import WORDS, Beside
from nufed.server_app.baselines.verdict import read as read_beside
from nufed.server_app.report.statistics import Array
from nufed.server_app.report.words import data_of
from nufed.server_app.run_folder import CLIENTS, METRICS, SUMMARY, load, read_json, whole_rows
from nufed.server_app.tracking import Row
from nufed.server_app.written import TEST_ROWS, checked_clients, checked_summary
from nufed.strategies.curves import GROUPS, shown, undefined
from nufed.tasks.ids import Id
from nufed.tasks.measures import lower_is_better
from nufed.tasks.objective import LOWER_IS_BETTER
from nufed.tasks.possible import Limits, limits

CERTIFICATE = "certificate.svg"
SIX_DIGITS = 1e-6
COSTS = "gradients", "bytes"
"""Beside rounds, what a run is measured by: gradients a client took, bytes sent either way."""


@dataclass(frozen=True)
class Record:
    """What a run left in its folder."""

    folder: Path
    config: Config
    rows: list[Row]
    summary: dict[str, Any] | None
    """None for a run that goes on, or was killed."""
    clients: dict[str, Any] | None
    """The last evaluation, client by client, as clients.json has it; None where that is not here.
    """

    @cached_property
    def evaluated(self) -> list[Row]:
        """The rows of rounds that were evaluated."""
        return [row for row in self.rows if any(group in row for group in GROUPS)]

    @property
    def last(self) -> Row:
        """The last row that was evaluated; empty if none was."""
        return self.evaluated[-1] if self.evaluated else {}

    @property
    def probed(self) -> dict[str, float]:
        """The step sizes that nobody set: a probe of the task chose them."""
        return self.rows[0].get("probed", {}) if self.rows else {}

    @property
    def groups(self) -> list[str]:
        """The kinds of clients that were measured in the end."""
        return [group for group in GROUPS if group in self.last]

    @property
    def metric(self) -> str:
        """What is reported: accuracy of classes, mae of a regression, or a metric of one's own."""
        return shown(self.last[self.groups[0]]) if self.groups else "loss"

    @property
    def metrics(self) -> list[str]:
        """What was measured beside the loss, that metric first; and the loss."""
        of = self.last[self.groups[0]] if self.groups else {}
        found = [name for name in of if f"{name}_worst_decile" in of and name != "loss"]
        return [*found, "loss"]

    @property
    def lower_is_better(self) -> bool:
        """Whether less of that metric is better."""
        return self.metric in self.falling

    @property
    def falling(self) -> Collection[str]:
        """The metrics of which less is better."""
        known: Collection[str] | None = (self.summary or {}).get("lower_is_better")
        if known is None and foreign(self.config):  # killed; to look a name up would import it
            known = LOWER_IS_BETTER
        elif known is None:
            known = lower_is_better(self.config.task)
        return known

    def limits(self, metric: str) -> Limits:
        """Return between what a metric always is."""
        return limits(self.config.task, metric)

    @property
    def rounds(self) -> int:
        """The last round that was completed."""
        return int(self.rows[-1]["round"]) if self.rows else 0

    @property
    def stopped(self) -> str | None:
        """Why the run ended before its last round; None if it did not, or not yet."""
        return (self.summary or {}).get("stopped")

    @cached_property
    def beside(self) -> Beside | None:
        """What clients have without federation; None where it was not measured."""
        said = (self.summary or {}).get("baselines")
        return None if said is None else read_beside(said)

    @property
    def data(self) -> str:
        """What data the run is of, and how they are split, in words."""
        there = (self.summary or {}).get("clients", {})
        return data_of(self.config, sum(there.values()) or None)

    def constant(self, group: str) -> tuple[str, float] | None:
        """Return what needs no model, as people read it, and what it has of the metric.

        The most frequent class of a client of a group, or the mean of its targets; of all clients,
        where baselines were not asked for. None where nobody measured it.
        """
        if (beside := self.beside) is not None and beside.metric == self.metric:
            value = beside.means.get("constant", {}).get(group)
            called = f"{group}, {beside.called('constant')}"
            return None if value is None else (called, value)
        value = (self.summary or {}).get(CONSTANT, {}).get("accuracy")
        if value is None or self.metric != "accuracy":
            return None
        return f"all, {WORDS['constant']}", value

    def series(self, key: str) -> tuple[list[int], Array]:
        """Return the rounds whose row has a figure, and the figures; NaN where not finite."""
        rows = [row for row in self.rows if key in row]
        return [row["round"] for row in rows], np.array([row[key] for row in rows], np.float64)

    @cached_property
    def costs(self) -> dict[int, dict[str, float]]:
        """What was spent up to each round, where that is known; before the first, nothing."""
        found = {row["round"]: _spent(row["cost"]) for row in self.rows if "cost" in row}
        return {0: dict.fromkeys(COSTS, 0.0)} | found if found else {}

    @property
    def metric_names(self) -> list[str]:
        """The algorithm's own metrics."""
        return list(dict.fromkeys(name for row in self.rows for name in row.get("metrics", {})))

    def metric_series(self, name: str) -> tuple[list[int], Array]:
        """Return the rounds that have one of these, and its values; NaN where not finite."""
        rows = [row for row in self.rows if name in row.get("metrics", {})]
        values = [row["metrics"][name] for row in rows]
        return [row["round"] for row in rows], np.array(values, np.float64)

    def curves(self, group: str, name: str) -> tuple[list[int], Array]:
        """Return the evaluated rounds, and a statistic of a group's curves, [rounds, K + 1]."""
        rows = [row for row in self.evaluated if name in row.get(group, {})]
        return [r["round"] for r in rows], np.array([r[group][name] for r in rows], np.float64)

    def final(self, group: str, name: str) -> Array:
        """Return a statistic of a group's curves at the end, [K + 1]; NaN where not finite."""
        return np.array(self.last[group][name], np.float64)

    def each_client(self, group: str) -> Array | None:
        """Return every client's own curve at the end, [clients, K + 1], where it is known."""
        if self.clients is None or group not in self.clients:
            return None
        return np.array(self.clients[group][self.metric], np.float64)

    def measurable(self, group: str) -> Array | None:
        """Return the curves of `each_client` of those for whom the metric exists in the end."""
        each = self.each_client(group)
        return None if each is None else each[self.there(group)]

    def there(self, group: str) -> NDArray[np.bool_]:
        """Return for which clients of `each_client` the metric exists in the end, [clients]."""
        assert self.clients is not None
        values, loss = (np.array(self.clients[group][n], np.float64) for n in (self.metric, "loss"))
        return ~undefined(values, loss)[:, -1]

    @property
    def test_rows_known(self) -> bool:
        """Whether it is known on how many rows each client was measured."""
        return self.clients is not None and all(TEST_ROWS in self.clients[g] for g in self.groups)

    def behind(self, group: str, i: int) -> str | None:
        """Return the rows behind what the i-th of `each_client` has in the end; None if unknown.

        ``4 of 5`` are right, where the metric counts these; else ``5``.
        """
        if self.clients is None or not self.test_rows_known:
            return None
        rows, share = self.clients[group][TEST_ROWS][i], self.clients[group][self.metric][i][-1]
        counted = self.counts_rows and share is not None  # None of a client that diverged
        return f"{round(share * rows)} of {rows}" if counted else str(rows)

    @cached_property
    def counts_rows(self) -> bool:
        """Whether the metric is the share of a client's test rows that are right.

        An accuracy of places in sequences is not, nor need be a metric of one's own by this name:
        neither is a whole number of rows for every client, to the six digits that are kept.
        """
        known = self.metric == "accuracy" and self.test_rows_known
        return known and all(map(self._whole, self.groups))

    def _whole(self, group: str) -> bool:
        each, clients = self.each_client(group), self.clients
        assert each is not None
        assert clients is not None
        shares, of = np.nan_to_num(each), np.array(clients[group][TEST_ROWS], np.float64)[:, None]
        return bool((np.abs(shares - np.rint(shares * of) / of) <= SIX_DIGITS).all())

    def name(self, client: Id) -> str:
        """Return what the data set calls a client, given what a file of the run has for it."""
        names = (self.clients or {}).get("names")  # of an older run, whose files have numbers
        return str(client if names is None else names[client])


@contextmanager
def as_written(where: object) -> Iterator[None]:
    """Raise an `InputError` where files of a run are not as a run writes them: anybody may have.

    Parameters
    ----------
    where
        What names the run, or runs, to a person.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise InputError(
            f"{where}: a file is not as a run writes it ({type(error).__name__}: {reason(error)})"
        ) from error


def _spent(cost: dict[str, Any]) -> dict[str, float]:
    return {"gradients": cost["gradients"], "bytes": float(cost["bytes_up"] + cost["bytes_down"])}


def badness(values: Array, *, lower_is_better: bool) -> Array:
    """Return numbers that are the greater the worse a value is; ∞ where it is not finite."""
    return np.where(np.isfinite(values), values if lower_is_better else -values, np.inf)


def read_record(folder: Path, name: str | None = None) -> Record:
    """Read a run folder.

    Parameters
    ----------
    name
        What a person called it, for an error; None is its path.

    Raises
    ------
    InputError
        If it is no run folder, or a file in it cannot be read.
    """
    config = find_config(folder, name or str(folder)).config
    rows = load(folder / METRICS, whole_rows) if is_there(folder / METRICS) else []
    summary, clients = (
        load(folder / name, partial(read_json, check)) if is_there(folder / name) else None
        for name, check in ((SUMMARY, checked_summary), (CLIENTS, checked_clients))
    )
    record = Record(folder, config, rows, summary, clients)
    if clients is not None and clients.get("round") != record.last.get("round"):
        return Record(folder, config, rows, summary, None)  # of an end that was not one
    if clients is not None:
        _require_same_evaluation(record, clients)
    return record


def _require_same_evaluation(record: Record, clients: dict[str, Any]) -> None:
    """Raise an `InputError` unless clients are those that the last evaluated row sums up."""
    for group in record.groups:
        curves, points = clients.get(group, {}).get(record.metric), len(record.last[group]["k"])
        if curves is None or any(len(curve) != points for curve in curves):
            raise InputError(
                f"{record.folder / CLIENTS}: has not the {group} clients of {METRICS} "
                f"({record.metric} after 0 to {points - 1} steps); take both from one run"
            )
