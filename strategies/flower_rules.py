"""Flower's own strategies and differential privacy, at work on our updates.

They expect replies that hold a model each and return the next one; given updates in the place of
models, they return the aggregated update. Only their public interface is used.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from flwr.app import ArrayRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp.strategy import (
    DifferentialPrivacyClientSideFixedClipping,
    FedAvg,
    Strategy,
)

from nufed.client_app.meta_gradient import Params
from nufed.client_app.wire import to_params

ANY_NODE, ANY_ROUND = 2, 0


def aggregate(strategy: Strategy, updates: Sequence[Params]) -> Params:
    """Return what a Flower strategy makes of updates that weigh the same, in float64."""
    if not any(updates):  # clients share nothing, and Krum's rule raises
        return {}
    replies = [Message(_content(update), ANY_NODE, MessageType.TRAIN) for update in updates]
    with _quiet():
        arrays, _ = strategy.aggregate_train(ANY_ROUND, replies)
    assert arrays is not None
    return to_params(arrays)


def add_noise(mean: Params, multiplier: float, norm: float, clients: int) -> Params:
    """Add Gaussian noise of standard deviation multiplier · norm / clients to every entry.

    It comes from the operating system's entropy: a run's seed is told to every client, and noise
    that follows from it could be subtracted.
    """
    noise = DifferentialPrivacyClientSideFixedClipping(FedAvg(), multiplier / clients, norm, 1)
    with _system_entropy():
        return aggregate(noise, [mean])


def _content(update: Params) -> RecordDict:
    arrays = ArrayRecord({name: tensor.to(torch.float64) for name, tensor in update.items()})
    return RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 1})})


@contextmanager
def _system_entropy() -> Iterator[None]:
    """Seed NumPy's global generator, which Flower draws from, anew; leave it as it was after."""
    state = np.random.get_state()
    np.random.seed()
    try:
        yield
    finally:
        np.random.set_state(state)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Flower from logging lines about every call."""
    log = logging.getLogger("flwr")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
