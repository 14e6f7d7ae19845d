"""The report of one run."""

import base64
from functools import cache
from pathlib import Path

import numpy as np

from nufed.client_app.algorithm import algorithm_of
from nufed.conf.command import differing_keys, overrides_of
from nufed.conf.compose import compose_config
from nufed.conf.convert import to_yaml
from nufed.conf.files import is_there, read_bytes
from nufed.conf.schema import Config
from nufed.conf.words import command_line
from nufed.server_app.report import run_figures as draw
from nufed.server_app.report.failures import failures
from nufed.server_app.report.figures import styled
from nufed.server_app.report.page import Section, Table, render, write
from nufed.server_app.report.record import CERTIFICATE, Record, badness, read_record
from nufed.server_app.report.words import clients, duration, number, point, shown, steps
from nufed.server_app.run_folder import REPORT
from nufed.strategies.curves import rises, say_undefined
from nufed.tasks.private import NAME as PRIVATE

WORST = 12  # clients that are named
LARGEST_PICTURE = 1 << 24  # bytes; nufed-certify draws one of some 50 kB
STATISTICS = {"mean": "", "std": "_std", "worst tenth": "_worst_decile", "worst": "_bottom"}


def write_report(folder: Path, name: str | None = None) -> Path:
    """Make report.html in a run folder, and return it.

    Parameters
    ----------
    name
        What a person called the folder, for an error; None is its path.

    Raises
    ------
    InputError
        If it is no run folder, or a file cannot be read or written.
    """
    file = folder / REPORT
    write(report(read_record(folder, name)), file)
    return file


def report(run: Record) -> str:
    """Return the report of a run as a page."""
    c, a = run.config, algorithm_of(run.config.algorithm)
    subtitle = (
        f"{a.name}: {a.settings.replace('=', ' = ')} · "
        f"{c.dataset['name']}, {c.partition.name} · seed {c.seed} · {run.folder.name}"
    )
    with styled():
        sections = [
            _personal(run),
            _served(run),
            _training(run),
            failures(run),
            _theory(run),
            _configuration(run),
            _again(run),
        ]
    found = [section for section in sections if section is not None]
    return render(c.name, subtitle, headline(run), found, _warning(run))


def headline(run: Record) -> str:
    """Say in a sentence how good personal models are in the end."""
    if not run.groups:
        return "No round of this run has been evaluated."
    k, metric = run.last[run.groups[0]]["k"][-1], run.metric
    said = list[str]()
    for group in reversed(run.groups):  # the new ones first: the method is for them
        curves = run.last[group]
        worst = point(curves, metric, "_worst_decile", -1)
        who = clients(run.last[group]["clients"], group)
        verb = ("is" if run.last[group]["clients"] == 1 else "are") if not said else ""
        end = point(curves, metric, "", -1)
        at = f"a {metric} of {end}" if run.lower_is_better else f"{end} {metric}"
        before = f", from {point(curves, metric, '', 0)} before" if k else ""
        said.append(f"{who} {verb} at {at} (worst tenth {worst}){before}".replace("  ", " "))
    start = f"After {steps(k)}" if k else "Without fine-tuning"
    rows = "" if run.config.evaluation.split == "test" else " on validation rows"
    return f"{start}, {'; '.join(said)}{rows}.{_of_training(run)}"


def _of_training(run: Record) -> str:
    """Say where as many steps lead from the untrained model; empty where it was not measured."""
    group = run.groups[-1]
    rounds, curves = run.curves(group, run.metric)
    before, after = curves[0, -1], curves[-1, -1]
    if len(rounds) < 2 or rounds[0] != 0:
        return ""
    helped = (after < before) if run.lower_is_better else (after > before)
    unhelped = "" if helped else ": training has not helped them"
    return (
        f" From the untrained model, the same steps take {group} clients to "
        f"{number(before, run.metric)}{unhelped}."
    )


def _warning(run: Record) -> str:
    """Say what keeps this from being the report of a whole run; empty if nothing does."""
    if run.stopped:
        return f"This run stopped early: {run.stopped}"
    if run.summary is None:
        return (
            f"This run has not come to its end: it goes on, or was killed. What follows is of its "
            f"first {run.rounds} of {run.config.rounds} rounds."
        )
    return ""


def _training(run: Record) -> Section:
    """Tell how training went."""
    summary, c = run.summary or {}, run.config
    facts = [("rounds", f"{run.rounds} of {c.rounds}")]
    if "stopped_early" in summary:
        facts += [("stopped early", summary["stopped_early"])]
    if there := summary.get("clients"):
        facts += [("clients", f"{there['participating']} participating, {there['new']} new")]
    _, seconds = run.series("train_s")
    if len(seconds := seconds[np.isfinite(seconds)]):
        facts += [("median round", duration(float(np.median(seconds))))]
    if summary.get("wall_s") is not None:
        facts += [("the run took", duration(summary["wall_s"]))]
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
    caption = f"{metric} after the last fine-tuning step"
    return Table(["round", "training loss", *head], rows, caption)


