"""A run as a person sees it: a live bar (plain lines where none can be), and a table at the end."""

import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from nufed.client_app.algorithm import settings_of
from nufed.conf.words import command_line
from nufed.server_app.amiss import Rising, alarms, still_pays, still_rising
from nufed.server_app.baselines import verdict
from nufed.server_app.notebook import NotebookBar, in_notebook
from nufed.server_app.report.words import duration
from nufed.server_app.run_folder import REPORT
from nufed.server_app.terminal import Terminal
from nufed.server_app.tracking import Callback, Row, RunInfo, State
from nufed.strategies.curves import GROUPS, exists, metrics_of, say_undefined, shown

METRICS = 3  # of the algorithm's, in a line
COLUMNS = 6  # of k, in a table on a terminal of 80 characters
HINTS = 2  # at the end; the report has what else is amiss


class ProgressBar(Callback):
    """Show round, training loss, the new clients' last curve, and the time left.

    Parameters
    ----------
    console
        Where to.
    folder
        The run folder, named at the end.
    """

    def __init__(self, console: Terminal, folder: Path) -> None:
        self.console, self.folder = console, folder
        self._undefined: list[str] = []
        self._run: RunInfo | None = None
        self._evaluated: list[Row] = []
        self._probed: dict[str, float] = {}
        self._bar: _Bar | NotebookBar | None = None
        self._rounds = self._done = 0
        self._left = TimeLeft(0)
        self._curve = ""

    def on_start(self, run: RunInfo) -> None:
        """Say what is run."""
        c, a = run.config, run.config.algorithm
        self.console.say(
            f"{c.dataset['name']}: {run.participating} participating and {run.new} new clients; "
            f"{run.size}; {c.rounds} rounds",
        )
        self.console.say(
            f"{a['name']}: {settings_of(a)}",
        )
        self._rounds, self._left = c.rounds, TimeLeft(c.rounds)
        self._run, self._evaluated = run, [row for row in run.rows if _present(row)]
        if run.rows:
            self._done = run.rows[-1]["round"]
            self._probed = run.rows[0].get("probed", {})
            self.console.say(f"going on after round {self._done}")
        if self.console.is_terminal:
            self._bar = _Bar(self.console, c.rounds, self._done)
        elif in_notebook() and not self.console.quiet:
            self._bar = NotebookBar(c.rounds, self._done)

    def on_round(self, row: Row, state: State) -> None:
        """Move on by one round."""
        self._curve = _curve(row) or self._curve
        self._evaluated += [row] if _present(row) else []
        self._probed = row.get("probed", self._probed)
        loss = f"loss {_figure(row['train_loss'], '.4g')}  " if "train_loss" in row else ""
        if (norm2 := row.get("diagnostics", {}).get("meta_grad_norm2")) is not None:
            loss += f"‖∇F‖² {norm2:.3g}  "
        for name, value in list(row.get("metrics", {}).items())[:METRICS]:
            loss += f"{name} {_figure(value, '.3g')}  "
        left = self._left.after(row["round"])
        if self._bar is not None:
            self._bar.update(row["round"], f"{loss}{self._curve}  {left}".rstrip())
        else:
            line = f"round {row['round']}/{self._rounds}  {loss}{_curve(row)}"
            self.console.say(f"{line.rstrip()}  {left}".rstrip())
        for failures in filter(None, (row.get("failures"), row.get("evaluation_failures"))):
            self.console.say(
                f"round {row['round']}: {describe_failures(failures)}",
                style="yellow",
            )

    def on_evaluation(self, row: Row, state: State) -> None:
        """Say which metrics do not exist for whom, whenever that is not what was said last."""
        said = say_undefined(row)
        if said != self._undefined:
            self._undefined = said
            for line in said:
                self._warn(f"round {row['round']}: {line}")

    def on_end(self, summary: dict[str, Any]) -> None:
        """Take the bar away; say what came out, then what to do about it, unless it was stopped."""
        if self._bar is not None:
            self._bar.stop()
        if "stopped" not in summary:
            rising = self._rising(summary)
            if rising is not None:  # first: whatever stands below is of a run that is not done
                more = command_line("nufed", resume=self.folder, rounds=rising.rounds)
                self._warn(f"{rising}; this run goes on with: {more}")
            if _present(summary):
                self.console.print(curve_table(summary))
                for line in say_undefined(summary):
                    self._warn(line)
                self._say_if_it_pays(summary)
            if "epsilon" in summary:
                self.console.say(
                    f"differential privacy of clients: ε = {summary['epsilon']:.3g} "
                    f"at δ = {summary['delta']:g}; of the models alone",
                )
            if "stopped_early" in summary:
                self.console.say(
                    f"stopped early after round {summary['rounds']}: {summary['stopped_early']}",
                )
            for line in self._hints(summary, rising)[:HINTS]:
                self._warn(line)
        if (report := self.folder / REPORT).exists():
            self.console.say(f"report: {report}")
        if "stopped" not in summary:
            self.console.say(f"run folder: {self.folder}")

    def _warn(self, text: str) -> None:
        self.console.say(text, style="yellow")

    def _rising(self, summary: dict[str, Any]) -> Rising | None:
        """Tell whether the run is not trained yet."""
        if not _present(summary):
            return None
        lower = shown(summary[_present(summary)[0]]) in summary["lower_is_better"]
        return still_rising(self._evaluated, summary, lower_is_better=lower)

    def _hints(self, summary: dict[str, Any], rising: Rising | None) -> list[str]:
        """Return what to do about what came out, what matters most first."""
        if self._run is None or not _present(summary):
            return []
        hints = alarms(summary, self._run.config, self._probed, rising)
        more_steps = still_pays(summary, self._run.config, self._probed)
        return hints if more_steps is None else [*hints, more_steps]

    def _say_if_it_pays(self, summary: dict[str, Any]) -> None:
        if "baselines" in summary:
            beside = verdict.read(summary["baselines"])
            if beside.against:
                self.console.print(beside_table(beside))
            self.console.say(beside.pays())


