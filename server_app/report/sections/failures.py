"""Whose replies were not used, and why."""

from collections import defaultdict

from nufed.server_app.report.page import Section, Table
from nufed.server_app.report.record import Record
from nufed.tasks.ids import Id

REASONS, CLIENTS = 20, 8  # that are named
KINDS = {"failures": "training", "evaluation_failures": "evaluation"}


def failures(run: Record) -> Section:
    """Return the section that counts failures by reason, the most frequent first."""
    found = defaultdict[tuple[str, str], list[tuple[int, Id | None]]](list)
    for row in run.rows:
        for key, kind in KINDS.items():
            for failure in row.get(key) or []:
                found[kind, failure["reason"]].append((row["round"], failure["client"]))
    total = sum(map(len, found.values()))
    if not total:
        whole = run.summary is not None and not run.stopped
        none = "every client that was asked gave a usable answer"
        return Section("Failures", [f"None{'' if whole else ' in what was completed'}: {none}."])
    frequent = sorted(found.items(), key=lambda entry: -len(entry[1]))
    rows = [
        [reason, kind, str(len(those)), _named(run, {c for _, c in those}), _span(those)]
        for (kind, reason), those in frequent[:REASONS]
    ]
    dropped = "1 answer was" if total == 1 else f"{total:,} answers were"
    text = [f"{dropped} dropped; the rounds went on with the others."]
    if len(frequent) > REASONS:
        text.append(f"The {REASONS} most frequent of {len(frequent)} reasons:")
    head = ("reason", "in", "times", "clients", "rounds")
    return Section("Failures", text, tables=[Table(head, rows, words=5)])


def _named(run: Record, those: set[Id | None]) -> str:
    """Name some clients, and count the others."""
    known = sorted((client for client in those if client is not None), key=_in_order)
    names = [run.name(client) for client in known[:CLIENTS]] + ["unknown"] * (None in those)
    more = len(known) - CLIENTS
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")


def _in_order(client: Id) -> tuple[bool, Id]:
    """Sort numbers by value, before text."""
    return isinstance(client, str), client


def _span(those: list[tuple[int, Id | None]]) -> str:
    rounds = sorted({round for round, _ in those})
    return str(rounds[0]) if len(rounds) == 1 else f"{rounds[0]} – {rounds[-1]}"