def _personal(run: Record) -> Section | None:
    """Tell what fine-tuning does."""
    if not run.groups:
        return None
    tables = list[tuple[str, Table]]()
    for metric in dict.fromkeys((run.metric, "loss")):
        rows = [
            [
                f"{group}, {label}",
                *(point(run.last[group], metric, end, i) for i in run.last[group]["k"]),
            ]
            for group in run.groups
            for label, end in STATISTICS.items()
        ]
        head = ["clients", *(f"k={k}" for k in run.last[run.groups[0]]["k"])]
        tables.append((f"Numbers: {metric}", Table(head, rows)))
    where = "held-out" if run.config.evaluation.split == "test" else "validation"
    text = f"Measured in round {run.last['round']} on each client's {where} rows."
    mean = run.final(run.groups[0], run.metric)
    if rises(mean.tolist(), lower_is_better=run.lower_is_better):
        more = 2 * run.last[run.groups[0]]["k"][-1]
        text += (
            f" Fine-tuning still pays at its last step: try evaluation.steps={more}, or a larger "
            "algorithm.alpha."
        )
    figures = [*draw.by_step(run), *draw.by_round(run), *draw.over_clients(run)]
    notes = [f"{line}." for line in say_undefined(run.last)]
    return Section("Personal models", [text, *notes], figures=figures, folded=tables)


def _served(run: Record) -> Section | None:
    """Tell who is served worst: clients that are worse off than the one in the middle."""
    if run.clients is None or not run.groups:
        return None
    metric, k = run.metric, run.last[run.groups[0]]["k"][-1]
    ranks, found = list[float](), list[tuple[float, list[str]]]()
    for group in run.groups:
        of, each = run.clients[group], run.each_client(group)
        assert each is not None
        bad = badness(each[:, -1], lower_is_better=run.lower_is_better)
        there = np.flatnonzero(run.there(group))
        ranks += bad[there].tolist()
        for i in there[np.argsort(-bad[there], kind="stable")][:WORST].tolist():
            ends = (number(each[i, step], metric) for step in (-1, 0))
            rows = "–" if of["rows"][i] is None else str(of["rows"][i])
            found.append((bad[i], [run.name(of["client"][i]), group, *ends, rows]))
    if not ranks:
        return None
    middle = sorted(ranks)[len(ranks) // 2]
    worst = sorted((each for each in found if each[0] > middle), key=lambda each: -each[0])[:WORST]
    if not worst:
        return Section("Who is served worst", ["Nobody: all are served alike."])
    head = ("client", "kind", f"k={k}", "k=0", "train rows")
    caption = f"{metric.capitalize()} of those who are served worst"
    table = Table(head, [row for _, row in worst], caption, words=2)
    numbered = "Clients are numbered from 0."
    text = numbered if _numbered(run) else "Clients go by their ids in the data."
    return Section("Who is served worst", [text], tables=[table])


def _numbered(run: Record) -> bool:
    """Tell whether clients have no ids but their numbers: nobody brought them, or none is known."""
    brought = run.config.partition.partitioner is None and run.config.dataset["name"] != PRIVATE
    clients = run.clients or {}
    given = "names" in clients or any(
        type(client) is str for group in run.groups for client in clients[group]["client"]
    )
    return not (brought or given)


def _theory(run: Record) -> Section | None:
    """Show what was diagnosed: under its bounds, where the certificate was drawn."""
    figures = draw.diagnosed(run)
    certificate = run.folder / CERTIFICATE
    if not figures:
        return None
    if not is_there(certificate):
        text = "nufed-certify, given this run's folder, draws the bounds of the theory beside it."
        return Section("How far from a stationary point", [text], figures=figures)
    content = base64.b64encode(read_bytes(certificate, largest=LARGEST_PICTURE)).decode()
    return Section(
        "How far from a stationary point",
        figures=figures,
        image=f"data:image/svg+xml;base64,{content}",
    )


@cache
def _defaults() -> Config:
    """Return the configuration of `nufed` without a word."""
    return compose_config([])


def _configuration(run: Record) -> Section:
    """List what was chosen."""
    usual = differing_keys(run.config, _defaults())
    rows = [(key, shown(ours), shown(theirs)) for key, (ours, theirs) in usual.items()]
    table = Table(("key", "this run", "default"), rows, words=3)
    probe = [f"A probe of the task chose {' and '.join(run.probed)}."] if run.probed else []
    return Section(
        "Configuration",
        probe if rows else ["All as it is by default."],
        tables=[table] if rows else [],
        folded=[("All of it", to_yaml(run.config))],
    )


def _again(run: Record) -> Section:
    """Say what repeats the run, and with which code."""
    words = overrides_of(run.config)
    summary, text = run.summary or {}, list[str]()
    versions = ", ".join(f"{k} {v}" for k, v in summary.get("versions", {}).items() if v)
    commit = f"commit {summary['git_commit']}" if summary.get("git_commit") else ""
    if code := "; ".join(filter(None, (versions, commit))):
        text.append(f"Made with {code}.")
    if run.config.privacy.name != "none":
        text.append("The noise is not the seed's: another run has another model.")
    if words is None:
        text.append("No overrides say this configuration; it is config.yaml in the run folder.")
    code = "" if words is None else command_line("nufed", words)
    return Section("The same again", text, code=code)
