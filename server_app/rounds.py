"""The rounds of a run: train, and evaluate when it is due."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid

from nufed.client_app.wire import to_params
from nufed.conf.errors import Diverged, RunStopped, TooFewReplies
from nufed.conf.schema import Config
from nufed.server_app.tracking import Row, State
from nufed.strategies.cost import COST
from nufed.strategies.curves import GROUPS
from nufed.strategies.exchange import exchange
from nufed.strategies.meta_fedavg import MetaFedAvg
from nufed.strategies.tally import METRICS

log = logging.getLogger("nufed")


def rounds(
    grid: Grid,
    strategy: MetaFedAvg,
    config: Config,
    start: State,
    diagnose: Callable[[int, ArrayRecord], Row] | None = None,
) -> Iterator[tuple[Row, State]]:
    """Yield each round's row of metrics.jsonl, whole, with the state after it.

    Parameters
    ----------
    start
        The state after the last round that is done; of round −1, before any, with the initial
        model. Round 0 only evaluates that.
    diagnose
        ``diagnose(round, global model)`` -> what to add to the row of a round that is diagnosed.

    Raises
    ------
    RunStopped
        If too few updates of a round are usable, again and again, or the global model's own loss is
        not finite.
    """
    # Where each message costs a process, the next round's messages carry the evaluation.
    together = bool(config.engine.get("evaluate_with_training", False))
    strategy.load_state_dict(start.params, start.strategy, start.round)
    arrays = ArrayRecord(dict(start.params))
    waiting: tuple[Row, State] | None = None
    for round in range(start.round + 1, config.rounds + 1):
        row: Row = {"round": round}
        if round > 0:
            try:
                arrays = _train(grid, strategy, config, arrays, row, waiting and waiting[0])
            except RunStopped:
                if waiting:
                    yield waiting
                raise
            if waiting:
                yield waiting
        state = State(round, to_params(arrays), strategy.state_dict())
        last = round == config.rounds
        due = last or round % config.evaluation.every == 0
        waiting = (row, state) if due and together and not last else None
        if due and waiting is None:
            _evaluate(grid, strategy, config, arrays, row)
        every = config.diagnostics.every
        if diagnose is not None and every is not None and (last or round % every == 0):
            row |= diagnose(round, arrays)
        if waiting is None:
            yield row, state


def _train(
    grid: Grid,
    strategy: MetaFedAvg,
    config: Config,
    arrays: ArrayRecord,
    row: Row,
    before: Row | None,
) -> ArrayRecord:
    """Run one round of training, again if too few replies came; return the new global model.

    Its figures go into `row`; those of evaluating `arrays` into `before`, where that is given.
    """
    instruction = ConfigRecord({"evaluate": before is not None})
    row |= {"failures": [], "attempts": 0}
    while True:
        started = time.perf_counter()
        messages = list(strategy.configure_train(row["round"], arrays, instruction, grid))
        replies = exchange(grid, messages, config.server.round_timeout)
        measured: list[Message] = []
        if strategy.skipped:
            log.warning(strategy.skipped)
        updated, metrics = strategy.aggregate_train(row["round"], strategy.apart(replies, measured))
        row["failures"] += [each.row(strategy.roster.ids) for each in strategy.failures]
        row["attempts"] += 1
        row["train_s"] = time.perf_counter() - started
        if updated is not None and metrics is not None:
            break
        _ask_again(grid, strategy, config, row["attempts"], _why_no_update(row["round"], strategy))
    if before is not None:
        _write_curves(strategy, measured, before)
    row |= {key: value for key, value in metrics.items() if "." not in key}
    row |= {group: found for group in (COST, METRICS) if (found := _unflatten(metrics, group))}
    return updated


def _evaluate(
    grid: Grid, strategy: MetaFedAvg, config: Config, arrays: ArrayRecord, row: Row
) -> None:
    """Write the personalization curves of participating and of new clients into `row`."""
    attempt, done = 0, False
    while not done:
        messages = list(strategy.configure_evaluate(row["round"], arrays, ConfigRecord(), grid))
        done = _write_curves(strategy, exchange(grid, messages, config.server.round_timeout), row)
        attempt += 1
        if not done:
            why = _why_no_curve(row["round"], strategy)
            _ask_again(grid, strategy, config, attempt, why)


def _ask_again(
    grid: Grid, strategy: MetaFedAvg, config: Config, attempt: int, why: RunStopped
) -> None:
    """Wait for clients that may do better, or stop the run where that has no prospect.

    Raises
    ------
    RunStopped
        `why`, if all clients replied, as they would again; TooFewReplies after the last attempt.
    """
    failures = strategy.failures
    if failures and not any(failure.lost for failure in failures):
        raise why
    if attempt == config.server.attempts:
        raise TooFewReplies(str(why))
    log.warning("%s; asking again", why)
    strategy.roster.wait(grid, config.server.join_timeout, enough=config.server.min_replies)


def _write_curves(strategy: MetaFedAvg, replies: Iterable[Message], row: Row) -> bool:
    """Write what the clients measured into `row`; return whether any that was asked could."""
    metrics = strategy.aggregate_evaluate(row["round"], replies)
    row["evaluation_failures"] = [each.row(strategy.roster.ids) for each in strategy.failures]
    if strategy.undefined:
        row["undefined"] = strategy.undefined
    for group in GROUPS:
        if metrics is not None and (curves := _unflatten(metrics, group)):
            row[group] = {"k": list(range(strategy.evaluation.steps + 1)), **curves}
    return metrics is not None or not strategy.failures


def _unflatten(metrics: MetricRecord, group: str) -> dict[str, Any]:
    """Return the metrics named ``<group>.<name>``, by name."""
    start = f"{group}."
    return {
        key.removeprefix(start): value for key, value in metrics.items() if key.startswith(start)
    }


def _why_no_curve(round: int, strategy: MetaFedAvg) -> RunStopped:
    """Say why no client could be evaluated."""
    failures = strategy.failures
    first = failures[0].line(strategy.roster.ids)
    if not any(failure.diverged_at == 0 for failure in failures):
        return RunStopped(
            f"round {round}: none of {len(failures)} clients could be evaluated ({first})"
        )
    if round == 0:
        return RunStopped(
            f"round 0: the initial model's loss is not finite ({first}); scale x and y down"
        )
    return Diverged(f"round {round}: the global model's loss is not finite ({first})", ["beta"])


def _why_no_update(round: int, strategy: MetaFedAvg) -> RunStopped:
    """Say why a round has too few usable updates."""
    a, failures = strategy.algorithm, strategy.failures
    steps = [failure.diverged_at for failure in failures if failure.diverged_at is not None]
    too_long = [failure for failure in failures if failure.too_long]
    if not (steps or too_long) or strategy.usable:
        first = failures[0].line(strategy.roster.ids) if failures else "no client was asked"
        usable, asked = strategy.usable, strategy.usable + len(failures)
        least = f", server.min_replies={strategy.min_replies} are needed" if usable else ""
        return RunStopped(
            f"round {round}: {usable or 'none'} of {asked} clients gave a usable update{least} "
            f"({first})"
        )
    # In round 1, at the first local step, the model is the initial one: fine-tuning blew up.
    alpha = a.inner_steps > 0 and (not steps or min(steps) == 0)
    beta = not steps or not alpha or round > 1
    blamed = ["alpha"] * alpha + ["beta"] * beta
    if steps:
        what = f"the loss of all {len(steps)} clients became NaN or infinite"
    else:
        first = too_long[0].line(strategy.roster.ids)
        what = f"none of {len(failures)} clients gave a usable update ({first})"
    return Diverged(f"round {round}: {what}", blamed)
