"""Baselines of clients whose rows are with them: they train them, and say what came of it."""

import logging
from collections import defaultdict

import numpy as np
from flwr.app import Message
from flwr.serverapp import Grid

from nufed.client_app.baselines.clients import Array
from nufed.client_app.baselines.local import ALONE, AloneInstruction
from nufed.client_app.wire import encode
from nufed.conf.schema import Config
from nufed.strategies.exchange import exchange
from nufed.strategies.replies import Failure, Sent, read_alone, read_replies
from nufed.strategies.roster import Roster

log = logging.getLogger("nufed")


def reported(grid: Grid, roster: Roster, config: Config, clients: list[int]) -> dict[str, Array]:
    """Ask clients what they have by their own rows alone; return baseline -> [clients].

    NaN for those that do not say; why is said here.
    """
    sent = [
        Sent(Message(encode(AloneInstruction(hosted)), node, ALONE), hosted)
        for node, hosted in roster.nodes_of(clients).items()
    ]
    failures, why = list[Failure](), defaultdict[str, list[str]](list)
    found = defaultdict[str, Array](lambda: np.full(len(clients), np.nan))
    replies = exchange(grid, [each.message for each in sent], config.server.round_timeout)
    place = {client: i for i, client in enumerate(clients)}
    for report in read_replies(read_alone, sent, replies, failures):
        at = [place[client] for client in report.clients]
        for name, row in zip(report.names, np.reshape(report.scores, (-1, len(at))), strict=True):
            found[name][at] = row
        failures += [Failure(None, reason) for reason in report.reasons]
    for failure in failures:
        called = failure.called(roster.ids)
        why[failure.reason].append("" if called is None else f" of client {called}")
    for reason, whose in why.items():
        log.warning("left out of the baselines%s: %s", ",".join(whose[:1]), reason)
    return dict(found)
