"""The rounds of a run: train, and evaluate when it is due."""

import time
from collections.abc import Iterator
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord
from flwr.serverapp import Grid

from client_app.messages import to_params
from client_app.meta_gradient import Params
from conf.errors import RunStopped
from conf.schema import AlgorithmConfig, Config
from server_app.tracking import Row
from strategies.curves import GROUPS
from strategies.exchange import exchange
from strategies.meta_fedavg import MetaFedAvg
from strategies.replies import Failure

ROUND_TIMEOUT_S = 3600.0


def rounds(
    grid: Grid, strategy: MetaFedAvg, initial: Params, config: Config
) -> Iterator[tuple[Row, Params]]:
    """Yield each round's row of metrics.jsonl with the global model after it.

    Round 0 only evaluates the initial model.

    Raises
    ------
    RunStopped
        If no update of a round is usable, or the global model's own loss is not finite.
    """
    arrays = ArrayRecord(dict(initial))
    for round in range(config.rounds + 1):
        row: Row = {"round": round}
        if round > 0:
            arrays = _train(grid, strategy, round, arrays, row)
        if round % config.evaluation.every == 0 or round == config.rounds:
            _evaluate(grid, strategy, round, arrays, row)
        yield row, to_params(arrays)


def _train(
    grid: Grid, strategy: MetaFedAvg, round: int, arrays: ArrayRecord, row: Row
) -> ArrayRecord:
    """Run one round of training, write its figures into `row`, and return the new global model."""
    started = time.perf_counter()
    messages = list(strategy.configure_train(round, arrays, ConfigRecord(), grid))
    replies = exchange(grid, messages, ROUND_TIMEOUT_S)
    updated, metrics = strategy.aggregate_train(round, replies)
    if updated is None or metrics is None:
        raise RunStopped(_why_no_update(round, strategy.failures, strategy.algorithm))
    row |= {"train_s": time.perf_counter() - started, **metrics}
    row["failures"] = _named(strategy.failures)
    return updated


def _evaluate(grid: Grid, strategy: MetaFedAvg, round: int, arrays: ArrayRecord, row: Row) -> None:
    """Write the personalization curves of participating and of new clients into `row`."""
    messages = list(strategy.configure_evaluate(round, arrays, ConfigRecord(), grid))
    metrics = strategy.aggregate_evaluate(round, exchange(grid, messages, ROUND_TIMEOUT_S))
    row["evaluation_failures"] = _named(strategy.failures)
    if metrics is None and strategy.failures:
        raise RunStopped(_why_no_curve(round, strategy.failures, strategy.algorithm))
    for group in GROUPS:
        if metrics is not None and (curves := _unflatten(metrics, group)):
            row[group] = {"k": list(range(strategy.evaluation.steps + 1)), **curves}


def _unflatten(metrics: MetricRecord, group: str) -> dict[str, Any]:
    """Return the metrics named ``<group>.<name>``, by name."""
    start = f"{group}."
    return {
        key.removeprefix(start): value for key, value in metrics.items() if key.startswith(start)
    }


def _named(failures: list[Failure]) -> list[dict[str, Any]]:
    return [{"client": failure.client, "reason": failure.reason} for failure in failures]


def _why_no_curve(round: int, failures: list[Failure], a: AlgorithmConfig) -> str:
    """Say why no client could be evaluated, and what to change."""
    first = f"client {failures[0].client}: {failures[0].reason}"
    if not any(failure.diverged_at == 0 for failure in failures):
        return f"round {round}: none of {len(failures)} clients could be evaluated ({first})"
    if round == 0:
        return f"round 0: the initial model's loss is not finite ({first}); scale x and y down"
    return (
        f"round {round}: the global model's loss is not finite ({first}); "
        f"algorithm.beta={a.beta:g} is probably too large, try algorithm.beta={a.beta / 10:g}"
    )


def _why_no_update(round: int, failures: list[Failure], a: AlgorithmConfig) -> str:
    """Say why a round has no usable update, and what to change."""
    steps = [failure.diverged_at for failure in failures if failure.diverged_at is not None]
    if not steps:
        first = (
            f"client {failures[0].client}: {failures[0].reason}"
            if failures
            else "no client was asked"
        )
        return f"round {round}: none of {len(failures)} clients gave a usable update ({first})"
    # In round 1, at the first local step, the model is the initial one: fine-tuning blew up.
    blame_alpha = a.nu > 0 and min(steps) == 0
    blame_beta = not blame_alpha or round > 1
    sizes = [("alpha", a.alpha)] * blame_alpha + [("beta", a.beta)] * blame_beta
    given = " or ".join(f"algorithm.{name}={size:g}" for name, size in sizes)
    smaller = " or ".join(f"algorithm.{name}={size / 10:g}" for name, size in sizes)
    return (
        f"round {round}: the loss of all {len(steps)} clients became NaN or infinite; "
        f"{given} is probably too large, try {smaller}"
    )
