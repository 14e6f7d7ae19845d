"""How curved the clients' losses are at a model: asked of those that alone have their rows."""

import logging
from collections import defaultdict
from collections.abc import Iterable
from statistics import median_low

from flwr.app import ArrayRecord, Message, RecordDict
from flwr.serverapp import Grid

from nufed.client_app.algorithm import algorithm_of
from nufed.client_app.curvature import FACTOR, Curvature, outliers, probe, widest
from nufed.client_app.messages import CURVATURE, Fixed, ProbeInstruction, ProbeReport
from nufed.client_app.meta_gradient import Params
from nufed.client_app.wire import encode
from nufed.client_app.work import new_model
from nufed.conf.schema import Config
from nufed.strategies.exchange import exchange
from nufed.strategies.replies import Failure, Sent, read_probe, read_replies
from nufed.strategies.roster import Roster, choose_new_clients, some
from nufed.tasks.ids import ClientIds
from nufed.tasks.streams import Purpose
from nufed.tasks.task import Task

CLIENTS = 8

log = logging.getLogger("nufed")


def measured(grid: Grid, roster: Roster, config: Config, task: Task, shared: Params) -> Curvature:
    """Return what holds for a few participating clients' losses at a model, as they say.

    Those that cannot tell are named and left out; if none can, the curvature is NaN. So are those
    that say far more than the others: one alone would make all steps as small as it likes.
    """
    if task.data.rows_here:  # no message: it would cost a SuperNode a process
        model = new_model(task, algorithm_of(config.algorithm), shared)
        return measured_here(config, task, model)
    clients = some(roster.participating, CLIENTS, config.seed, Purpose.PROBED)
    arrays, fixed = ArrayRecord(dict(shared)), Fixed.of(task)

    def content(hosted: list[int]) -> RecordDict:
        return encode(ProbeInstruction(config.seed, hosted), arrays, also=(fixed,))

    sent = [
        Sent(Message(content(hosted), node, CURVATURE), hosted)
        for node, hosted in roster.nodes_of(clients).items()
    ]
    failures = list[Failure]()
    replies = exchange(grid, [each.message for each in sent], config.server.round_timeout)
    reports = list(read_replies(read_probe, sent, replies, failures))
    found = _joined(reports, failures, roster.ids)
    return widest(believed(found, roster.ids), _unknown(failures, roster.ids))


def measured_here(config: Config, task: Task, params: Params) -> Curvature:
    """Return the same of clients whose rows are in this process, each of which counts."""
    n, ids = task.data.num_clients, task.data.partition.ids
    new = choose_new_clients(ids, config.evaluation.new_clients, config.seed)
    clients = some([i for i in range(n) if i not in new], CLIENTS, config.seed, Purpose.PROBED)
    failures = list[Failure]()
    report = probe(task, params, ProbeInstruction(config.seed, clients))
    found = _joined([report], failures, ids)
    return widest(found.values(), _unknown(failures, ids))


def _joined(
    reports: Iterable[ProbeReport], failures: list[Failure], ids: ClientIds
) -> dict[int, Curvature]:
    """Return what clients say; name those that cannot tell, and add them to `failures`."""
    found, why = dict[int, Curvature](), defaultdict[str, list[str]](list)
    for report in reports:
        said = map(Curvature, report.largest, report.negative)
        found |= zip(report.clients, said, strict=True)
        failures += map(Failure, report.failed, report.reasons)
    for failure in failures:
        why[failure.reason].append(str(failure.called(ids)))
    for reason, clients in why.items():
        log.warning("left out of the probe: client %s: %s", ", ".join(clients), reason)
    return found


def _unknown(failures: list[Failure], ids: ClientIds) -> str:
    return failures[0].line(ids) if failures else "none was asked"


def believed(found: dict[int, Curvature], ids: ClientIds) -> list[Curvature]:
    """Return what is believed of what clients say; name those that say far more than others."""
    said = [found[client] for client in sorted(found)]
    called = [f"client {ids[i]} ({found[i].largest:.2g})" for i in sorted(found)]
    if left_out := outliers(said):
        log.warning(
            "left out of the probe: %s: the curvature that they say their losses have is more than "
            "%d times the median of %d clients, %.2g; if it is right, set algorithm.alpha and "
            "algorithm.beta",
            *(", ".join(called[i] for i in left_out), FACTOR, len(said)),
            median_low(each.largest for each in said),
        )
        return [each for i, each in enumerate(said) if i not in left_out]
    sizes = [each.largest for each in said]
    if len(said) == 2 and max(sizes) > FACTOR * min(sizes):
        log.warning(
            "the curvature that clients say their losses have differs more than %d times: %s; of "
            "two nobody can tell who is right, and the largest counts; if it is wrong, set "
            "algorithm.alpha and algorithm.beta",
            *(FACTOR, ", ".join(called)),
        )
    return said
