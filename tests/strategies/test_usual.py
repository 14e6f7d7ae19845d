"""Updates far longer than is usual are scaled down; what is usual follows the updates."""

import json
import math
from typing import Any

import numpy as np
import pytest
from flwr.app import Message

from nufed.client_app.messages import TrainInstruction
from nufed.client_app.wire import decode
from nufed.conf.errors import InputError
from nufed.conf.schema import USUAL, PrivacyConfig
from nufed.strategies.usual import Usual
from tests.strategies.helpers import Federation, assert_arrays
from tests.strategies.test_robust import scaled


def test_the_bound_is_four_times_the_median_of_the_last_five_medians() -> None:
    usual = Usual()
    assert usual.bound > 1e37, "nothing is known yet"
    usual.add([1.0, 2.0, 300.0])
    assert usual.bound == 8.0
    for length in (4.0, 5.0, 6.0, 7.0):
        usual.add([length])
    assert usual.bound == 20.0
    usual.add([8.0])
    assert usual.bound == 24.0, "the first is forgotten"
    usual.add([])
    assert usual.bound == 24.0, "of a round of nobody nothing is learnt"


def test_where_nothing_moves_nothing_is_clipped() -> None:
    usual = Usual()
    usual.add([0.0, 0.0, 1.0])
    assert usual.bound > 1e37


def test_it_goes_on_from_where_it_was() -> None:
    usual, after = Usual(), Usual()
    for length in range(9):
        usual.add([float(length)])
    after.restore(json.loads(json.dumps(usual.state())))
    assert after.bound == usual.bound == 24.0


@pytest.mark.parametrize("medians", [["a"], [-1.0], [math.inf], 3.0, [[1.0]]])
def test_a_checkpoint_that_is_none_is_named(medians: Any) -> None:
    with pytest.raises(InputError, match=r"^resume: the checkpoint's usual: "):
        Usual().restore({"medians": medians})


def norms(federation: Federation) -> dict[int, float]:
    return {
        i: math.sqrt(sum(float((p**2).sum()) for p in update.values()))
        for i, update in federation.updates().items()
    }


def test_an_update_a_hundred_times_as_long_counts_four_times_at_most() -> None:
    """After a round that shows what is usual; the second has other clients and batches."""
    federation = Federation(clip_norm=USUAL)
    federation.arrays, metrics = federation.round()
    assert metrics["clipped"] == 0
    bound = 4 * float(np.median(list(norms(federation).values())))
    assert federation.strategy.clip_norm == pytest.approx(bound, rel=1e-6)
    liars = set[int]()

    def lie(i: int, reply: Message) -> Message:
        if i == 2:
            liars.add(reply.metadata.src_node_id)
            return scaled(reply, 100.0)
        return reply

    arrays, _ = federation.round(lie, k=2)
    updates, lengths = federation.updates(), norms(federation)
    (liar,) = (
        decode(TrainInstruction, message).clients[0]
        for message in federation.sent
        if message.metadata.dst_node_id in liars
    )
    factor = {i: min(1.0, bound / lengths[i]) for i in updates}
    factor[liar] = min(100.0, bound / lengths[liar])
    assert 1 < factor[liar] < 100
    wanted = {
        name: array.numpy() - sum(factor[i] * u[name].numpy() for i, u in updates.items()) / 6
        for name, array in federation.arrays.items()
    }
    assert_arrays(arrays, wanted)


def test_a_strategy_goes_on_with_what_was_usual() -> None:
    before = Federation(clip_norm=USUAL)
    before.round()
    state = json.loads(json.dumps(before.strategy.state_dict()))
    after = Federation(clip_norm=USUAL)
    after.strategy.load_state_dict(before.task.initial_params(), state, 1)
    assert after.strategy.clip_norm == before.strategy.clip_norm < 1e37
    assert Federation(clip_norm=None).strategy.state_dict().keys() == {"cost"}


def test_privacy_has_a_bound_of_its_own() -> None:
    privacy = PrivacyConfig(name="central_dp", clipping_norm=0.1, noise_multiplier=1.0, delta=1e-5)
    with pytest.raises(InputError, match=r"strategy.clip_norm=usual: privacy.clipping_norm=0.1"):
        Federation(clip_norm=USUAL, privacy=privacy)
