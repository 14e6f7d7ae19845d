"""Private data: a SuperNode's own file, at its place in a federation that nobody sees whole."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from nufed.conf.schema import Config
from nufed.tasks.private import Local
from nufed.tasks.task import Task, build
from nufed.tasks.trained import Sizes

SHAPE = ["dataset.input_shape=[4]", "dataset.num_outputs=3", "dataset.num_clients=8"]


def config(*overrides: str) -> Config:
    return compose_config(["dataset=private", *SHAPE, *overrides])


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., str]:
    """Return a function that saves 12 rows of three classes, and whatever else is given."""

    def save(**arrays: Any) -> str:
        x = np.arange(48, dtype=np.float32).reshape(12, 4)
        np.savez(tmp_path / "own.npz", **{"x": x, "y": np.arange(12) % 3, **arrays})
        return str(tmp_path / "own.npz")

    return save


def rows_of(task: Task, client: int) -> set[int]:
    """Return the numbers of a client's rows, as the file has them."""
    part = task.data.partition
    numbers = np.concatenate([part.train_rows(client), part.test_rows(client)])
    return {int(x[0]) // 4 for x in task.data.x[numbers]}


def test_the_server_builds_the_model_without_a_row() -> None:
    """The very parameters that a SuperNode has, which is given rows."""
    task = build(config("model=logistic"))
    assert task.data.num_clients == 8
    assert task.data.partition.train.tolist() == [0] * 8
    assert {n: tuple(p.shape) for n, p in task.module.named_parameters()} == {
        "1.weight": (3, 4),
        "1.bias": (3,),
    }


TEXT = (
    "model=transformer",
    "dataset.input_shape=[4]",
    "dataset.places=[4]",
    "dataset.num_tokens=9",
)


def test_a_sequence_model_is_the_same_too(save: Callable[..., str]) -> None:
    """Also where this SuperNode happens to lack the last tokens and classes."""
    server = build(config(*TEXT))
    path = save(x=np.arange(48).reshape(12, 4) % 7, y=np.arange(48).reshape(12, 4) % 2)
    node = build(config(*TEXT), Local(path, 0, 1))
    mine, theirs = server.initial_params(), node.initial_params()
    assert mine.keys() == theirs.keys()
    assert all(bool((mine[name] == theirs[name]).all()) for name in mine)
    assert node.predict(theirs, node.batch(np.arange(3))[0]).shape == (3, 4, 3)


@pytest.mark.parametrize(
    ("arrays", "line"),
    [
        ({"x": np.full((12, 4), 9)}, "x goes from 9 to 9, but the run says dataset.num_tokens=9"),
        ({"x": np.ones((12, 4))}, "x is float64, but the run says dataset.num_tokens=9"),
        (
            {"y": np.arange(12) % 3},
            r"a row y has shape \[\], but the run says dataset.places=\[4\]",
        ),
    ],
)
def test_other_sequences_than_the_run_says_are_refused(
    save: Callable[..., str], arrays: dict[str, Any], line: str
) -> None:
    usable = {"x": np.ones((12, 4), int), "y": np.arange(48).reshape(12, 4) % 3}
    with pytest.raises(InputError, match=line):
        build(config(*TEXT), Local(save(**(usable | arrays)), 0, 1))


def test_pixels_are_pixels_at_every_supernode(save: Callable[..., str]) -> None:
    pixels = np.full((12, 4), 255, np.uint8)
    task = build(config("dataset.pixels=true"), Local(save(x=pixels), 0, 1))
    assert task.batch(np.arange(2))[0].tolist() == [[1.0] * 4] * 2
    assert Sizes.of(build(config("dataset.pixels=true")).data).pixels
    for said, x in (("true", pixels.astype(np.float32)), ("false", pixels)):
        with pytest.raises(InputError, match=f"the run says dataset.pixels={said}"):
            build(config(f"dataset.pixels={said}"), Local(save(x=x), 0, 1))


def test_server_and_supernode_start_from_the_same_model(save: Callable[..., str]) -> None:
    """Also where this SuperNode happens to have no row of the last class."""
    server = build(config("model=mlp")).initial_params()
    path = save(y=np.arange(12) % 2)
    node = build(config("model=mlp"), Local(path, 0, 1)).initial_params()
    assert all(bool((server[name] == node[name]).all()) for name in server)


def test_a_file_without_client_is_one_client(save: Callable[..., str]) -> None:
    task = build(config(), Local(save(), 2, 3))
    assert task.data.partition.train.tolist() == [0, 0, 9, 0, 0, 0, 0, 0]
    assert rows_of(task, 2) == set(range(12))


def test_clients_of_a_file_take_every_stride_th_place(save: Callable[..., str]) -> None:
    """In the order of their ids, each with its own rows; its own split is kept."""
    test = np.arange(12) % 4 == 3
    task = build(config(), Local(save(client=np.repeat([30, 10, 20], 4), test=test), 1, 3))
    assert task.data.partition.train.tolist() == [0, 3, 0, 0, 3, 0, 0, 3]
    assert [rows_of(task, client) for client in (1, 4, 7)] == [
        {4, 5, 6, 7},
        {8, 9, 10, 11},
        {0, 1, 2, 3},
    ]
    assert {int(task.data.x[i][0]) // 4 for i in task.data.partition.test_rows(4)} == {11}


MISFITS: list[tuple[dict[str, Any], list[str], list[str]]] = [
    ({"x": np.zeros((12, 5))}, [], ["has shape [5]", "dataset.input_shape=[4]"]),
    ({"y": np.arange(12) % 4}, [], ["class 3", "dataset.num_outputs=3"]),
    ({"y": np.zeros(12)}, [], ["targets of a regression", "dataset.regression=false"]),
    ({}, ["dataset.regression=true"], ["classes", "dataset.regression=true"]),
    (
        {"y": np.zeros((12, 2))},
        ["dataset.regression=true"],
        ["2 targets a row", "dataset.num_outputs=3"],
    ),
    ({"client": np.arange(12) // 3}, [], ["client 10", "dataset.num_clients=11"]),
    ({"client": np.arange(12) // 3 * 0.5}, [], ["client is float64", "integers"]),
    ({"y": np.zeros(12, int)}, [], ["one class only", "dataset.one_class=keep"]),
    ({}, ["partition=iid"], ["partition=iid", "partition=natural"]),
]


@pytest.mark.parametrize(("arrays", "overrides", "words"), MISFITS)
def test_rows_that_are_not_what_the_run_says_are_named(
    save: Callable[..., str], arrays: dict[str, Any], overrides: list[str], words: list[str]
) -> None:
    path = save(**arrays)
    with pytest.raises(InputError) as caught:
        build(config(*overrides), Local(path, 1, 3))
    assert [word for word in (*words, "=") if word not in str(caught.value)] == []
    if "partition=iid" not in overrides:
        assert str(caught.value).startswith(f"data-path={path}: ")


def test_a_file_that_is_not_there_is_named_as_the_node_config_has_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^data-path=.*none.npz: no such file"):
        build(config(), Local(str(tmp_path / "none.npz"), 0, 1))


@pytest.mark.parametrize(
    "bad",
    [
        *("dataset.input_shape=4", "dataset.num_outputs=0", "dataset.num_clients=few"),
        *("dataset.max_rows=0", "dataset.max_rows=1.5"),
    ],
)
def test_an_impossible_outline_is_refused(bad: str) -> None:
    key, _, value = bad.partition("=")
    with pytest.raises(InputError, match=f"^{key}={value}: must be "):
        build(config(bad))
