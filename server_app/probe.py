"""How curved the clients' losses are at a model: asked of those that alone have their rows."""

import logging
from collections import defaultdict
from collections.abc import Iterable

from flwr.app import ArrayRecord, Message, RecordDict
from flwr.serverapp import Grid

from client_app.curvature import Curvature, probe, widest
from client_app.messages import CURVATURE, Fixed, ProbeInstruction, ProbeReport, encode
from client_app.meta_gradient import Params
from conf.schema import Config
from strategies.exchange import exchange
from strategies.replies import Failure, Sent, read_probe, read_replies
from strategies.roster import Roster, choose_new_clients, some
from tasks.ids import ClientIds
from tasks.streams import Purpose
from tasks.task import Task

CLIENTS = 8

log = logging.getLogger("nufed")


def measured(grid: Grid, roster: Roster, config: Config, task: Task, params: Params) -> Curvature:
    """Return what holds for a few participating clients' losses at a model, as they say.

    Those that cannot tell are named and left out; if none can, the curvature is NaN.
    """
    if task.data.rows_here:  # no message: it would cost a SuperNode a process
        return measured_here(config, task, params)
    clients = some(roster.participating, CLIENTS, config.seed, Purpose.PROBED)
    arrays, fixed = ArrayRecord(dict(params)), Fixed.of(task)

    def ask(hosted: list[int]) -> RecordDict:
        return encode(ProbeInstruction(config.seed, hosted), arrays, fixed=fixed)

    sent = [
        Sent(Message(ask(hosted), node, CURVATURE), hosted)
        for node, hosted in roster.nodes_of(clients).items()
    ]
    failures = list[Failure]()
    replies = exchange(grid, [each.message for each in sent], config.server.round_timeout)
    reports = list(read_replies(read_probe, sent, replies, failures))
    return _joined(reports, failures, roster.ids)


def measured_here(config: Config, task: Task, params: Params) -> Curvature:
    """Return the same of clients whose rows are in this process."""
    n, ids = task.data.num_clients, task.data.partition.ids
    new = choose_new_clients(ids, config.evaluation.new_clients, config.seed)
    clients = some([i for i in range(n) if i not in new], CLIENTS, config.seed, Purpose.PROBED)
    return _joined([probe(task, params, ProbeInstruction(config.seed, clients))], [], ids)


def _joined(reports: Iterable[ProbeReport], failures: list[Failure], ids: ClientIds) -> Curvature:
    found, why = list[Curvature](), defaultdict[str, list[str]](list)
    for report in reports:
        found += map(Curvature, report.largest, report.negative)
        failures += map(Failure, report.failed, report.reasons)
    for failure in failures:
        why[failure.reason].append(str(failure.called(ids)))
    for reason, clients in why.items():
        log.warning("left out of the probe: client %s: %s", ", ".join(clients), reason)
    return widest(found, failures[0].line(ids) if failures else "none was asked")