class TimeLeft:
    """How long the rounds to come will take, if each takes as long as the median one did.

    One that waited for a client that never answered, or was evaluated, says little of the others.

    Parameters
    ----------
    total
        Rounds.
    """

    def __init__(self, total: int) -> None:
        self._total, self._seconds = total, list[float]()
        self._last: float | None = None
        self._warm = False

    def after(self, round: int) -> str:
        """Return what to say after a round; nothing of the first, which warms everything up."""
        now, before = time.monotonic(), self._last
        self._last = now
        if before is not None and self._warm:
            self._seconds.append(now - before)
        self._warm = before is not None
        if not self._seconds or round >= self._total:
            return ""
        seconds = median(self._seconds) * (self._total - round)
        return f"{seconds:.0f} s left" if seconds < 90 else f"{duration(seconds)} left"


class _Bar:
    """A bar on a terminal."""

    def __init__(self, console: Terminal, total: int, done: int) -> None:
        self._progress = Progress(
            TextColumn("round"),
            MofNCompleteColumn(),
            BarColumn(bar_width=10),
            TextColumn("{task.description}", markup=False),
            console=console,
        )
        self._progress.start()
        self._task = self._progress.add_task("", total=total, completed=done)

    def update(self, completed: int, description: str) -> None:
        self._progress.update(self._task, completed=completed, description=description)

    def stop(self) -> None:
        self._progress.stop()


def describe_failures(failures: list[dict[str, Any]]) -> str:
    """Return one line about clients whose replies were dropped."""
    first = failures[0]
    return f"{len(failures)} clients dropped (client {first['client']}: {first['reason']})"


def curve_table(summary: dict[str, Any]) -> Table:
    """Return the personalization curves at the end of a run as a table."""
    metric = shown(summary[_present(summary)[0]])
    table = Table(
        title=f"{metric} on held-out rows after k fine-tuning steps", title_justify="left"
    )
    table.add_column("clients")
    steps = summary[_present(summary)[0]]["k"]
    some = _some(len(steps))
    for i in some:
        table.add_column(f"k={steps[i]}", justify="right", no_wrap=True)
    for kind in _present(summary):
        curves = summary[kind]
        untrained = summary.get("untrained", {}).get(kind, {})
        rows = {"mean": metric, "std": f"{metric}_std", "worst tenth": f"{metric}_worst_decile"}
        for label, name in rows.items():
            start = f"{kind} ({curves['clients']}), {label}" if label == "mean" else f"  {label}"
            table.add_row(start, *(_number(curves, metric, name, i) for i in some))
        for other in metrics_of(curves)[1:]:
            means = (_number(curves, other, other, i) for i in some)
            table.add_row(f"  {other.replace('_', ' ')}, mean", *means)
        if metric in untrained and summary["rounds"]:
            points = (_number(untrained, metric, metric, i) for i in some)
            table.add_row("  untrained, mean", *points)
    return table


def beside_table(beside: verdict.Beside) -> Table:
    """Return what clients have without federation as a table."""
    groups = [group for group in GROUPS if group in beside.means["personal"]]
    title = f"{beside.metric} with and without federation, mean"
    table = Table("", *map(beside.head, groups), title=title, title_justify="left")
    for name, means in beside.means.items():
        figures = (_figure(means[group], ".3f") for group in groups)
        table.add_row(beside.called(name), *figures)
    return table


def _some(n: int) -> list[int]:
    """Return which of n columns to show: all, or so many as 80 characters hold."""
    if n <= COLUMNS:
        return list(range(n))
    return [0, *np.unique(np.geomspace(1, n - 1, COLUMNS - 1).round().astype(int)).tolist()]


def sweep_table(summaries: dict[str, dict[str, Any]]) -> Table:
    """Return the ends of several runs, each under the overrides that set it apart, as a table."""
    shared = set.intersection(*(set(overrides.split()) for overrides in summaries))
    table = Table(title=" ".join(["the sweep", *sorted(shared)]), title_justify="left")
    for column in ("run", "clients", "metric", "k=0", "k=1", "last k"):
        table.add_column(column)
    for overrides, summary in summaries.items():
        name = " ".join(word for word in overrides.split() if word not in shared)
        for group in _present(summary):
            metric = shown(summary[group])
            last = len(summary[group][metric]) - 1
            points = [_number(summary[group], metric, metric, i) for i in (0, min(1, last), last)]
            table.add_row(name, group, metric, *points)
            name = ""
    return table


def _present(summary: dict[str, Any]) -> list[str]:
    return [group for group in GROUPS if group in summary]


def ends(summary: dict[str, Any]) -> str:
    """Return what a run came to in few words."""
    return _curve(summary) or f"{summary['rounds']} rounds"


def _curve(row: Row) -> str:
    """Return the ends of the new (else participating) clients' curve, where a row has one."""
    if not (kinds := _present(row)):
        return ""
    curves = row[kinds[-1]]
    metric = shown(curves)
    first, last = (_number(curves, metric, metric, i) for i in (0, -1))
    return f"{metric} of {kinds[-1]} clients {first} → {last}"


def _number(curves: dict[str, Any], metric: str, statistic: str, i: int) -> str:
    """Return a statistic of a group's metric at a point of its curve."""
    if not exists(curves, metric, i):
        return "undefined"
    return _figure(curves[statistic][i], ".3f")


def _figure(value: float | None, form: str) -> str:
    """Return a figure; the record of a run has None where it is not finite."""
    return "not finite" if value is None else format(value, form)
