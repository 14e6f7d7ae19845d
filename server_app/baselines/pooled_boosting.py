"""Gradient boosting of all clients' rows in one place."""

import numpy as np

from nufed.client_app.baselines.boosting import fitted, outputs, suits
from nufed.client_app.baselines.clients import Clients, Scores


def pooled_boosting(of: Clients) -> Scores | None:
    """Score gradient boosting of all clients' train rows."""
    if not suits(of):
        return None
    part, n = of.task.data.partition, of.task.data.num_clients
    model = fitted(of, np.concatenate([part.train_rows(client) for client in range(n)]))
    return of.scores(lambda client, rows: outputs(of, model, rows))
