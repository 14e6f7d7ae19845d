"""Rounds whose clients are late, lost or come back; and evaluation that travels with training."""

from pathlib import Path
from typing import NamedTuple

import pytest
from flwr.app import MessageType

from nufed.conf.compose import compose_config
from nufed.conf.errors import RunStopped, TooFewReplies
from nufed.server_app.app import make_strategy
from nufed.server_app.rounds import State, rounds
from nufed.server_app.tracking import Row
from nufed.server_app.written import checked_rows
from nufed.strategies.roster import Roster
from nufed.tasks.task import build
from tests.helpers import distance
from tests.server_app.unsteady import SMALL, TOGETHER, Unsteady

TIMES = ("train_s", "train_cpu_s")


class Ran(NamedTuple):
    """A run that came to its end."""

    rows: list[Row]
    state: State
    waves: list[list[str]]
    """The types of the messages of each wave."""


def run(overrides: list[str], script: dict[int, set[int]] | None = None) -> Ran:
    """Carry a run out; `server.round_timeout` is how long each round with a mute client takes."""
    config = compose_config([*SMALL, "server.round_timeout=0.3", *overrides])
    grid = Unsteady(config, script)
    task = build(config)
    roster = Roster(config.seed, config.evaluation.new_clients, task.data.partition)
    strategy = make_strategy(config, roster)
    roster.wait(grid, 0)
    start = State(-1, task.initial_params(), {})
    rows, states = zip(*rounds(grid, strategy, config, start), strict=True)
    return Ran(list(rows), states[-1], grid.kinds)


def test_a_round_goes_on_with_what_came_in_time() -> None:
    """And says who did not; the next one asks them again."""
    rows = run([], {2: {1, 4}}).rows
    assert [row.get("clients") for row in rows] == [None, 6, 4, 6, 6]
    assert rows[2]["failures"] == [
        {"client": 1, "reason": "no reply in time"},
        {"client": 4, "reason": "no reply in time"},
    ]
    assert [row.get("attempts") for row in rows] == [None, 1, 1, 1, 1]


def test_a_round_with_too_few_is_repeated_and_then_as_if_nothing_had_been() -> None:
    disturbed, state, _ = run(["server.min_replies=5"], {2: {1, 4}, 3: {0, 1, 2, 3, 4, 5}})
    assert [row.get("attempts") for row in disturbed] == [None, 1, 3, 1, 1]
    assert len(disturbed[2]["failures"]) == 8
    assert disturbed[2]["clients"] == 6
    assert distance(state.params, run([]).state.params) == 0.0


def test_a_round_that_stays_short_of_replies_stops_with_the_reason() -> None:
    mute = {wave: {1, 4} for wave in (2, 3)}
    with pytest.raises(TooFewReplies) as stopped:
        run(["server.min_replies=5", "server.attempts=2"], mute)
    assert str(stopped.value) == (
        "round 2: 4 of 6 clients gave a usable update, server.min_replies=5 are needed "
        "(client 1: no reply in time)"
    )


def test_divergence_is_not_repeated() -> None:
    """It would come out the same."""
    with pytest.raises(RunStopped, match="became NaN or infinite") as stopped:
        run(["algorithm.beta=1e30", "algorithm.tau=20"])
    assert not isinstance(stopped.value, TooFewReplies)


@pytest.mark.parametrize("more", [[], [TOGETHER]], ids=["apart", "together"])
def test_a_round_in_which_nobody_is_available_is_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, more: list[str]
) -> None:
    """Once, whatever server.attempts is; the rest is as if it were no round, and is evaluated."""
    for name, there in (("some", (1, 3, 4)), ("all", (1, 2, 3, 4))):
        lines = [f"{k},{client}" for k in there for client in range(6)]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines))
    words = ["sampler=trace", "evaluation.every=1", *more]
    whole = run([*words, f"sampler.path={tmp_path / 'all.csv'}"])
    assert caplog.messages == []
    skipping = run([*words, f"sampler.path={tmp_path / 'some.csv'}"])
    assert caplog.messages == [
        "round 2: none of 6 participating clients is available; skipped, the model stays as it is"
    ]
    assert [row.get("clients") for row in skipping.rows] == [None, 6, 0, 6, 6]
    row = skipping.rows[2]
    assert (row["attempts"], row["failures"], "train_loss" in row) == (1, [], False)
    assert row["participating"] == skipping.rows[1]["participating"]
    checked_rows(skipping.rows)
    # Full batches: what a round does follows from the model alone.
    for mine, theirs in zip(skipping.rows[3:], whole.rows[2:], strict=False):
        assert mine["participating"] == theirs["participating"]


def without_times(rows: list[Row]) -> list[Row]:
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


def test_evaluation_that_travels_with_training_changes_no_figure() -> None:
    """Seven waves of messages for ten, and the same rows and model."""
    apart = run(["rounds=6"])
    together = run(["rounds=6", TOGETHER])
    assert without_times(together.rows) == without_times(apart.rows)
    assert distance(together.state.params, apart.state.params) == 0.0
    train, evaluate = [MessageType.TRAIN] * 6, [MessageType.EVALUATE] * 6
    assert together.waves == [*[train] * 6, evaluate]
    assert apart.waves == [evaluate, *[train, train, evaluate] * 3]


def test_nodes_where_nobody_trains_measure_in_the_same_wave() -> None:
    """Two clients train a round; the new client and the others only measure."""
    few = ["clients_per_round=2", "evaluation.new_clients=[3]"]
    apart, together = run(few), run([*few, TOGETHER])
    waves = together.waves
    assert waves[0] == [MessageType.EVALUATE] * 4 + [MessageType.TRAIN] * 2
    assert waves[1] == [MessageType.TRAIN] * 2
    for mine, theirs in zip(together.rows, apart.rows, strict=True):
        for kind in ("participating", "new"):
            assert mine.get(kind) == theirs.get(kind)
        assert mine.get("update_norm") == theirs.get("update_norm")


def test_a_client_lost_with_both_its_answers_is_named_for_both() -> None:
    rows = run([TOGETHER], {1: {2}}).rows
    assert rows[0]["evaluation_failures"] == [{"client": 2, "reason": "no reply in time"}]
    assert rows[1]["failures"] == rows[0]["evaluation_failures"]
    assert rows[0]["participating"]["clients"] == 5
