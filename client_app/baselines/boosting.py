"""What a person with scikit-learn would try first: gradient boosting, as it is by default."""

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nufed.client_app.baselines.clients import Clients, Scores

LEAST = 1e-12
"""A probability that is not 0, so that the loss is finite."""


def alone_boosting(of: Clients) -> Scores | None:
    """Score gradient boosting of each client's own train rows."""
    if not suits(of):
        return None
    part = of.task.data.partition
    return of.scores(lambda client, rows: outputs(of, fitted(of, part.train_rows(client)), rows))


def suits(of: Clients) -> bool:
    """Tell whether rows are vectors with one class or target each, and the loss is the usual."""
    task = of.task
    single = task.data.y.ndim == 1 or int(np.prod(task.data.y.shape[1:])) == 1
    return single and not task.integers and task.objective.row_loss is None


def fitted(of: Clients, rows: NDArray[np.int64]) -> Any:
    """Return a fitted model, or the one class or target that all rows have."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    y = np.asarray(of.task.data.y[rows]).reshape(len(rows))
    if len(np.unique(y)) == 1:
        return y[0]
    kind = (
        HistGradientBoostingClassifier if of.task.classification else HistGradientBoostingRegressor
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rare classes, which is as it is
        return kind(random_state=of.config.seed % 2**32).fit(_flat(of, rows), y)


def outputs(of: Clients, model: Any, rows: NDArray[np.int64]) -> Tensor:
    """Return outputs of the rows: log-probabilities of all classes, or targets."""
    if not of.task.classification:
        if not hasattr(model, "predict"):
            return torch.full((len(rows),), float(model))
        return torch.from_numpy(model.predict(_flat(of, rows)))
    probability = np.full((len(rows), of.task.data.num_outputs), LEAST)
    if hasattr(model, "predict_proba"):
        some = model.predict_proba(_flat(of, rows))
        probability[:, model.classes_] = np.maximum(some, LEAST)
    else:
        probability[:, model] = 1.0
    return torch.from_numpy(np.log(probability))


def _flat(of: Clients, rows: NDArray[np.int64]) -> NDArray[Any]:
    return np.asarray(of.task.data.x[rows]).reshape(len(rows), -1)
