"""Who is served worst."""

import numpy as np

from nufed.server_app.report.page import Section, Table
from nufed.server_app.report.record import Record, badness
from nufed.server_app.report.words import direction, number
from nufed.tasks.private import NAME as PRIVATE

WORST = 12  # clients that are named


def served(run: Record) -> Section | None:
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
            end, start = (number(each[i, step], metric) for step in (-1, 0))
            rows = "–" if of["rows"][i] is None else str(of["rows"][i])
            name, tested = run.name(of["client"][i]), run.behind(group, i)
            behind = [] if tested is None else [tested]
            found.append((bad[i], [name, group, end, *behind, start, rows]))
    if not ranks:
        return None
    middle = sorted(ranks)[len(ranks) // 2]
    worst = sorted((each for each in found if each[0] > middle), key=lambda each: -each[0])[:WORST]
    if not worst:
        return Section("Who is served worst", ["Nobody: all are served alike."])
    behind = ["right" if run.counts_rows else "test rows"] * run.test_rows_known
    head = ("client", "kind", f"k={k}", *behind, "k=0", "train rows")
    which = direction(lower_is_better=run.lower_is_better)
    caption = f"{metric} of those who are served worst; {which}"
    table = Table(head, [row for _, row in worst], caption, words=2)
    numbered = "Clients are numbered from 0."
    text = numbered if _numbered(run) else "Clients go by their ids in the data."
    listed = f"{text} Listed are {len(worst)} of {len(ranks):,}; clients.json has all."
    return Section("Who is served worst", [listed], tables=[table])


def _numbered(run: Record) -> bool:
    """Tell whether clients have no ids but their numbers: nobody brought them, or none is known."""
    brought = run.config.partition.partitioner is None and run.config.dataset["name"] != PRIVATE
    clients = run.clients or {}
    given = "names" in clients or any(
        type(client) is str for group in run.groups for client in clients[group]["client"]
    )
    return not (brought or given)
