"""Server optimizers against the paper's update, step by step; and what outlives a checkpoint."""

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord

from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from nufed.conf.making import prepared
from nufed.server_app.checkpoint import Checkpoint, _pack, read, write
from nufed.server_app.tracking import State
from nufed.strategies.adaptive import FedAdagrad, FedAdam, FedYogi
from nufed.strategies.server_optimizer import ServerOptimizer
from tests.strategies.helpers import Federation

ETA, B1, B2, TAU = 0.5, 0.9, 0.75, 0.25
DELTAS = (2.0, -0.125)
"""Δ₁² = 4 is above v = τ² = 1/16, and Δ₂² = 1/64 below v₁ in all three."""


def by_hand(name: str) -> list[float]:
    """Two steps from w = 1, each number as algorithm 2 has it."""
    m1 = 0.1 * 2.0  # 0.9 · 0 + 0.1 Δ₁
    m2 = 0.9 * 0.2 + 0.1 * -0.125
    v1, v2 = {
        "FedAdagrad": (1 / 16 + 4, 1 / 16 + 4 + 1 / 64),
        "FedYogi": (1 / 16 + 0.25 * 4, 1 / 16 + 0.25 * 4 - 0.25 / 64),
        "FedAdam": (0.75 / 16 + 0.25 * 4, 0.75 * (0.75 / 16 + 0.25 * 4) + 0.25 / 64),
    }[name]
    w1 = 1 - 0.5 * m1 / (math.sqrt(v1) + 0.25)
    return [w1, w1 - 0.5 * m2 / (math.sqrt(v2) + 0.25)]


KINDS: dict[str, Any] = {
    "FedAdagrad": partial(FedAdagrad, lr=ETA, beta1=B1, tau=TAU),
    "FedYogi": partial(FedYogi, lr=ETA, beta1=B1, beta2=B2, tau=TAU),
    "FedAdam": partial(FedAdam, lr=ETA, beta1=B1, beta2=B2, tau=TAU),
}


@pytest.mark.parametrize("name", KINDS)
def test_two_steps_are_those_of_the_paper(name: str) -> None:
    server = ServerOptimizer(KINDS[name])
    server.load(ArrayRecord({"w": torch.ones(3, dtype=torch.float64)}))
    for delta, wanted in zip(DELTAS, by_hand(name), strict=True):
        arrays = server.step({"w": torch.full((3,), delta, dtype=torch.float64)})
        assert arrays["w"].numpy() == pytest.approx(np.full(3, wanted), rel=1e-14)


def test_momentum_is_that_of_averaging_with_momentum() -> None:
    """w₂ = w₁ − (0.9 Δ₁ + Δ₂)."""
    server = ServerOptimizer(option("fedavgm"))
    server.load(ArrayRecord({"w": torch.ones(1, dtype=torch.float64)}))
    moved = [server.step({"w": torch.tensor([d]).double()})["w"].numpy()[0] for d in DELTAS]
    assert moved == pytest.approx([1 - 2, 1 - 2 - (0.9 * 2 - 0.125)], rel=1e-14)


def option(name: str) -> Any:
    """What an option of the group `optimizer` makes, before it has its parameters."""
    optimizer = compose_config([f"optimizer={name}"]).strategy["optimizer"]
    return None if optimizer is None else prepared(optimizer)


def test_options_are_of_the_paper_and_none_leaves_the_key_as_it_was_given() -> None:
    keys = {"lr": 0.01, "beta1": 0.9, "beta2": 0.99, "tau": 1e-3}
    for name, kind in (("fedadam", FedAdam), ("fedyogi", FedYogi)):
        made = option(name)([torch.nn.Parameter(torch.zeros(1))])
        assert type(made) is kind
        assert {key: made.defaults[key] for key in keys} == keys
    assert option("fedadagrad").keywords == {"lr": 0.01, "beta1": 0.0, "tau": 1e-3}
    assert option("none") is None
    own = {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 0.01}
    typed = "strategy.optimizer={_target_: torch.optim.Adam, _partial_: true, lr: 0.01}"
    assert compose_config([typed]).strategy["optimizer"] == own
    assert compose_config(["experiment=own_labels"]).strategy["optimizer"] is not None
    assert (
        compose_config(["optimizer=fedadam", "strategy.optimizer.lr=1"]).strategy["optimizer"]["lr"]
        == 1
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lr": 0}, "strategy.optimizer: lr=0: must be above 0"),
        ({"lr": 0.1, "tau": -1}, "strategy.optimizer: tau=-1: must be above 0"),
        ({"lr": 0.1, "beta1": 1}, "strategy.optimizer: beta1=1: must be 0 or more, and below 1"),
        ({"lr": "fast"}, "strategy.optimizer: "),
    ],
)
def test_keys_that_cannot_be_are_named_in_one_line(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        ServerOptimizer(partial(FedAdam, **options))
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["fedavgm", "fedadam", "fedyogi", "fedadagrad"])
def test_what_is_kept_survives_a_checkpoint_bit_by_bit(name: str, tmp_path: Any) -> None:
    """Two rounds, the file of a checkpoint between them, and another strategy after it."""
    whole, before, after = (Federation(optimizer=option(name)) for _ in range(3))
    for federation in (whole, before):
        federation.arrays, _ = federation.round()
    params = {n: torch.from_numpy(a.numpy().copy()) for n, a in before.arrays.items()}
    row = {"round": 1}
    saved = Checkpoint(
        State(1, params, before.strategy.state_dict()), (row,), {}, 12, [], wall_s=0.0
    )
    write(saved, tmp_path)
    kept = read(tmp_path).state
    assert kept.strategy.keys() == before.strategy.state_dict().keys()
    assert _pack(saved)
    after.strategy.load_state_dict(kept.params, kept.strategy)
    after.arrays = ArrayRecord(kept.params)
    ended = [federation.round(k=2)[0] for federation in (whole, after)]
    for key in ended[0]:
        assert (ended[0][key].numpy() == ended[1][key].numpy()).all()


def test_what_one_keeps_is_not_taken_for_what_another_does() -> None:
    adam, momentum = (
        Federation(optimizer=option("fedadam")),
        Federation(optimizer=option("fedavgm")),
    )
    adam.round()
    params = {n: torch.from_numpy(a.numpy().copy()) for n, a in adam.arrays.items()}
    with pytest.raises(InputError, match=r"is not what this one keeps \(m, v; momentum_buffer\)"):
        momentum.strategy.load_state_dict(params, adam.strategy.state_dict())
