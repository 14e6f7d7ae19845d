"""What a SuperNode says of itself: taken as it is, or refused by key, value and remedy."""

from typing import Any

import numpy as np
import pytest

from nufed.client_app.node import hosted, own_data, place
from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from nufed.tasks.private import Local
from nufed.tasks.task import build


@pytest.mark.parametrize(
    ("node_config", "words"),
    [
        ({"num-partitions": 4}, ["partition-id: ", "--node-config"]),
        ({"partition-id": 0}, ["num-partitions: ", "--node-config"]),
        ({"partition-id": "0", "num-partitions": 4}, ["partition-id='0'", "whole number"]),
        ({"partition-id": 4, "num-partitions": 4}, ["partition-id=4", "0 to 3"]),
        ({"partition-id": -1, "num-partitions": 4}, ["partition-id=-1", "0 to 3"]),
        ({"partition-id": 0, "num-partitions": 0}, ["num-partitions=0", "at least 1"]),
    ],
)
def test_a_place_that_is_none_is_refused(node_config: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        place(node_config)
    assert [word for word in words if word not in str(caught.value)] == []


def test_data_of_a_supernodes_own_are_for_runs_that_want_them() -> None:
    """And the path is the node's: no configuration of the server's names it."""
    node = {"partition-id": 1, "num-partitions": 4, "data-path": "/data/mine.npz"}
    assert own_data(node, "private") == Local("/data/mine.npz", 1, 4)
    assert own_data({"partition-id": 1, "num-partitions": 4}, "digits") is None
    with pytest.raises(InputError, match=r"^data-path=/data/mine.npz: .*dataset=npz.*=private"):
        own_data(node, "npz")
    with pytest.raises(InputError, match=r"^data-path: not in .*--node-config"):
        own_data({"partition-id": 1, "num-partitions": 4}, "private")
    with pytest.raises(InputError, match=r"^data-path=7: must be a path"):
        own_data(node | {"data-path": 7}, "private")


def test_a_shared_data_set_is_hosted_by_stride() -> None:
    task = build(compose_config(["dataset=quadratics", "dataset.num_clients=10"]))
    of = [hosted({"partition-id": i, "num-partitions": 4}, task) for i in range(4)]
    assert [list(clients) for clients in of] == [[0, 4, 8], [1, 5, 9], [2, 6], [3, 7]]


def test_private_clients_are_hosted_as_far_as_there_are_rows(tmp_path: Any) -> None:
    np.savez(
        tmp_path / "own.npz",
        x=np.zeros((8, 2)),
        y=np.arange(8) % 2,
        client=np.repeat([0, 1], 4),
    )
    chosen = ["dataset.input_shape=[2]", "dataset.num_outputs=2", "dataset.num_clients=20"]
    node = {"partition-id": 1, "num-partitions": 4, "data-path": str(tmp_path / "own.npz")}
    task = build(compose_config(["dataset=private", *chosen]), own_data(node, "private"))
    assert list(hosted(node, task)) == [1, 5]
