"""Schedules: their values, in closed form; and what the algorithm does with them."""

import functools
from dataclasses import replace
from typing import Any

import pytest

from nufed.client_app.algorithm import Algorithm
from nufed.client_app.messages import Numbers, TrainInstruction
from nufed.client_app.wire import decode
from nufed.conf.compose import compose_config
from nufed.conf.convert import read_config, to_json, to_yaml
from nufed.conf.errors import InputError, RunStopped
from nufed.server_app.parts import parts
from nufed.strategies.schedules import Cosine, Decay, Schedule, Step, WarmUp
from tests.strategies.helpers import Federation

VALUES: dict[str, tuple[Schedule, dict[int, float]]] = {
    "decay": (Decay(0.5), {1: 1, 2: 0.5, 5: 1 / 16}),
    "cosine": (
        Cosine(4, 0.2),
        {1: 1, 2: 0.2 + 0.8 * (2 + 2**0.5) / 4, 3: 0.6, 5: 0.2, 6: 0.2, 99: 0.2},
    ),
    "step": (Step(3, 0.5), {1: 1, 3: 1, 4: 0.5, 6: 0.5, 7: 0.25}),
    "warm-up": (WarmUp(4), {1: 0.25, 3: 0.75, 4: 1, 5: 1, 99: 1}),
}


@pytest.mark.parametrize("name", VALUES)
def test_factors_round_by_round(name: str) -> None:
    schedule, wanted = VALUES[name]
    assert {round: schedule(round) for round in wanted} == pytest.approx(wanted, rel=1e-12)


OPTIONS = {
    "none": {1: 1.0, 50: 1.0},
    "decay": {1: 1.0, 50: 0.99**49},
    "cosine": {1: 1.0, 26: 0.505, 51: 0.01},
    "step": {20: 1.0, 21: 0.5},
    "warmup": {1: 0.1, 10: 1.0},
}


@pytest.mark.parametrize("option", OPTIONS)
def test_options_set_beta_alike_in_config_yaml_and_in_a_resumed_run(option: str) -> None:
    """What a run writes says all: ``${rounds}`` is a number there, whatever rounds is."""
    config = compose_config([f"schedule={option}"])
    for each in (config, read_config(to_json(config)), read_config(to_yaml(config))):
        each.rounds = 200
        schedule = parts(each)["schedule"].get("beta", lambda round: 1.0)
        assert {k: schedule(k) for k in OPTIONS[option]} == pytest.approx(OPTIONS[option])


def asked(schedule: dict[str, Schedule], k: int) -> tuple[TrainInstruction, Algorithm]:
    """What clients are asked to do in round k, and by which algorithm."""
    federation = Federation(schedule=schedule)
    federation.round(k=k)
    message = federation.sent[0]
    numbers = decode(Numbers, message).into(federation.algorithm)
    return decode(TrainInstruction, message), numbers


def test_clients_are_asked_for_the_scheduled_values_and_nothing_else_changes() -> None:
    plain, by = asked({}, 3)
    got, scheduled = asked({"beta": Decay(0.5), "alpha": WarmUp(6)}, 3)
    assert scheduled == replace(by, beta=0.1 * 0.25, alpha=0.03 * 0.5)
    assert (by.beta, by.alpha) == (0.1, 0.03)
    assert got == plain


def test_a_step_size_that_is_yet_to_be_chosen_may_be_scheduled() -> None:
    federation = Federation(overrides=("algorithm.beta=auto",), schedule={"beta": Decay(0.5)})
    chosen = federation.algorithm.with_numbers({"beta": 0.4})
    federation.strategy.algorithm = chosen
    assert federation.strategy._scheduled(2) == {"beta": 0.2}


def fails(round: int) -> float:
    raise ZeroDivisionError("no such\nround")


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ({"gamma": WarmUp(2)}, "schedule.gamma: no algorithm.gamma; choose among alpha, beta"),
        ({"nu": WarmUp(2)}, "schedule.nu: algorithm.nu is no float; choose among alpha, beta"),
        (
            {"delta": WarmUp(2)},
            "schedule.delta: algorithm.delta is not read in training; choose am",
        ),
        ({"batch": WarmUp(2)}, "schedule.batch: algorithm.batch is no float; choose among"),
        ({"beta": lambda round: "x"}, "schedule.beta(1)=x: must be a function of the round whose"),
        ({"beta": lambda round: 0.0}, "schedule.beta(1)=0.0: must be a function of the round"),
        ({"beta": fails}, "schedule.beta: no such round"),
    ],
)
def test_what_cannot_be_scheduled_is_named_in_one_line(schedule: Any, words: str) -> None:
    with pytest.raises(InputError) as caught:
        Federation(schedule=schedule)
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)


def test_a_value_that_no_round_can_have_stops_the_run() -> None:
    """Not before: a schedule is asked for the rounds that come."""
    federation = Federation(schedule={"beta": lambda round: 2.0 - round})
    with pytest.raises(
        RunStopped, match=r"^round 2: schedule.beta: its factor is 0.0; algorithm.b"
    ):
        federation.round(k=2)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("schedule.beta.rate=1", "schedule.beta.rate=1: must be above 0 and below 1, such as"),
        ("+schedule.beta.foo=1", "schedule.beta=nufed.strategies.schedules.Decay: "),
        ("schedule.beta=1", "schedule.beta=1: must name a schedule, as {_target_: …}"),
        ("schedule.beta._target_=builtins.dict", "schedule.beta=builtins.dict: makes no function"),
        ("rule._target_=builtins.dict", "rule=builtins.dict: makes a dict, which is no subclass"),
        ("sampler._target_=nothing.Here", "sampler=nothing.Here: "),
        ("rule=krum rule.num_malicious=-1", "rule.num_malicious=-1: must be 0 or more"),
    ],
)
def test_parts_that_cannot_be_made_are_named_in_one_line(override: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        parts(compose_config(["schedule=decay", *override.split()]))
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)


def test_a_function_of_ones_own_is_a_schedule_too() -> None:
    target = f"{__name__}.root"
    config = compose_config([f"+schedule.alpha={{_target_: {target}, _partial_: true, by: 2}}"])
    assert parts(config)["schedule"]["alpha"](4) == functools.partial(root, by=2)(4) == 0.25


def root(round: int, by: int) -> float:
    """round^(−1/2) and the like."""
    return float(round ** (-1 / by)) / by
